"""Names of a file become others, and no two of them the same: which of two tensors counts, nobody may have to guess."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from vit_core.checks import shown

T = TypeVar("T")


class TwoNamesError(ValueError):
    """Two names of a file are one name here.

    Attributes:
        name: that name.
        renamed: everything by its new name, the first of several tensors where several have one.
    """

    def __init__(self, first: str, second: str, name: str, renamed: Mapping[str, Any]) -> None:
        super().__init__(
            f"it holds {shown(first)} and {shown(second)}, two names of one tensor, and nothing says which one counts; "
            f"remove the wrong one."
        )
        self.name = name
        self.renamed = renamed


def renamed(tensors: Mapping[str, T], spelling: Callable[[str], str]) -> dict[str, T]:
    """Tensors by other names.

    Args:
        tensors: by name.
        spelling: what makes the new name of a name.

    Raises:
        TwoNamesError: two names become one.
    """
    found = dict(zip(map(spelling, tensors), tensors.values(), strict=True))
    if len(found) == len(tensors):
        return found
    return distinct((name, spelling(name), tensor) for name, tensor in tensors.items())


def distinct(entries: Iterable[tuple[str, str, T]]) -> dict[str, T]:
    """Tensors by their new names.

    Args:
        entries: of each tensor the name in the file, the new one, and itself.

    Raises:
        TwoNamesError: two of them have one new name.
    """
    found: dict[str, T] = {}
    names: dict[str, str] = {}
    twice: tuple[str, str, str] | None = None
    for name, new, tensor in entries:
        if new in found:
            twice = twice or (names[new], name, new)
        else:
            found[new], names[new] = tensor, name
    if twice:
        first, second, name = twice
        raise TwoNamesError(first, second, name, found)
    return found
