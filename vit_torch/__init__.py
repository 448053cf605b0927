"""Vision Transformers in PyTorch: the models, and the config and preprocessing that every framework shares."""

try:
    import torch  # noqa: F401, I001  # first, since it is what is missing where both are
    import jaxtyping  # noqa: F401
except ImportError as error:
    raise ImportError(f'vit_torch needs {error.name}, which is not installed: pip install "trivit[torch]"') from error

from vit_core import (
    BaseModelOutput,
    BaseModelOutputWithPooling,
    BatchFeature,
    DeiTFeatureExtractor,
    DeiTImageProcessor,
    ImageClassifierOutput,
    MaskedImageModelingOutput,
    ModelOutput,
    ViTConfig,
    ViTFeatureExtractor,
    ViTImageProcessor,
)
from vit_torch.auto import (
    CONFIG_MAPPING,
    IMAGE_PROCESSOR_MAPPING,
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForMaskedImageModeling,
)
from vit_torch.auto_image_processor import AutoFeatureExtractor, AutoImageProcessor
from vit_torch.image_processing import ViTImageProcessorFast
from vit_torch.modeling import ViTForImageClassification, ViTForMaskedImageModeling, ViTModel
from vit_torch.pretrained import ViTPreTrainedModel

__all__ = [
    "CONFIG_MAPPING",
    "IMAGE_PROCESSOR_MAPPING",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING",
    "MODEL_MAPPING",
    "AutoConfig",
    "AutoFeatureExtractor",
    "AutoImageProcessor",
    "AutoModel",
    "AutoModelForImageClassification",
    "AutoModelForMaskedImageModeling",
    "BaseModelOutput",
    "BaseModelOutputWithPooling",
    "BatchFeature",
    "DeiTFeatureExtractor",
    "DeiTImageProcessor",
    "ImageClassifierOutput",
    "MaskedImageModelingOutput",
    "ModelOutput",
    "ViTConfig",
    "ViTFeatureExtractor",
    "ViTForImageClassification",
    "ViTForMaskedImageModeling",
    "ViTImageProcessor",
    "ViTImageProcessorFast",
    "ViTModel",
    "ViTPreTrainedModel",
]
