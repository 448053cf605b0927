"""What all pictures share: the colours of light and dark pages, and plain axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESOLUTION = 130
WIDTH = 12.0  # inches


@dataclass(frozen=True)
class Theme:
    """Colours of a page.

    Attributes:
        suffix: of the names of its pictures.
        ink: of words.
        pale: of lines in the background.
        ours: of the line where both take the same.
        colours: of peers or frameworks, in the order in which they come; they differ for the colour-blind, too.
    """

    suffix: str
    ink: str
    pale: str
    ours: str
    colours: tuple[str, ...]


#: After Okabe and Ito, "Color Universal Design" (2008).
THEMES = (
    Theme(
        *("", "#24292f", "#d8dee4", "#57606a"),
        ("#0072b2", "#d55e00", "#009e73", "#a8497f", "#8f6b00", "#333333", "#5b3fa8", "#b3261e"),
    ),
    Theme(
        *("-dark", "#e6edf3", "#3d444d", "#9198a1"),
        ("#56b4e9", "#ff8c42", "#2ec4a0", "#e08fc0", "#f0e442", "#d0d0d0", "#b39ddb", "#ff6b6b"),
    ),
)
MARKERS = "osD^vPX*"


def plain(axes: Axes, theme: Theme) -> None:
    """Nothing but what is drawn, its numbers and pale lines."""
    axes.grid(axis="x", color=theme.pale, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=theme.ink, labelsize=7.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
