"""The Auto classes of Keras: the models by the class of their config; see `vit_core.auto`."""

from __future__ import annotations

from typing import Any, ClassVar

from vit_core.auto import AutoConfig, AutoModelClass
from vit_core.config import ViTConfig
from vit_tf.modeling import TFViTForImageClassification, TFViTForMaskedImageModeling, TFViTModel

__all__ = [
    "AutoConfig",
    "AutoModel",
    "AutoModelForImageClassification",
    "AutoModelForMaskedImageModeling",
    "TFAutoModel",
    "TFAutoModelForImageClassification",
    "TFAutoModelForMaskedImageModeling",
]


class TFAutoModel(AutoModelClass):
    """Finds out which model without a head a checkpoint or a config is for."""

    models: ClassVar[dict[type[ViTConfig], type[Any]]] = {ViTConfig: TFViTModel}


class TFAutoModelForImageClassification(AutoModelClass):
    """Finds out which model for image classification a checkpoint or a config is for."""

    models: ClassVar[dict[type[ViTConfig], type[Any]]] = {ViTConfig: TFViTForImageClassification}


class TFAutoModelForMaskedImageModeling(AutoModelClass):
    """Finds out which model for masked image modeling a checkpoint or a config is for."""

    models: ClassVar[dict[type[ViTConfig], type[Any]]] = {ViTConfig: TFViTForMaskedImageModeling}


AutoModel = TFAutoModel
AutoModelForImageClassification = TFAutoModelForImageClassification
AutoModelForMaskedImageModeling = TFAutoModelForMaskedImageModeling
