"""transformers' common tests of TensorFlow models, with the models of `vit_tf`."""

from typing import Any

import numpy as np
import sdist
import tensorflow as tf

import vit_tf
import vit_torch
from vit_core.outputs import ModelOutput

common = sdist.load("test_modeling_tf_common", vit_tf, ModelOutput=ModelOutput, transformers=sdist.WithOurs(vit_torch))
if sdist.OWN:
    from transformers import TFViTForImageClassification, TFViTModel, ViTConfig
else:
    import keras

    from vit_tf import TFViTForImageClassification, TFViTModel, ViTConfig

    common.keras = keras  # transformers' models are made of tf-keras, ours of Keras 3
    sdist.register(common.TF_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, ViTConfig, TFViTForImageClassification)


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
        return config, {"pixel_values": tf.constant(np.random.default_rng(0).random(shape, np.float32))}


class TestTf(common.TFModelTesterMixin, sdist.TestCase):
    all_model_classes = (TFViTModel, TFViTForImageClassification)
    test_resize_embeddings = False  # there are no words
    test_onnx = False  # it reads a file that the distribution leaves out

    def setUp(self) -> None:
        self.model_tester = Tester()
