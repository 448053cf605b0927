"""The Auto classes of PyTorch: the models by the class of their config; see `vit_core.auto`."""

from __future__ import annotations

from typing import Any, ClassVar

from vit_core import PretrainedConfig, ViTConfig, ViTImageProcessor
from vit_core.auto import CONFIGS, AutoConfig, AutoModelClass
from vit_torch.modeling import ViTForImageClassification, ViTForMaskedImageModeling, ViTModel

__all__ = [
    "CONFIG_MAPPING",
    "IMAGE_PROCESSOR_MAPPING",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING",
    "MODEL_MAPPING",
    "AutoConfig",
    "AutoModel",
    "AutoModelForImageClassification",
    "AutoModelForMaskedImageModeling",
]


class AutoModel(AutoModelClass):
    """Finds out which model without a head a checkpoint or a config is for."""

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = {ViTConfig: ViTModel}


class AutoModelForImageClassification(AutoModelClass):
    """Finds out which model for image classification a checkpoint or a config is for."""

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = {ViTConfig: ViTForImageClassification}


class AutoModelForMaskedImageModeling(AutoModelClass):
    """Finds out which model for masked image modeling a checkpoint or a config is for."""

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = {ViTConfig: ViTForMaskedImageModeling}


# The tables themselves, under the names by which scripts list the model types that they can train.
CONFIG_MAPPING = CONFIGS
IMAGE_PROCESSOR_MAPPING: dict[type[PretrainedConfig], type[Any]] = {ViTConfig: ViTImageProcessor}
MODEL_MAPPING = AutoModel.models
MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING = AutoModelForImageClassification.models
MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING = AutoModelForMaskedImageModeling.models
