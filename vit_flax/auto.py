"""The Auto classes of Flax: the models by the class of their config; see `vit_core.auto`."""

from __future__ import annotations

from typing import Any, ClassVar

from vit_core.auto import AutoConfig, AutoModelClass
from vit_core.config import ViTConfig
from vit_flax.modeling import FlaxViTForImageClassification, FlaxViTForMaskedImageModeling, FlaxViTModel

__all__ = [
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

    models: ClassVar[dict[type[ViTConfig], type[Any]]] = {ViTConfig: FlaxViTModel}


class FlaxAutoModelForImageClassification(AutoModelClass):
    """Finds out which model for image classification a checkpoint or a config is for."""

    models: ClassVar[dict[type[ViTConfig], type[Any]]] = {ViTConfig: FlaxViTForImageClassification}


class FlaxAutoModelForMaskedImageModeling(AutoModelClass):
    """Finds out which model for masked image modeling a checkpoint or a config is for."""

    models: ClassVar[dict[type[ViTConfig], type[Any]]] = {ViTConfig: FlaxViTForMaskedImageModeling}


AutoModel = FlaxAutoModel
AutoModelForImageClassification = FlaxAutoModelForImageClassification
AutoModelForMaskedImageModeling = FlaxAutoModelForMaskedImageModeling
