"""Checks of values from outside; what is wrong is named with the value and with what would be right."""

from __future__ import annotations

import numbers
import re
import reprlib
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vit_core.config import PretrainedConfig


LONGEST_LIST = 150  # letters after which a list says no more than how many there are
LARGEST_FLOAT = 3.4e38  # of single precision, rounded
LONGEST = 120  # letters of a stranger's word or value in a message


def shown(value: Any) -> str:
    """What a stranger's file says, for a message: escaped and cut to a readable length."""
    text = _SHORT.repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 20]}...{text[-17:]}"


def listed(values: Iterable[Any], most: int = 6) -> str:
    """The first few of many things that a stranger's file says, for a message; names without quotes if they are plain.

    Args:
        values: all of them.
        most: how many are told.
    """
    values = list(values)
    told = ""
    for count, each in enumerate(values):
        if count == most or len(told) > LONGEST_LIST:
            return f"{told} and {len(values) - count} more"
        word = each if isinstance(each, str) and _PLAIN.fullmatch(each) else shown(each)
        told = f"{told}, {word}" if told else word
    return told


_PLAIN = re.compile(r"[\w./:* ()>,-]{1,120}")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = LONGEST
_SHORT.maxlong = 40
_SHORT.maxlevel = 2


def require_integer(name: str, value: Any, least: int, most: int) -> None:
    """Raise ValueError unless the value is a whole number in a range that includes both ends."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not least <= int(value) <= most:
        raise ValueError(f"{name} is {shown(value)}; give a whole number from {least} to {most}.")


def require_number(name: str, value: Any, least: float, most: float, upper_included: bool = True) -> None:
    """Raise ValueError unless the value is a number in a range."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not least <= value <= most or (value == most and not upper_included):
        below = "" if upper_included else "below "
        raise ValueError(f"{name} is {shown(value)}; give a number from {least:g} to {below}{most:g}.")


def as_float(name: str, value: Any) -> float:
    """A number as a float.

    Raises:
        ValueError: it is no number that single precision can hold.
    """
    require_number(name, value, -LARGEST_FLOAT, LARGEST_FLOAT)
    return float(value)


def require_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raise ValueError unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} is {shown(value)}; choose one of {', '.join(choices)}.")


def require_switches(config: PretrainedConfig, names: Iterable[str]) -> None:
    """Raise ValueError unless fields of a config are True or False."""
    for name in names:
        if not isinstance(value := getattr(config, name), bool):
            raise ValueError(f"{name} is {shown(value)}; give True or False.")


def require_quarters(config: PretrainedConfig) -> None:
    """Raise ValueError if there are rotary positions and heads that cannot hold them."""
    if config.architecture.rotary_positions is not None and config.head_dim % 4:
        raise ValueError(
            f"heads are {config.head_dim} wide (hidden_size / num_attention_heads); two axes of rotary positions need "
            f"a multiple of 4."
        )


def check_head_mask(head_mask: Any, config: PretrainedConfig, layers: int | None = None) -> None:
    """Check that a head mask has an entry for each head, of one layer or of all.

    Args:
        head_mask: the mask.
        config: the model's.
        layers: how many layers the model has, if not those of the config.

    Raises:
        ValueError: it has not.
    """
    heads = (config.num_attention_heads,)
    all_heads = (config.num_hidden_layers if layers is None else layers, *heads)
    if tuple(head_mask.shape) not in (heads, all_heads):
        raise ValueError(f"head_mask has shape {tuple(head_mask.shape)}; the model takes {heads} or {all_heads}.")
