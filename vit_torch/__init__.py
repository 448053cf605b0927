"""Vision Transformers in PyTorch: the models, and the config and preprocessing that every framework shares."""

try:
    import jaxtyping  # noqa: F401
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError(f'vit_torch needs {error.name}, which is not installed: pip install "trivit[torch]"') from error

from conversion import AutoImageProcessor
from vit_core import (
    BaseModelOutputWithPooling,
    BatchFeature,
    DeiTImageProcessor,
    ImageClassifierOutput,
    MaskedImageModelingOutput,
    ViTConfig,
    ViTFeatureExtractor,
    ViTImageProcessor,
)
from vit_torch.image_processing import ViTImageProcessorFast
from vit_torch.modeling import ViTForImageClassification, ViTForMaskedImageModeling, ViTModel
from vit_torch.pretrained import ViTPreTrainedModel

__all__ = [
    "AutoImageProcessor",
    "BaseModelOutputWithPooling",
    "BatchFeature",
    "DeiTImageProcessor",
    "ImageClassifierOutput",
    "MaskedImageModelingOutput",
    "ViTConfig",
    "ViTFeatureExtractor",
    "ViTForImageClassification",
    "ViTForMaskedImageModeling",
    "ViTImageProcessor",
    "ViTImageProcessorFast",
    "ViTModel",
    "ViTPreTrainedModel",
]
