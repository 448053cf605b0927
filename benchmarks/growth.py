"""How cost grew, against what the arithmetic predicts from one point: what grows much faster is a surprise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.subjects.growth import AXES, START

#: Times the prediction from which on a cost is a surprise, where the arithmetic asks for more than at the start; below,
#: what does not grow at all counts for more.
SURPRISE = 1.3


@dataclass(frozen=True)
class Cost:
    """What a point took, in a unit, and how many times what was predicted that is."""

    taken: float
    predicted: float
    is_larger: bool  # than the start

    @property
    def ratio(self) -> float:
        """Times the prediction."""
        return self.taken / self.predicted

    @property
    def is_surprise(self) -> bool:
        """Whether somebody should find out why."""
        return self.is_larger and self.ratio > SURPRISE


@dataclass(frozen=True)
class Point:
    """A row of growth.

    Attributes:
        framework: whose.
        axis: what grows: "image", "layers" or "batch".
        value: its value.
        time: seconds.
        memory: bytes besides the weights.
    """

    framework: str
    axis: str
    value: int
    time: Cost
    memory: Cost


def points(rows: Sequence[Mapping[str, Any]]) -> list[Point]:
    """The points along each axis, in each framework, of the rows of the subject that were measured."""
    found = []
    for framework in dict.fromkeys(row["ours"] for row in rows):
        own = {place(row): row for row in rows if row["ours"] == framework and framework in row["bytes"]}
        start = own.get(tuple(START.values()))
        if start is None:
            continue
        for axis, values in AXES.items():
            for value in values:
                row = own.get(tuple((START | {axis: value}).values()))
                if row is not None:
                    found.append(point(framework, axis, value, row, start))
    return found


def place(row: Mapping[str, Any]) -> tuple[int, ...]:
    """Where on the axes a row is."""
    return tuple(row["work"][axis] for axis in START)


def point(framework: str, axis: str, value: int, row: Mapping[str, Any], start: Mapping[str, Any]) -> Point:
    """A row's costs beside the prediction from the start."""

    def cost(taken: float, first: float, needed: str) -> Cost:
        growth = row[needed] / start[needed]
        return Cost(taken, first * growth, growth > 1)

    seconds = (each["seconds"][framework][1] for each in (row, start))
    taken = (max(each["bytes"][framework], 1) for each in (row, start))
    return Point(framework, axis, value, cost(*seconds, "operations"), cost(*taken, "least_bytes"))
