"""Which models are in a file of weights, in which formats, and which of them is meant."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import replace

from conversion.assumptions import LEVELS_BELOW_THE_CALLER
from conversion.formats import FORMATS
from conversion.formats.format import MOST_MODELS, Format, Found, Tensors, words
from vit_core.checkpoint import OpenCheckpoint
from vit_core.checks import shown
from vit_core.loading_plan import WRAPPERS, unwrapped
from vit_core.renaming import TwoNamesError

#: Words in the wrapper of the model that a training checkpoint's authors evaluate: DINO's teacher, timm's averages.
PREFERRED = frozenset(["teacher", "ema"])
_TRANSPARENT = re.compile(rf"(?<![^./])(?:{'|'.join(WRAPPERS)})\.")


def recognise(files: OpenCheckpoint, under: str | None = None) -> tuple[Format, Found] | None:
    """The format of opened files and the model in them; None if no known format fits.

    Args:
        files: the opened files.
        under: what stands before the names of the model that is meant, if there are several.

    Raises:
        ValueError: there are several models and nothing says which one is meant, or there is none under that name.
    """
    models = models_in(files)
    if len(models) > 1:  # then what is beside one of them may be another's
        models = {place: (form, replace(found, beside={})) for place, (form, found) in models.items()}
    if under is not None:
        chosen = {place: model for place, model in models.items() if _is_under(place, under)}
        if not chosen:
            there = f"; models are under {_list(models)}" if models else ""
            raise ValueError(f"there is no model under {shown(under)}{there}.")
        models = chosen
    preferred = {place: model for place, model in models.items() if PREFERRED.intersection(words(place))}
    others = tuple(sorted(models.keys() - preferred.keys())) if preferred else ()
    models = {place: (form, replace(found, others=others)) for place, (form, found) in (preferred or models).items()}
    if len(models) > 1:
        raise ValueError(
            f"it holds several models, under {_list(models)}; name the one to read, as in "
            f"under={shown(min(filter(None, models)))} (--under)."
        )
    for _, found in models.values():
        _require_one_name_each(found)
    return next(iter(models.values()), None)


def _require_one_name_each(found: Found) -> None:
    """Raise ValueError if a file has one of a model's tensors under two names."""
    if found.twice:
        raise found.twice
    unwrapped(found.whole, ())
    if both := found.beside.keys() & found.whole.keys():
        name = min(both)
        raise TwoNamesError(name, found.wrapper.removesuffix(found.base_prefix) + name, name, found.whole)


def warn_of_others(source: str, found: Found) -> None:
    """Say which of several models is read, if nobody has named it."""
    if found.others:
        warnings.warn(
            f"{source} holds several models, and the one under {shown(found.place)} is read, which its authors "
            f"evaluate; under={shown(found.others[0])} reads another.",
            stacklevel=LEVELS_BELOW_THE_CALLER,
        )


def models_in(files: OpenCheckpoint) -> dict[str, tuple[Format, Found]]:
    """Every model in opened files with its format, by what stands before its names ("" for nothing)."""
    files = replace(files, tensors=_without_transparent_modules(files.tensors))
    models: dict[str, tuple[Format, Found]] = {}
    for form in FORMATS.values():
        models |= {found.place: (form, found) for found in form.find(files.tensors, files.config, models)}
        if len(models) > MOST_MODELS:
            raise ValueError(f"it holds {len(models)} models, more than the {MOST_MODELS} that are looked at.")
    return models


def _without_transparent_modules(tensors: Tensors) -> Tensors:
    """Names without modules that wrap a part of the model; one around all of it is a wrapper like others."""
    first, last = min(tensors, default=""), max(tensors, default="")
    shared = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    kept = 1 + max(first.rfind(".", 0, shared), first.rfind("/", 0, shared))
    names = {name: name[:kept] + _TRANSPARENT.sub("", name[kept:]) for name in tensors}
    if len(set(names.values())) != len(names):
        return tensors
    return {names[name]: tensor for name, tensor in tensors.items()}


def _is_under(place: str, under: str) -> bool:
    wanted, there = (
        [part for part in re.split("[./]", name) if part and part not in WRAPPERS] for name in (under, place)
    )
    return there[: len(wanted)] == wanted if wanted else not there


def _list(places: Iterable[str]) -> str:
    return " and ".join(shown(place) if place else "no name" for place in sorted(places)[:6])
