"""The Auto classes of PyTorch: the models by the class of their config; see `vit_core.auto` and `vit_core.families`."""

from __future__ import annotations

from typing import Any, ClassVar

import vit_core
from conversion.auto import AutoModelClass
from vit_core import PretrainedConfig
from vit_core.auto import CONFIGS, AutoConfig
from vit_core.families import CONFIG_CLASSES, family_of
from vit_core.parameters import Task
from vit_torch import relatives

__all__ = [
    "CONFIG_MAPPING",
    "IMAGE_PROCESSOR_MAPPING",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING",
    "MODEL_FOR_PRETRAINING_MAPPING",
    "MODEL_MAPPING",
    "AutoBackbone",
    "AutoConfig",
    "AutoModel",
    "AutoModelForImageClassification",
    "AutoModelForMaskedImageModeling",
    "AutoModelForPreTraining",
]

Models = dict[type[PretrainedConfig], type[Any]]


def models_for(*tasks: Task) -> Models:
    """The models for the first of some tasks that a family has, by the class of their config."""
    named = {
        config_class: next((models[task] for task in tasks if task in models), "")
        for config_class in CONFIG_CLASSES.values()
        for models in [family_of(config_class).models]
    }
    return {config_class: getattr(relatives, name) for config_class, name in named.items() if name}


class AutoModel(AutoModelClass):
    """Finds out which model without a head a checkpoint or a config is for."""

    models: ClassVar[Models] = models_for("model")


class AutoModelForImageClassification(AutoModelClass):
    """Finds out which model for image classification a checkpoint or a config is for."""

    models: ClassVar[Models] = models_for("image-classification")
    named_models: ClassVar[Models] = models_for("image-classification-with-teacher")


class AutoModelForMaskedImageModeling(AutoModelClass):
    """Finds out which model for masked image modeling a checkpoint or a config is for."""

    models: ClassVar[Models] = models_for("masked-image-modeling", "masked-token-modeling")


class AutoModelForPreTraining(AutoModelClass):
    """Finds out which model for pre-training a checkpoint or a config is for."""

    models: ClassVar[Models] = models_for("pre-training")


class AutoBackbone(AutoModelClass):
    """Finds out which backbone, a model that returns feature maps, a checkpoint or a config is for."""

    models: ClassVar[Models] = models_for("backbone")


# The tables themselves, under the names by which scripts list the model types that they can train.
CONFIG_MAPPING = CONFIGS
IMAGE_PROCESSOR_MAPPING: Models = {
    config_class: getattr(vit_core, family_of(config_class).image_processor) for config_class in CONFIG_CLASSES.values()
}
MODEL_MAPPING = AutoModel.models
MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING = AutoModelForImageClassification.models
MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING = AutoModelForMaskedImageModeling.models
MODEL_FOR_PRETRAINING_MAPPING = AutoModelForPreTraining.models
