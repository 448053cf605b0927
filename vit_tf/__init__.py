"""Vision Transformers in Keras: the models, and the config and preprocessing that every framework shares."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    import tensorflow  # noqa: F401, I001  # first, since it is what is missing where all of them are
    import jaxtyping  # noqa: F401
    import optree  # noqa: F401
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

from conversion import AutoFeatureExtractor, AutoImageProcessor
from vit_core import (
    BeitConfig,
    BeitFeatureExtractor,
    BeitImageProcessor,
    Data2VecVisionConfig,
    DeiTConfig,
    DeiTFeatureExtractor,
    DeiTImageProcessor,
    IJepaConfig,
    VisionTransformerConfig,
    ViTConfig,
    ViTFeatureExtractor,
    ViTImageProcessor,
    ViTMAEConfig,
    ViTMSNConfig,
)
from vit_tf.auto import (
    CONFIG_MAPPING,
    IMAGE_PROCESSOR_MAPPING,
    TF_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    TF_MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING,
    TF_MODEL_FOR_PRETRAINING_MAPPING,
    TF_MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForMaskedImageModeling,
    AutoModelForPreTraining,
    TFAutoModel,
    TFAutoModelForImageClassification,
    TFAutoModelForMaskedImageModeling,
    TFAutoModelForPreTraining,
)
from vit_tf.batch_feature import BatchFeature
from vit_tf.hdf5_models import register
from vit_tf.loss_mixins import TFSequenceClassificationLoss
from vit_tf.masked_image_modeling import (
    TFVisionTransformerForMaskedImageModeling,
    TFVisionTransformerForMaskedTokenModeling,
    VisionTransformerForMaskedImageModeling,
    VisionTransformerForMaskedTokenModeling,
)
from vit_tf.modeling import (
    TFVisionTransformerForImageClassification,
    TFVisionTransformerForImageClassificationWithTeacher,
    TFVisionTransformerModel,
    VisionTransformerForImageClassification,
    VisionTransformerForImageClassificationWithTeacher,
    VisionTransformerModel,
)
from vit_tf.optimization import AdamWeightDecay, GradientAccumulator, WarmUp, create_optimizer
from vit_tf.outputs import (
    TFBaseModelOutput,
    TFBaseModelOutputWithPooling,
    TFDeiTForImageClassificationWithTeacherOutput,
    TFMaskedImageModelingOutput,
    TFMaskedLMOutput,
    TFSequenceClassifierOutput,
    TFViTMAEDecoderOutput,
    TFViTMAEForPreTrainingOutput,
    TFViTMAEModelOutput,
)
from vit_tf.relatives import (
    BeitForImageClassification,
    BeitForMaskedImageModeling,
    BeitModel,
    BeitPreTrainedModel,
    Data2VecVisionForImageClassification,
    Data2VecVisionModel,
    Data2VecVisionPreTrainedModel,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    DeiTForMaskedImageModeling,
    DeiTModel,
    DeiTPreTrainedModel,
    IJepaForImageClassification,
    IJepaModel,
    IJepaPreTrainedModel,
    TFBeitForImageClassification,
    TFBeitForMaskedImageModeling,
    TFBeitModel,
    TFBeitPreTrainedModel,
    TFData2VecVisionForImageClassification,
    TFData2VecVisionMainLayer,
    TFData2VecVisionModel,
    TFData2VecVisionPreTrainedModel,
    TFDeiTForImageClassification,
    TFDeiTForImageClassificationWithTeacher,
    TFDeiTForMaskedImageModeling,
    TFDeiTMainLayer,
    TFDeiTModel,
    TFDeiTPreTrainedModel,
    TFIJepaForImageClassification,
    TFIJepaModel,
    TFIJepaPreTrainedModel,
    TFViTForImageClassification,
    TFViTForMaskedImageModeling,
    TFViTMAEForPreTraining,
    TFViTMAEMainLayer,
    TFViTMAEModel,
    TFViTMAEPreTrainedModel,
    TFViTMainLayer,
    TFViTModel,
    TFViTMSNForImageClassification,
    TFViTMSNModel,
    TFViTMSNPreTrainedModel,
    TFViTPreTrainedModel,
    ViTForImageClassification,
    ViTForMaskedImageModeling,
    ViTMAEForPreTraining,
    ViTMAEModel,
    ViTMAEPreTrainedModel,
    ViTModel,
    ViTMSNForImageClassification,
    ViTMSNModel,
    ViTMSNPreTrainedModel,
    ViTPreTrainedModel,
)

if TYPE_CHECKING:
    from vit_tf.data_collator import DefaultDataCollator, default_data_collator
    from vit_tf.hub_callback import PushToHubCallback
    from vit_tf.metric_callback import KerasMetricCallback
    from vit_tf.seeds import set_seed
    from vit_tf.training_arguments import TFTrainingArguments

register()

#: What else scripts for transformers 4 import, and where it is; imported when it is first asked for. The optimizers are
#: not here: Keras looks for them by name when it loads a model that was compiled with one.
_FOR_SCRIPTS = {
    "DefaultDataCollator": "data_collator",
    "default_data_collator": "data_collator",
    "KerasMetricCallback": "metric_callback",
    "PushToHubCallback": "hub_callback",
    "TFTrainingArguments": "training_arguments",
    "set_seed": "seeds",
}


def __getattr__(name: str) -> Any:
    if name not in _FOR_SCRIPTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FOR_SCRIPTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "CONFIG_MAPPING",
    "IMAGE_PROCESSOR_MAPPING",
    "TF_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "TF_MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING",
    "TF_MODEL_FOR_PRETRAINING_MAPPING",
    "TF_MODEL_MAPPING",
    "AdamWeightDecay",
    "AutoConfig",
    "AutoFeatureExtractor",
    "AutoImageProcessor",
    "AutoModel",
    "AutoModelForImageClassification",
    "AutoModelForMaskedImageModeling",
    "AutoModelForPreTraining",
    "BatchFeature",
    "BeitConfig",
    "BeitFeatureExtractor",
    "BeitForImageClassification",
    "BeitForMaskedImageModeling",
    "BeitImageProcessor",
    "BeitModel",
    "BeitPreTrainedModel",
    "Data2VecVisionConfig",
    "Data2VecVisionForImageClassification",
    "Data2VecVisionModel",
    "Data2VecVisionPreTrainedModel",
    "DefaultDataCollator",
    "DeiTConfig",
    "DeiTFeatureExtractor",
    "DeiTForImageClassification",
    "DeiTForImageClassificationWithTeacher",
    "DeiTForMaskedImageModeling",
    "DeiTImageProcessor",
    "DeiTModel",
    "DeiTPreTrainedModel",
    "GradientAccumulator",
    "IJepaConfig",
    "IJepaForImageClassification",
    "IJepaModel",
    "IJepaPreTrainedModel",
    "KerasMetricCallback",
    "PushToHubCallback",
    "TFAutoModel",
    "TFAutoModelForImageClassification",
    "TFAutoModelForMaskedImageModeling",
    "TFAutoModelForPreTraining",
    "TFBaseModelOutput",
    "TFBaseModelOutputWithPooling",
    "TFBeitForImageClassification",
    "TFBeitForMaskedImageModeling",
    "TFBeitModel",
    "TFBeitPreTrainedModel",
    "TFData2VecVisionForImageClassification",
    "TFData2VecVisionMainLayer",
    "TFData2VecVisionModel",
    "TFData2VecVisionPreTrainedModel",
    "TFDeiTForImageClassification",
    "TFDeiTForImageClassificationWithTeacher",
    "TFDeiTForImageClassificationWithTeacherOutput",
    "TFDeiTForMaskedImageModeling",
    "TFDeiTMainLayer",
    "TFDeiTModel",
    "TFDeiTPreTrainedModel",
    "TFIJepaForImageClassification",
    "TFIJepaModel",
    "TFIJepaPreTrainedModel",
    "TFMaskedImageModelingOutput",
    "TFMaskedLMOutput",
    "TFSequenceClassificationLoss",
    "TFSequenceClassifierOutput",
    "TFTrainingArguments",
    "TFViTForImageClassification",
    "TFViTForMaskedImageModeling",
    "TFViTMAEDecoderOutput",
    "TFViTMAEForPreTraining",
    "TFViTMAEForPreTrainingOutput",
    "TFViTMAEMainLayer",
    "TFViTMAEModel",
    "TFViTMAEModelOutput",
    "TFViTMAEPreTrainedModel",
    "TFViTMSNForImageClassification",
    "TFViTMSNModel",
    "TFViTMSNPreTrainedModel",
    "TFViTMainLayer",
    "TFViTModel",
    "TFViTPreTrainedModel",
    "TFVisionTransformerForImageClassification",
    "TFVisionTransformerForImageClassificationWithTeacher",
    "TFVisionTransformerForMaskedImageModeling",
    "TFVisionTransformerForMaskedTokenModeling",
    "TFVisionTransformerModel",
    "ViTConfig",
    "ViTFeatureExtractor",
    "ViTForImageClassification",
    "ViTForMaskedImageModeling",
    "ViTImageProcessor",
    "ViTMAEConfig",
    "ViTMAEForPreTraining",
    "ViTMAEModel",
    "ViTMAEPreTrainedModel",
    "ViTMSNConfig",
    "ViTMSNForImageClassification",
    "ViTMSNModel",
    "ViTMSNPreTrainedModel",
    "ViTModel",
    "ViTPreTrainedModel",
    "VisionTransformerConfig",
    "VisionTransformerForImageClassification",
    "VisionTransformerForImageClassificationWithTeacher",
    "VisionTransformerForMaskedImageModeling",
    "VisionTransformerForMaskedTokenModeling",
    "VisionTransformerModel",
    "WarmUp",
    "create_optimizer",
    "default_data_collator",
    "set_seed",
]
