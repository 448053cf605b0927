"""transformers' common tests of PyTorch models, with the models of `vit_torch`."""

from typing import Any

import sdist
import torch

import vit_torch
from vit_core.outputs import ModelOutput

common = sdist.load(
    "test_modeling_common",
    vit_torch,
    ModelOutput=ModelOutput,
    PreTrainedModel=vit_torch.ViTPreTrainedModel,
    PretrainedConfig=vit_torch.ViTConfig,
)
if sdist.OWN:
    from transformers import ViTConfig, ViTForImageClassification, ViTForMaskedImageModeling, ViTModel
else:
    from vit_torch import ViTConfig, ViTForImageClassification, ViTForMaskedImageModeling, ViTModel

    sdist.register(common.MODEL_MAPPING, ViTConfig, ViTModel)


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
    num_masks = 8
    mask_length = 16
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
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch_size, self.num_channels, self.image_size, self.image_size)
        return config, {"pixel_values": torch.rand(shape, generator=generator)}


class TestTorch(common.ModelTesterMixin, sdist.TestCase):
    all_model_classes = (ViTModel, ViTForImageClassification, ViTForMaskedImageModeling)
    fx_compatible = True
    test_resize_embeddings = False  # there are no words

    def setUp(self) -> None:
        self.model_tester = Tester()
