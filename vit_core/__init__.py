"""The ground floor of Trivit: config, parameters, preprocessing and checkpoints, with no framework."""

from vit_core.auto_image_processor import AutoFeatureExtractor, AutoImageProcessor
from vit_core.config import PretrainedConfig
from vit_core.families.beit import BeitConfig
from vit_core.families.data2vec_vision import Data2VecVisionConfig
from vit_core.families.deit import DeiTConfig
from vit_core.families.ijepa import IJepaConfig
from vit_core.families.vision_transformer import VisionTransformerConfig
from vit_core.families.vit import ViTConfig
from vit_core.families.vit_mae import ViTMAEConfig
from vit_core.families.vit_msn import ViTMSNConfig
from vit_core.image_processing import (
    BatchFeature,
    BeitFeatureExtractor,
    BeitImageProcessor,
    DeiTFeatureExtractor,
    DeiTImageProcessor,
    ViTFeatureExtractor,
    ViTImageProcessor,
)
from vit_core.outputs import (
    BaseModelOutput,
    BaseModelOutputWithPooling,
    DeiTForImageClassificationWithTeacherOutput,
    ImageClassifierOutput,
    MaskedImageModelingOutput,
    MaskedLMOutput,
    ModelOutput,
    ViTMAEDecoderOutput,
    ViTMAEForPreTrainingOutput,
    ViTMAEModelOutput,
)
from vit_core.parameters import Parameter, parameters

__all__ = [
    "AutoFeatureExtractor",
    "AutoImageProcessor",
    "BaseModelOutput",
    "BaseModelOutputWithPooling",
    "BatchFeature",
    "BeitConfig",
    "BeitFeatureExtractor",
    "BeitImageProcessor",
    "Data2VecVisionConfig",
    "DeiTConfig",
    "DeiTFeatureExtractor",
    "DeiTForImageClassificationWithTeacherOutput",
    "DeiTImageProcessor",
    "IJepaConfig",
    "ImageClassifierOutput",
    "MaskedImageModelingOutput",
    "MaskedLMOutput",
    "ModelOutput",
    "Parameter",
    "PretrainedConfig",
    "ViTConfig",
    "ViTFeatureExtractor",
    "ViTImageProcessor",
    "ViTMAEConfig",
    "ViTMAEDecoderOutput",
    "ViTMAEForPreTrainingOutput",
    "ViTMAEModelOutput",
    "ViTMSNConfig",
    "VisionTransformerConfig",
    "parameters",
]
