"""`--set FIELD=VALUE`: fields of a model's config, as a user writes them on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Read fields and their values.

    Args:
        settings: texts such as `layer_norm_eps=1e-6`, `hidden_act=gelu`, `image_size=[224, 384]` or `qkv_bias=false`.
            What follows the first `=` is JSON, or text if it is none; the last value of a field counts.

    Returns:
        Values by the names of their fields.

    Raises:
        ValueError: a text is not of this form.
    """
    found = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        field = field.strip()
        if not equals or not field.isidentifier():
            raise ValueError(f"--set {setting} names no field and value; write it as in --set layer_norm_eps=1e-6")
        found[field] = _parse_value(value.strip())
    return found


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=str)  # Infinity and NaN are no JSON
    except (ValueError, RecursionError):
        return text
