"""A picture of where a model looked: maps of its attention, laid over the images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vit_cli.picture import (
    FOOTER_HEIGHT,
    GAP,
    IMAGE_WIDTH,
    LONGEST_CAPTION,
    LONGEST_NAME,
    MARGIN,
    SMALL,
    TITLE_HEIGHT,
    add_axes,
    image_height,
    new_figure,
    shortened,
    show_pixels,
    write,
    write_picture,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4  # of images that have one map each
MASKED_BRIGHTNESS = 0.3


@dataclass(frozen=True)
class PicturedMap:
    """One map, to be laid over its image.

    Attributes:
        weights: (patches,), how much the model looked at each patch, row by row of the image.
        caption: what stands above it.
        kept: (patches,), bool, the patches that are shown; the others are masked. All are shown unless given.
    """

    weights: np.ndarray
    caption: str = ""
    kept: np.ndarray | None = None


@dataclass(frozen=True)
class PicturedImage:
    """One image of the picture.

    Attributes:
        title: what stands above it and its first map, of about `LONGEST_TITLE` characters.
        pixels: what the model saw, (height, width, channels), in [0, 1].
        patch_shape: height and width of a patch in pixels.
        maps: one or more.
        caption: what stands in small letters below the title.
    """

    title: str
    pixels: np.ndarray
    patch_shape: tuple[int, int]
    maps: Sequence[PicturedMap]
    caption: str = ""


def draw_picture(path: Path, images: Sequence[PicturedImage], scale: str) -> None:
    """Draw the images, each followed by its maps, and write the picture.

    With one map an image, several images stand in a row; otherwise each has a row of its own.

    Args:
        path: the file; its suffix says the format.
        images: one or more, of one size and with as many maps each.
        scale: what the colours stand for.

    Raises:
        OSError: it cannot be written.
    """
    panels = 1 + len(images[0].maps)
    columns = min(COLUMNS, len(images)) if panels == 2 else 1
    rows = math.ceil(len(images) / columns)
    height, width, _ = images[0].pixels.shape
    panel_height = image_height(height, width)
    column_width = panels * IMAGE_WIDTH + (panels - 1) * GAP + MARGIN
    row_height = panel_height + TITLE_HEIGHT + MARGIN
    size = (columns * column_width + MARGIN, rows * row_height + FOOTER_HEIGHT)
    figure = new_figure(*size, width)
    for place, image in enumerate(images):
        left = MARGIN + (place % columns) * column_width
        bottom = size[1] - (place // columns) * row_height - TITLE_HEIGHT - MARGIN - panel_height
        lefts = [left + panel * (IMAGE_WIDTH + GAP) for panel in range(panels)]
        _draw_image([add_axes(figure, left, bottom, IMAGE_WIDTH, panel_height) for left in lefts], image)
    _draw_scale(figure, scale)
    write_picture(figure, path)


def _draw_image(panels: Sequence[Axes], image: PicturedImage) -> None:
    plain, *overlaid = panels
    gray = image.pixels.mean(axis=-1)
    show_pixels(plain, image.pixels)
    for axes, each in zip(overlaid, image.maps, strict=True):
        _draw_map(axes, each, gray, image.patch_shape)
        write(axes, shortened(each.caption, LONGEST_CAPTION), 0, 4, **SMALL)
    height, width = gray.shape
    for axes in overlaid:
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="auto")
        axes.set_axis_off()
    write(plain, image.title, 0, 14, fontsize=11, fontweight="bold")
    write(plain, shortened(image.caption, LONGEST_NAME), 0, 4, **SMALL)


def _draw_map(axes: Axes, drawn: PicturedMap, gray: np.ndarray, patch_shape: tuple[int, int]) -> None:
    """Lay a map over its image in gray, and darken what is masked."""
    axes.imshow(gray, cmap="gray", vmin=0, vmax=1)
    (height, width), (patch_height, patch_width) = gray.shape, patch_shape
    rows, columns = height // patch_height, width // patch_width
    axes.imshow(
        _stretch(drawn.weights).reshape(rows, columns),
        cmap="inferno",
        alpha=0.65,
        vmin=0,
        vmax=1,
        interpolation="catrom" if drawn.kept is None else "nearest",  # both keep the values in the middle of patches
        extent=(-0.5, columns * patch_width - 0.5, rows * patch_height - 0.5, -0.5),  # what is left over is not seen
    )
    if drawn.kept is not None:
        masked = np.ones(gray.shape)
        masked[: rows * patch_height, : columns * patch_width] = np.kron(
            ~drawn.kept.reshape(rows, columns), np.ones(patch_shape)
        )
        axes.imshow(np.dstack([MASKED_BRIGHTNESS * gray] * 3 + [masked]), interpolation="nearest")


def _draw_scale(figure: Figure, meaning: str) -> None:
    """What the colours of the overlay mean."""
    from matplotlib.cm import ScalarMappable

    across = figure.get_size_inches()[0]
    width = min(4.0, across - 4 * MARGIN)
    axes = add_axes(figure, (across - width) / 2, 0.25, width, 0.08)
    scale = figure.colorbar(ScalarMappable(cmap="inferno"), cax=axes, orientation="horizontal", ticks=[])
    scale.outline.set_visible(False)
    write(axes, "looked least", 0, -18, **SMALL)
    write(axes, "most", 1, -18, ha="right", **SMALL)
    write(axes, meaning, 0.5, 4, ha="center", **SMALL)


def _stretch(weights: np.ndarray) -> np.ndarray:
    """The weights over the whole range from 0 to 1; all 0 if they are equal."""
    low, high = weights.min(), weights.max()
    return (weights - low) / (high - low) if high > low else np.zeros_like(weights)
