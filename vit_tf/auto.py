"""The Auto classes of Keras: the models of the families by the class of their config; see `vit_core.auto`."""

from __future__ import annotations

from typing import Any, ClassVar

from conversion.auto import AutoModelClass
from vit_core import PretrainedConfig, image_processing
from vit_core.auto import CONFIGS, AutoConfig
from vit_core.families import FAMILIES
from vit_core.parameters import Task
from vit_tf import backbone, masked_image_modeling, modeling, relatives

__all__ = [
    "CONFIG_MAPPING",
    "IMAGE_PROCESSOR_MAPPING",
    "TF_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "TF_MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING",
    "TF_MODEL_FOR_PRETRAINING_MAPPING",
    "TF_MODEL_MAPPING",
    "AutoBackbone",
    "AutoConfig",
    "AutoModel",
    "AutoModelForImageClassification",
    "AutoModelForMaskedImageModeling",
    "AutoModelForPreTraining",
    "TFAutoBackbone",
    "TFAutoModel",
    "TFAutoModelForImageClassification",
    "TFAutoModelForMaskedImageModeling",
    "TFAutoModelForPreTraining",
]


def _models(*tasks: Task) -> dict[type[PretrainedConfig], type[Any]]:
    """The families' models for some tasks."""
    known = {**vars(modeling), **vars(masked_image_modeling), **vars(backbone), **vars(relatives)}
    return {
        config_class: known[f"TF{family.models[task]}"]
        for family in FAMILIES.values()
        for config_class in family.all_config_classes
        for task in tasks
        if task in family.models
    }


class TFAutoModel(AutoModelClass):
    """Finds out which model without a head a checkpoint or a config is for."""

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = _models("model")


class TFAutoModelForImageClassification(AutoModelClass):
    """Finds out which model for image classification a checkpoint or a config is for."""

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = _models("image-classification")
    named_models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = _models("image-classification-with-teacher")


class TFAutoModelForMaskedImageModeling(AutoModelClass):
    """Finds out which model for masked image modeling, of pixels or of visual tokens, a checkpoint or a config is for.

    Of a config whose family has both, the one for pixels.
    """

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = _models("masked-token-modeling") | _models(
        "masked-image-modeling"
    )


class TFAutoModelForPreTraining(AutoModelClass):
    """Finds out which model for pre-training a checkpoint or a config is for."""

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = _models("pre-training")


class TFAutoBackbone(AutoModelClass):
    """Finds out which backbone, a model that returns feature maps, a checkpoint or a config is for."""

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = _models("backbone")


AutoBackbone = TFAutoBackbone
AutoModel = TFAutoModel
AutoModelForImageClassification = TFAutoModelForImageClassification
AutoModelForMaskedImageModeling = TFAutoModelForMaskedImageModeling
AutoModelForPreTraining = TFAutoModelForPreTraining

# The tables themselves, under the names by which scripts list the model types that they can train.
CONFIG_MAPPING = CONFIGS
IMAGE_PROCESSOR_MAPPING: dict[type[PretrainedConfig], type[Any]] = {
    config_class: getattr(image_processing, family.image_processor)
    for family in FAMILIES.values()
    for config_class in family.all_config_classes
}
TF_MODEL_MAPPING = TFAutoModel.models
TF_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING = TFAutoModelForImageClassification.models
TF_MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING = TFAutoModelForMaskedImageModeling.models
TF_MODEL_FOR_PRETRAINING_MAPPING = TFAutoModelForPreTraining.models
