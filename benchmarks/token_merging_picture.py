"""A picture of what token merging gains and what it costs, over the share of tokens that layers have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.models import fields_of
from benchmarks.subjects.token_merging import MODEL, PLAIN, READER, left
from benchmarks.tables import of
from benchmarks.theme import MARKERS, RESOLUTION, Theme, plain
from vit_core import ViTConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (9.0, 3.6)  # inches
FRAMEWORK = "PyTorch"  # the one that is drawn
#: For each schedule, how far its numbers stand from its points, in points.
SCHEDULES = {"constant": 6, "decreasing": -12}
TOKENS = "tokens in a layer, on average, of those without merging"
SAME = "same answer"
Points = list[tuple[int, str, float]]  # what `merge_tokens` is called with, and the measure


def token_merging(kept: Mapping[str, Any], theme: Theme) -> Figure | None:
    """Images a second of a model, and how many answers of the reader of digits stay the same; None if unmeasured."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator

    rows = of(kept, "token_merging")
    gained = [(*row["work"]["merging"], row["ratios"][PLAIN][1]) for row in rows if is_drawn(row)]
    agreed = [(*row["work"]["merging"], row["quality"][SAME]) for row in rows if "quality" in row]
    if not (gained and agreed):
        return None
    figure = Figure(SIZE, dpi=RESOLUTION, layout="constrained")
    speed, answers = figure.subplots(1, 2)
    panel(speed, f"images a second, {MODEL} in {FRAMEWORK}", gained, ViTConfig(**fields_of(MODEL)), theme)
    speed.yaxis.set_major_locator(MultipleLocator(0.5))
    speed.yaxis.set_major_formatter("{x:.1f} times")
    panel(
        answers, f"{SAME} as without merging, {READER}", agreed, ViTConfig.from_pretrained(f"bundled/{READER}"), theme
    )
    answers.yaxis.set_major_formatter("{x:.1%}")
    return figure


def is_drawn(row: Mapping[str, Any]) -> bool:
    """Whether the row's speed is in the picture."""
    return row["ours"] == FRAMEWORK and PLAIN in row["ratios"]


def panel(axes: Axes, title: str, points: Points, config: ViTConfig, theme: Theme) -> None:
    """Draw a measure, which is one without merging, for each schedule."""
    for number, (schedule, away) in enumerate(SCHEDULES.items()):
        own = [(0, 1.0, 1.0)] + [
            (count, left(count, schedule, config), value) for count, kind, value in points if kind == schedule
        ]
        _, shares, values = zip(*own, strict=True)
        style = {"color": theme.colours[number], "marker": MARKERS[number], "linestyle": ("-", "--")[number]}
        axes.plot(shares, values, markersize=4, linewidth=1.6, label=schedule, **style)
        for count, *point in own[1:]:
            axes.annotate(
                str(count),
                point,
                (0, away),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
                color=theme.colours[number],
            )
    plain(axes, theme)
    axes.grid(axis="y", color=theme.pale, linewidth=0.6)
    axes.set_title(title, loc="left", fontsize=10, color=theme.ink)
    axes.set_xlabel(TOKENS, fontsize=8.5, color=theme.ink)
    axes.invert_xaxis()
    axes.margins(y=0.15)
    axes.xaxis.set_major_formatter("{x:.0%}")
    legend = axes.legend(fontsize=8.5, frameon=False, labelcolor=theme.ink, title="tokens merged a layer")
    legend.get_title().set(color=theme.ink, fontsize=8.5)
