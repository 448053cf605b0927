"""The ground floor of Trivit: config, parameters, preprocessing and checkpoints, with no framework."""

from vit_core.auto_image_processor import AutoFeatureExtractor, AutoImageProcessor
from vit_core.config import ViTConfig
from vit_core.image_processing import (
    BatchFeature,
    DeiTFeatureExtractor,
    DeiTImageProcessor,
    ViTFeatureExtractor,
    ViTImageProcessor,
)
from vit_core.outputs import (
    BaseModelOutput,
    BaseModelOutputWithPooling,
    ImageClassifierOutput,
    MaskedImageModelingOutput,
    ModelOutput,
)
from vit_core.parameters import Parameter, parameters

__all__ = [
    "AutoFeatureExtractor",
    "AutoImageProcessor",
    "BaseModelOutput",
    "BaseModelOutputWithPooling",
    "BatchFeature",
    "DeiTFeatureExtractor",
    "DeiTImageProcessor",
    "ImageClassifierOutput",
    "MaskedImageModelingOutput",
    "ModelOutput",
    "Parameter",
    "ViTConfig",
    "ViTFeatureExtractor",
    "ViTImageProcessor",
    "parameters",
]
