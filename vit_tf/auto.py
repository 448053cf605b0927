"""The Auto classes of Keras: the models by the class of their config; see `vit_core.auto`."""

from __future__ import annotations

from typing import Any, ClassVar

from vit_core import PretrainedConfig, ViTConfig, ViTImageProcessor
from vit_core.auto import CONFIGS, AutoConfig, AutoModelClass
from vit_tf.modeling import TFViTForImageClassification, TFViTForMaskedImageModeling, TFViTModel

__all__ = [
    "CONFIG_MAPPING",
    "IMAGE_PROCESSOR_MAPPING",
    "TF_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "TF_MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING",
    "TF_MODEL_MAPPING",
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

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = {ViTConfig: TFViTModel}


class TFAutoModelForImageClassification(AutoModelClass):
    """Finds out which model for image classification a checkpoint or a config is for."""

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = {ViTConfig: TFViTForImageClassification}


class TFAutoModelForMaskedImageModeling(AutoModelClass):
    """Finds out which model for masked image modeling a checkpoint or a config is for."""

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = {ViTConfig: TFViTForMaskedImageModeling}


AutoModel = TFAutoModel
AutoModelForImageClassification = TFAutoModelForImageClassification
AutoModelForMaskedImageModeling = TFAutoModelForMaskedImageModeling

# The tables themselves, under the names by which scripts list the model types that they can train.
CONFIG_MAPPING = CONFIGS
IMAGE_PROCESSOR_MAPPING: dict[type[PretrainedConfig], type[Any]] = {ViTConfig: ViTImageProcessor}
TF_MODEL_MAPPING = TFAutoModel.models
TF_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING = TFAutoModelForImageClassification.models
TF_MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING = TFAutoModelForMaskedImageModeling.models
