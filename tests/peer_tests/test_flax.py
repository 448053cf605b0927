"""transformers' common tests of Flax models, with the models of `vit_flax`."""

import inspect
from typing import Any

import jax
import numpy as np
import sdist

import vit_flax
import vit_torch
from vit_core.outputs import ModelOutput

common = sdist.load(
    "test_modeling_flax_common", vit_flax, ModelOutput=ModelOutput, transformers=sdist.WithOurs(vit_torch)
)
if sdist.OWN:
    from transformers import FlaxViTForImageClassification, FlaxViTModel, ViTConfig
else:
    from vit_flax import FlaxViTForImageClassification, FlaxViTModel, ViTConfig

    sdist.register(common.FLAX_MODEL_MAPPING, ViTConfig, FlaxViTModel)


class Tester:
    """A tiny ViT and images for it, under the names by which the common tests ask for them."""

    batch_size = 3
    num_channels = 3
    image_size = 32
    patch_size = 8
    seq_length = 17  # 4 x 4 patches and the class token
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    is_training = True

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, Any]]:
        config = ViTConfig(
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=48,
            image_size=self.image_size,
            patch_size=self.patch_size,
            num_channels=self.num_channels,
            encoder_stride=self.patch_size,
        )
        shape = (self.batch_size, self.num_channels, self.image_size, self.image_size)
        return config, {"pixel_values": np.random.default_rng(0).random(shape, np.float32)}


class TestFlax(common.FlaxModelTesterMixin, sdist.TestCase):
    all_model_classes = (FlaxViTModel, FlaxViTForImageClassification)

    def setUp(self) -> None:
        self.model_tester = Tester()

    # As in transformers' own file for ViT: what the common ones do with text, with images.

    def test_forward_signature(self) -> None:
        config, _ = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            names = list(inspect.signature(model_class(config).__call__).parameters)
            assert names[:4] == ["pixel_values", "params", "dropout_rng", "train"]

    def test_jit_compilation(self) -> None:
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            model = model_class(config)
            run = jax.jit(lambda pixel_values, model=model, **options: model(pixel_values=pixel_values, **options))
            compiled = run(**inputs).to_tuple()
            with jax.disable_jit():
                outputs = run(**inputs).to_tuple()
            assert [each.shape for each in outputs] == [each.shape for each in compiled]
            for one, other in zip(outputs, compiled, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5)
