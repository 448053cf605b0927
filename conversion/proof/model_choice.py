"""Which of a package's models a checkpoint is for, in whatever format it is."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from conversion.canonical import rows
from conversion.checkpoint import model_in
from vit_core import ViTConfig
from vit_core.families import FAMILIES, Family, family_of
from vit_core.hub import expanded, locate
from vit_core.loading_options import place_and_rest
from vit_core.parameters import BARE


def models_to_try(package: ModuleType, source: str, options: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Models, with options of from_pretrained, of which the first that lacks nothing is the checkpoint's.

    Of a backbone it is the base model, whose last hidden state shows each weight.

    Args:
        package: a framework's package.
        source: the checkpoint.
        options: those of from_pretrained.
    """
    family, named = _family(package, source, options)
    attempts: list[tuple[str, dict[str, Any]]] = [
        (name, {}) for task, name in family.models.items() if task not in BARE
    ]
    bare = family.models["model"]
    has_pooler = any(row.part == "pooler" for row in rows(family.model_type).values())
    attempts += [(bare, {"add_pooling_layer": choice}) for choice in (True, False)] if has_pooler else [(bare, {})]
    return [attempt for attempt in attempts if attempt[0] == named] or attempts


def classifiers_to_try(package: ModuleType, source: str, options: Mapping[str, Any]) -> list[str]:
    """Likewise of classifiers: the one that is named first, and of a family without any, those of another."""
    family, named = _family(package, source, options)
    for each in (family, FAMILIES.get(family.encoder_is or "", family)):
        if found := [name for task, name in each.models.items() if "classification" in task]:
            return sorted(found, key=lambda name: name != named)
    raise ValueError(f"{source} holds a model of {family.title}, which classifies nothing; choose a classifier.")


def encoder_of(package: ModuleType, source: str, options: Mapping[str, Any]) -> str:
    """The base model that sees all of an image: of a masked autoencoder, a ViT."""
    family, _ = _family(package, source, options)
    return FAMILIES.get(family.encoder_is or "", family).models["model"]


def _family(package: ModuleType, source: str, options: Mapping[str, Any]) -> tuple[Family, str]:
    """Whose model a checkpoint holds, and the class that its `config.json` names, if any."""
    location, _ = place_and_rest(options)
    if not expanded(str(source)).is_file():  # a config.json beside it may be about another model
        with contextlib.suppress(OSError, ValueError):
            config = package.AutoConfig.from_pretrained(source, **location)
            return family_of(config), next(iter(config.architectures or []), "")
    with contextlib.suppress(OSError, ValueError):  # what is wrong, loading will say
        return model_in(locate(source, **location), options.get("under"))[0], ""
    return FAMILIES[ViTConfig.model_type], ""
