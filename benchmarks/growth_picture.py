"""A picture of how cost grows: time and memory along each axis, lines as measured and dots as predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.growth import Cost, Point, points
from benchmarks.subjects.growth import AXES
from benchmarks.tables import of
from benchmarks.theme import MARKERS, RESOLUTION, WIDTH, Theme, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


TITLES = {"image": "pixels along a side", "layers": "layers", "batch": "images in a batch"}
#: What is drawn, in which unit, and how many of that unit there are in a second or a byte.
MEASURES = {"time": ("milliseconds", 1e3), "memory": ("MB besides weights", 1e-6)}
LEAST_RANGE = 10
PREDICTED = "predicted by the arithmetic, from 224 pixels, 12 layers and one image"


def growth(kept: Mapping[str, Any], theme: Theme) -> Figure | None:
    """A line of panels for time and one for memory, a panel for each axis; None if that was not measured."""
    from matplotlib.figure import Figure

    found = points(of(kept, "growth"))
    if not found:
        return None
    figure = Figure((WIDTH, 6.4), dpi=RESOLUTION, layout="constrained")
    grid = figure.subplots(len(MEASURES), len(AXES), squeeze=False)
    for line, measure in zip(grid, MEASURES, strict=True):
        for axes, axis in zip(line, AXES, strict=True):
            panel(axes, measure, axis, [point for point in found if point.axis == axis], theme)
    handles, labels = grid[0][0].get_legend_handles_labels()
    (dots,) = grid[0][0].plot([], [], color=theme.ours, linewidth=1, linestyle=":")
    figure.legend(
        [*handles, dots],
        [*labels, PREDICTED],
        loc="outside upper left",
        ncols=len(labels) + 1,
        frameon=False,
        labelcolor=theme.ink,
        fontsize=9,
    )
    return figure


def panel(axes: Axes, measure: str, axis: str, found: Sequence[Point], theme: Theme) -> None:
    """Draw a cost of each framework along an axis."""
    from matplotlib.ticker import LogLocator, ScalarFormatter

    unit, factor = MEASURES[measure]
    for number, framework in enumerate(dict.fromkeys(point.framework for point in found)):
        own = [point for point in found if point.framework == framework]
        costs: list[Cost] = [getattr(point, measure) for point in own]
        values, colour = [point.value for point in own], theme.colours[number]
        taken, predicted = ([getattr(cost, name) * factor for cost in costs] for name in ("taken", "predicted"))
        axes.plot(values, taken, color=colour, marker=MARKERS[number], markersize=4, linewidth=1.6, label=framework)
        axes.plot(values, predicted, color=colour, linewidth=1, linestyle=":")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(AXES[axis], [str(value) for value in AXES[axis]])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    low, high = axes.get_ylim()
    if high / low < LEAST_RANGE:  # what hardly differs looks so
        middle = math.sqrt(low * high)
        axes.set_ylim(middle / math.sqrt(LEAST_RANGE), middle * math.sqrt(LEAST_RANGE))
    axes.minorticks_off()
    axes.set_title(f"{unit} by {TITLES[axis]}", loc="left", fontsize=10, color=theme.ink)
    plain(axes, theme)
    axes.grid(axis="y", color=theme.pale, linewidth=0.6)
