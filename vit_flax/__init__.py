"""Vision Transformers in JAX and Flax: the models, and the config and preprocessing that every framework shares."""

try:
    import flax  # noqa: F401
    import jax  # noqa: F401
    import jaxtyping  # noqa: F401
    import optax  # noqa: F401
except ImportError as error:
    raise ImportError(f'vit_flax needs {error.name}, which is not installed: pip install "trivit[flax]"') from error

from conversion import AutoFeatureExtractor, AutoImageProcessor
from vit_core import (
    DeiTFeatureExtractor,
    DeiTImageProcessor,
    ViTConfig,
    ViTFeatureExtractor,
    ViTImageProcessor,
)
from vit_flax.auto import (
    CONFIG_MAPPING,
    FLAX_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    FLAX_MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING,
    FLAX_MODEL_MAPPING,
    IMAGE_PROCESSOR_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForMaskedImageModeling,
    FlaxAutoModel,
    FlaxAutoModelForImageClassification,
    FlaxAutoModelForMaskedImageModeling,
)
from vit_flax.batch_feature import BatchFeature
from vit_flax.modeling import (
    FlaxViTForImageClassification,
    FlaxViTForImageClassificationModule,
    FlaxViTForMaskedImageModeling,
    FlaxViTForMaskedImageModelingModule,
    FlaxViTModel,
    FlaxViTModule,
    ViTForImageClassification,
    ViTForMaskedImageModeling,
    ViTModel,
)
from vit_flax.outputs import (
    FlaxBaseModelOutput,
    FlaxBaseModelOutputWithPooling,
    FlaxMaskedImageModelingOutput,
    FlaxSequenceClassifierOutput,
)
from vit_flax.pretrained import FlaxViTPreTrainedModel
from vit_flax.sharding import DATA_PARALLEL, FSDP, TENSOR_PARALLEL, Partitioning
from vit_flax.tree_changes import stack_layers, unstack_layers

ViTPreTrainedModel = FlaxViTPreTrainedModel

__all__ = [
    "CONFIG_MAPPING",
    "DATA_PARALLEL",
    "FLAX_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "FLAX_MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING",
    "FLAX_MODEL_MAPPING",
    "FSDP",
    "IMAGE_PROCESSOR_MAPPING",
    "TENSOR_PARALLEL",
    "AutoConfig",
    "AutoFeatureExtractor",
    "AutoImageProcessor",
    "AutoModel",
    "AutoModelForImageClassification",
    "AutoModelForMaskedImageModeling",
    "BatchFeature",
    "DeiTFeatureExtractor",
    "DeiTImageProcessor",
    "FlaxAutoModel",
    "FlaxAutoModelForImageClassification",
    "FlaxAutoModelForMaskedImageModeling",
    "FlaxBaseModelOutput",
    "FlaxBaseModelOutputWithPooling",
    "FlaxMaskedImageModelingOutput",
    "FlaxSequenceClassifierOutput",
    "FlaxViTForImageClassification",
    "FlaxViTForImageClassificationModule",
    "FlaxViTForMaskedImageModeling",
    "FlaxViTForMaskedImageModelingModule",
    "FlaxViTModel",
    "FlaxViTModule",
    "FlaxViTPreTrainedModel",
    "Partitioning",
    "ViTConfig",
    "ViTFeatureExtractor",
    "ViTForImageClassification",
    "ViTForMaskedImageModeling",
    "ViTImageProcessor",
    "ViTModel",
    "ViTPreTrainedModel",
    "stack_layers",
    "unstack_layers",
]
