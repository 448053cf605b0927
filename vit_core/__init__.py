"""The ground floor of Trivit: config, parameters, preprocessing and checkpoints, with no framework."""

from vit_core.auto_image_processor import AutoFeatureExtractor, AutoImageProcessor
from vit_core.config import PretrainedConfig
from vit_core.families.beit import BeitConfig
from vit_core.families.clip import CLIPConfig, CLIPVisionConfig
from vit_core.families.data2vec_vision import Data2VecVisionConfig
from vit_core.families.deit import DeiTConfig
from vit_core.families.dinov2 import Dinov2Config, Dinov2WithRegistersConfig
from vit_core.families.dinov3_vit import DINOv3ViTConfig
from vit_core.families.ijepa import IJepaConfig
from vit_core.families.siglip import SiglipConfig, SiglipVisionConfig
from vit_core.families.vision_transformer import VisionTransformerConfig
from vit_core.families.vit import ViTConfig
from vit_core.families.vit_mae import ViTMAEConfig
from vit_core.families.vit_msn import ViTMSNConfig
from vit_core.image_processing import (
    BatchFeature,
    BeitFeatureExtractor,
    BeitImageProcessor,
    BitImageProcessor,
    CLIPImageProcessor,
    DeiTFeatureExtractor,
    DeiTImageProcessor,
    DINOv3ViTImageProcessorFast,
    SiglipImageProcessor,
    ViTFeatureExtractor,
    ViTImageProcessor,
)
from vit_core.outputs import (
    BackboneOutput,
    BaseModelOutput,
    BaseModelOutputWithPooling,
    CLIPVisionModelOutput,
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
from vit_core.patch_projection import resample_patch_projection

__all__ = [
    "AutoFeatureExtractor",
    "AutoImageProcessor",
    "BackboneOutput",
    "BaseModelOutput",
    "BaseModelOutputWithPooling",
    "BatchFeature",
    "BeitConfig",
    "BeitFeatureExtractor",
    "BeitImageProcessor",
    "BitImageProcessor",
    "CLIPConfig",
    "CLIPImageProcessor",
    "CLIPVisionConfig",
    "CLIPVisionModelOutput",
    "DINOv3ViTConfig",
    "DINOv3ViTImageProcessorFast",
    "Data2VecVisionConfig",
    "DeiTConfig",
    "DeiTFeatureExtractor",
    "DeiTForImageClassificationWithTeacherOutput",
    "DeiTImageProcessor",
    "Dinov2Config",
    "Dinov2WithRegistersConfig",
    "IJepaConfig",
    "ImageClassifierOutput",
    "MaskedImageModelingOutput",
    "MaskedLMOutput",
    "ModelOutput",
    "Parameter",
    "PretrainedConfig",
    "SiglipConfig",
    "SiglipImageProcessor",
    "SiglipVisionConfig",
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
    "resample_patch_projection",
]
