"""A picture of how many times as long as ours the others take: a panel for each subject, a line for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.subjects import SUBJECTS, subject_of
from benchmarks.tables import is_disturbed, of, peers_of
from benchmarks.theme import MARKERS, RESOLUTION, WIDTH, Theme, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Names that peers share across tables, so that each has one colour.
KNOWN = (
    "transformers 5",
    "timm",
    "onnxruntime",
    "KerasHub",
    "transformers 4",
    "plain linen",
    "trivit, float32",
    "torch.ao",
)
#: Peers that are there twice in a table.
SAME = {"transformers 5, PIL": "transformers 5", "transformers 5, fast": "transformers 5"}
COLUMNS = 3
HOW = "Right of the line Trivit is faster. Medians, with quartiles of the rounds; behind a model's name, its batch."
DISTURBED_HOW = "Measured while other programs used the machine: this says little. Right of the line Trivit is faster."
# Inches.
ROW, TITLE, TICKS, HEAD = 0.17, 0.5, 0.25, 0.85
LABELS, GAP = 1.62, 0.3


def comparison(kept: Mapping[str, Any], theme: Theme) -> Figure | None:
    """A panel for each subject in which others are compared with ours; None if there is none."""
    from matplotlib.figure import Figure

    compared = {name: [row for row in of(kept, name) if row["ratios"]] for name in SUBJECTS}
    panels = {name: rows for name, rows in compared.items() if rows and subject_of(name).has_peers}
    if not panels:
        return None
    columns = arranged({name: TITLE + len(rows) * ROW + TICKS for name, rows in panels.items()})
    height = max(sum(heights.values()) for heights in columns) + HEAD
    figure = Figure((WIDTH, height), dpi=RESOLUTION)
    seen: dict[str, Any] = {}
    column_width = WIDTH / len(columns)
    for number, heights in enumerate(columns):
        top = height - HEAD
        for name, taken in heights.items():
            inner = len(panels[name]) * ROW
            bottom = top - TITLE - inner
            place = (number * column_width + LABELS, bottom, column_width - LABELS - GAP, inner)
            axes = figure.add_axes((place[0] / WIDTH, place[1] / height, place[2] / WIDTH, place[3] / height))
            seen |= panel(axes, subject_of(name).title, panels[name], theme)
            top -= taken
    how = DISTURBED_HOW if is_disturbed(kept) else HOW
    head(figure, height, how, {name: seen[name] for name in KNOWN if name in seen}, theme)
    return figure


def head(figure: Figure, height: float, how: str, legend: Mapping[str, Any], theme: Theme) -> None:
    """What stands above all panels: what is shown, how to read it, and who is who."""
    style = {"color": theme.ink, "va": "center"}
    title = "How many times as long as Trivit the others take"
    figure.text(0.01, 1 - 0.2 / height, title, fontsize=13, fontweight="bold", **style)
    figure.text(0.01, 1 - 0.5 / height, how, fontsize=9, **style)
    figure.legend(
        legend.values(),
        legend.keys(),
        loc="upper left",
        bbox_to_anchor=(0, 1 - 0.6 / height),
        ncols=len(legend),
        frameon=False,
        labelcolor=theme.ink,
        fontsize=8.5,
        handletextpad=0.1,
        columnspacing=1.0,
    )


def arranged(heights: Mapping[str, float]) -> list[dict[str, float]]:
    """Panels in columns: each in turn where there is most room."""
    columns: list[dict[str, float]] = [{} for _ in range(min(COLUMNS, len(heights)))]
    for name, height in heights.items():
        min(columns, key=lambda column: sum(column.values()))[name] = height
    return columns


def panel(axes: Axes, title: str, rows: Sequence[Mapping[str, Any]], theme: Theme) -> dict[str, Any]:
    """Draw a subject's ratios; returns what stands in the legend for each peer."""
    drawn = {}
    for peer in (name for name in peers_of(rows) if SAME.get(name, name) in KNOWN):  # others are ways of ours
        known = SAME.get(peer, peer)
        style = KNOWN.index(known)
        places = [place for place, row in enumerate(rows) if peer in row["ratios"]]
        heights = [place + offset(list(rows[place]["ratios"]), peer) for place in places]
        lows, middles, highs = zip(*(rows[place]["ratios"][peer] for place in places), strict=True)
        colour = theme.colours[style]
        axes.hlines(heights, lows, highs, color=colour, linewidth=1.1, alpha=0.75)
        drawn[known] = axes.scatter(middles, heights, s=17, marker=MARKERS[style], color=colour, linewidths=0, zorder=3)
    axes.axvline(1, color=theme.ours, linewidth=1.2, zorder=1)
    logarithmic(axes, [value for row in rows for ratio in row["ratios"].values() for value in ratio])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [label(row) for row in rows], fontsize=7.5, color=theme.ink)
    for place in range(1, len(rows), 2):
        axes.axhspan(place - 0.5, place + 0.5, color=theme.pale, alpha=0.28, linewidth=0, zorder=0)
    left = -(LABELS - 0.12) / (WIDTH / COLUMNS - LABELS - GAP)  # above the labels
    axes.set_title(title, loc="left", x=left, fontsize=10, fontweight="bold", color=theme.ink)
    plain(axes, theme)
    return drawn


def offset(peers: Sequence[str], peer: str) -> float:
    """How far below the middle of its row a peer is drawn."""
    return (peers.index(peer) - (len(peers) - 1) / 2) * 0.66 / max(len(peers), 3)


def label(row: Mapping[str, Any]) -> str:
    """What a row is called in little space."""
    text = row["title"].replace(", float32", "").replace("with registers", "reg.").replace("training step", "training")
    return (
        text.replace(", batch ", " x ")
        .replace("bfloat16", "bf16")
        .replace(" of 500 x 375", "")
        .replace(" of 4000 x 3000", ", 12 MP")
        .replace("ViTImageProcessorFast", "fast")
        .replace("draft=True", "draft")
        .replace(", ViT-Ti/16", "")
        .replace("import a model in", "import in")
    )


def logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """A scale on which twice and half are as far from one; every value is on it."""
    low, high = min(0.8, *values), max(1.25, *values)
    axes.set_xscale("log")
    axes.set_xlim(low / 1.04, high * 1.04)
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if high / low > 6 else (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4)
    steps = steps if high / low > 2 else (0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6)
    ticks = [step for step in steps if low <= step <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
