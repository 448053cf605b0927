"""The names of a file by what they start with, so that finding those of one model does not mean looking at all."""

from __future__ import annotations

import bisect
from collections.abc import Iterable


class NamesByStart:
    """Names, each list of which is in the order of the file.

    Args:
        names: all of them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._places = {name: place for place, name in enumerate(names)}
        self._sorted = sorted(self._places)
        self._levels: dict[str, list[str]] = {}
        for name in self._places:
            self._levels.setdefault(name[: name.rfind("/") + 1], []).append(name)

    def under(self, start: str) -> list[str]:
        """The names that start so."""
        if not start:
            return list(self._places)
        first = bisect.bisect_left(self._sorted, start)
        last = bisect.bisect_left(self._sorted, start[:-1] + chr(ord(start[-1]) + 1))
        return sorted(self._sorted[first:last], key=self._places.__getitem__)

    def on_level(self, level: str) -> list[str]:
        """The names of one dictionary, without those of others inside of it: what ends "level" with its last slash."""
        return self._levels.get(level, [])
