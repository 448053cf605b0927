"""The Auto classes of PyTorch: the models by the class of their config; see `vit_core.auto`."""

from __future__ import annotations

from typing import Any, ClassVar

from vit_core.auto import AutoConfig, AutoModelClass
from vit_core.config import ViTConfig
from vit_torch.modeling import ViTForImageClassification, ViTForMaskedImageModeling, ViTModel

__all__ = ["AutoConfig", "AutoModel", "AutoModelForImageClassification", "AutoModelForMaskedImageModeling"]


class AutoModel(AutoModelClass):
    """Finds out which model without a head a checkpoint or a config is for."""

    models: ClassVar[dict[type[ViTConfig], type[Any]]] = {ViTConfig: ViTModel}


class AutoModelForImageClassification(AutoModelClass):
    """Finds out which model for image classification a checkpoint or a config is for."""

    models: ClassVar[dict[type[ViTConfig], type[Any]]] = {ViTConfig: ViTForImageClassification}


class AutoModelForMaskedImageModeling(AutoModelClass):
    """Finds out which model for masked image modeling a checkpoint or a config is for."""

    models: ClassVar[dict[type[ViTConfig], type[Any]]] = {ViTConfig: ViTForMaskedImageModeling}
