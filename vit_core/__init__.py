"""The ground floor of Trivit: config, parameters, preprocessing and checkpoints, with no framework."""

from vit_core.config import ViTConfig
from vit_core.image_processing import (
    AutoImageProcessor,
    BatchFeature,
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
    "AutoImageProcessor",
    "BaseModelOutput",
    "BaseModelOutputWithPooling",
    "BatchFeature",
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
