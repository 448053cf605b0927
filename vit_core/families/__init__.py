"""The families: one file a relative of ViT, with its config and the record that everything else reads.

The Auto classes, `trivit info`, `verify` and `classify`, and the table of models in the docs know a family by its
record alone, and the backends by what its config says a model is made of, `vit_core.architecture.Architecture`.
"""

from __future__ import annotations

from typing import Any

from vit_core.config import PretrainedConfig
from vit_core.families import (
    beit,
    clip,
    data2vec_vision,
    deit,
    dinov2,
    dinov3_vit,
    ijepa,
    siglip,
    vision_transformer,
    vit,
    vit_mae,
    vit_msn,
)
from vit_core.families.family import Family

__all__ = ["CONFIG_CLASSES", "FAMILIES", "Family", "family_of", "require_config"]

#: Every family, by its model type.
FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        *(vit.FAMILY, deit.FAMILY, vit_mae.FAMILY, beit.FAMILY, data2vec_vision.FAMILY, vit_msn.FAMILY, ijepa.FAMILY),
        *(dinov2.DINOV2, dinov2.DINOV2_WITH_REGISTERS, dinov3_vit.FAMILY, siglip.FAMILY, clip.FAMILY),
        vision_transformer.FAMILY,
    )
}
#: The class of each model type's configs: those of the families, and of files that describe more than their models.
CONFIG_CLASSES: dict[str, type[PretrainedConfig]] = {
    config_class.model_type: config_class for family in FAMILIES.values() for config_class in family.all_config_classes
}


def family_of(config: PretrainedConfig | type[PretrainedConfig]) -> Family:
    """The family whose models a config describes; for a subclass with a type of its own, that of the class it extends.

    Raises:
        ValueError: the config extends none of a family.
    """
    config_class: type[Any] = config if isinstance(config, type) else type(config)
    for each in config_class.__mro__:
        if (family := FAMILIES.get(vars(each).get("model_type", ""))) is not None:
            return family
    raise ValueError(
        f"{config_class.__name__} is no config of a model that is here; extend one of "
        f"{', '.join(family.config_class.__name__ for family in FAMILIES.values())}."
    )


def require_config(config: Any, config_class: type[PretrainedConfig], model: str) -> None:
    """Check that a config describes models of the same family as another class of configs.

    Args:
        config: what a model was given.
        config_class: the class of the model's configs.
        model: what to call the model.

    Raises:
        TypeError: it is no config, or one of another family, of whose parts the model would be made.
    """
    if not isinstance(config, PretrainedConfig) or family_of(config) is not family_of(config_class):
        raise TypeError(
            f"{model} takes a {config_class.__name__}, not a {type(config).__name__}; to load a checkpoint call "
            f"{model}.from_pretrained."
        )
