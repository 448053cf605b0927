"""Which classes are ours and which a script's own: what a subclass does is its own affair."""

from __future__ import annotations

from typing import Any


def is_ours(class_or_function: Any) -> bool:
    """Whether a class, or a method of one, is defined in this package."""
    package: str = class_or_function.__module__.split(".")[0]
    return package == __name__.split(".")[0]
