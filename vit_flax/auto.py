"""The Auto classes of Flax: the models by the class of their config; see `vit_core.auto`."""

from __future__ import annotations

from typing import Any, ClassVar

from vit_core import PretrainedConfig, ViTConfig, ViTImageProcessor
from vit_core.auto import CONFIGS, AutoConfig, AutoModelClass
from vit_flax.modeling import FlaxViTForImageClassification, FlaxViTForMaskedImageModeling, FlaxViTModel

__all__ = [
    "CONFIG_MAPPING",
    "FLAX_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "FLAX_MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING",
    "FLAX_MODEL_MAPPING",
    "IMAGE_PROCESSOR_MAPPING",
    "AutoConfig",
    "AutoModel",
    "AutoModelForImageClassification",
    "AutoModelForMaskedImageModeling",
    "FlaxAutoModel",
    "FlaxAutoModelForImageClassification",
    "FlaxAutoModelForMaskedImageModeling",
]


class FlaxAutoModel(AutoModelClass):
    """Finds out which model without a head a checkpoint or a config is for."""

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = {ViTConfig: FlaxViTModel}


class FlaxAutoModelForImageClassification(AutoModelClass):
    """Finds out which model for image classification a checkpoint or a config is for."""

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = {ViTConfig: FlaxViTForImageClassification}


class FlaxAutoModelForMaskedImageModeling(AutoModelClass):
    """Finds out which model for masked image modeling a checkpoint or a config is for."""

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = {ViTConfig: FlaxViTForMaskedImageModeling}


AutoModel = FlaxAutoModel
AutoModelForImageClassification = FlaxAutoModelForImageClassification
AutoModelForMaskedImageModeling = FlaxAutoModelForMaskedImageModeling

# The tables themselves, under the names by which scripts list the model types that they can train.
CONFIG_MAPPING = CONFIGS
IMAGE_PROCESSOR_MAPPING: dict[type[PretrainedConfig], type[Any]] = {ViTConfig: ViTImageProcessor}
FLAX_MODEL_MAPPING = FlaxAutoModel.models
FLAX_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING = FlaxAutoModelForImageClassification.models
FLAX_MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING = FlaxAutoModelForMaskedImageModeling.models
