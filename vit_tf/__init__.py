"""Vision Transformers in Keras: the models, and the config and preprocessing that every framework shares."""

try:
    import jaxtyping  # noqa: F401
    import keras
    import tensorflow  # noqa: F401
except ImportError as error:
    raise ImportError(f'vit_tf needs {error.name}, which is not installed: pip install "trivit[tf]"') from error

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"vit_tf runs on Keras with TensorFlow, but Keras is set to {keras.backend.backend()!r}; set KERAS_BACKEND="
        f"tensorflow before anything imports keras, or use vit_torch or vit_flax."
    )

from vit_core import (
    AutoImageProcessor,
    BatchFeature,
    DeiTImageProcessor,
    ViTConfig,
    ViTFeatureExtractor,
    ViTImageProcessor,
)
from vit_tf.modeling import (
    TFViTForImageClassification,
    TFViTForMaskedImageModeling,
    TFViTModel,
    ViTForImageClassification,
    ViTForMaskedImageModeling,
    ViTModel,
)
from vit_tf.outputs import TFBaseModelOutputWithPooling, TFMaskedImageModelingOutput, TFSequenceClassifierOutput
from vit_tf.pretrained import ViTPreTrainedModel

__all__ = [
    "AutoImageProcessor",
    "BatchFeature",
    "DeiTImageProcessor",
    "TFBaseModelOutputWithPooling",
    "TFMaskedImageModelingOutput",
    "TFSequenceClassifierOutput",
    "TFViTForImageClassification",
    "TFViTForMaskedImageModeling",
    "TFViTModel",
    "ViTConfig",
    "ViTFeatureExtractor",
    "ViTForImageClassification",
    "ViTForMaskedImageModeling",
    "ViTImageProcessor",
    "ViTModel",
    "ViTPreTrainedModel",
]
