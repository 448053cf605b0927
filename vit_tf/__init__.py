"""Vision Transformers in Keras: the models, and the config and preprocessing that every framework shares."""

try:
    import jaxtyping  # noqa: F401, I001
    import optree  # noqa: F401
    import tensorflow  # noqa: F401
    import keras  # last: for want of the others it would say less

    _backend = keras.backend.backend()
except ImportError as error:
    if error.name not in ("jax", "torch"):
        raise ImportError(f'vit_tf needs {error.name}, which is not installed: pip install "trivit[tf]"') from error
    _backend = error.name  # Keras is set to it, and did not find it

if _backend != "tensorflow":
    raise ImportError(
        f"vit_tf runs on Keras with TensorFlow, but Keras is set to {_backend!r}; set KERAS_BACKEND=tensorflow before "
        f"anything imports keras, or use vit_torch or vit_flax."
    )

from conversion import AutoImageProcessor
from vit_core import (
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
from vit_tf.optimization import AdamWeightDecay, GradientAccumulator, WarmUp, create_optimizer
from vit_tf.outputs import TFBaseModelOutputWithPooling, TFMaskedImageModelingOutput, TFSequenceClassifierOutput
from vit_tf.pretrained import ViTPreTrainedModel

TFViTPreTrainedModel = ViTPreTrainedModel

__all__ = [
    "AdamWeightDecay",
    "AutoImageProcessor",
    "BatchFeature",
    "DeiTImageProcessor",
    "GradientAccumulator",
    "TFBaseModelOutputWithPooling",
    "TFMaskedImageModelingOutput",
    "TFSequenceClassifierOutput",
    "TFViTForImageClassification",
    "TFViTForMaskedImageModeling",
    "TFViTModel",
    "TFViTPreTrainedModel",
    "ViTConfig",
    "ViTFeatureExtractor",
    "ViTForImageClassification",
    "ViTForMaskedImageModeling",
    "ViTImageProcessor",
    "ViTModel",
    "ViTPreTrainedModel",
    "WarmUp",
    "create_optimizer",
]
