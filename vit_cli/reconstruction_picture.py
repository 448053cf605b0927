"""A picture of what a masked autoencoder makes of images, as figure 2 of its paper draws it (arXiv 2111.06377)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vit_cli.picture import (
    GAP,
    IMAGE_WIDTH,
    LONGEST_NAME,
    LONGEST_TITLE,
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

PANELS = ("what it saw", "reconstruction", "with what it saw")  # after the original
MASKED_GRAY = 0.5
MOST_IN_A_COLUMN = 12


@dataclass(frozen=True)
class PicturedReconstruction:
    """One image of the picture; pixels are (height, width, channels), from 0 to 1.

    Attributes:
        title: what stands above it.
        pixels: the image.
        painted: every patch as the decoder paints it.
        mask: (rows, columns), true where a patch was left out.
        caption: what stands in small letters below the title.
    """

    title: str
    pixels: np.ndarray
    painted: np.ndarray
    mask: np.ndarray
    caption: str = ""


def draw_reconstructions(path: Path, images: Sequence[PicturedReconstruction], patch_shape: tuple[int, int]) -> None:
    """Draw a row for each image: as it is, what of it was seen, what was painted, and that beside what was seen.

    Args:
        path: the file; its suffix says the format.
        images: one or more, of one size.
        patch_shape: height and width of a patch in pixels.

    Raises:
        OSError: it cannot be written.
    """
    columns = -(-len(images) // MOST_IN_A_COLUMN)
    rows = -(-len(images) // columns)
    height, width, _ = images[0].pixels.shape
    panels = 1 + len(PANELS)
    panel_height = image_height(height, width)
    row_height = panel_height + TITLE_HEIGHT + MARGIN
    column_width = panels * IMAGE_WIDTH + (panels - 1) * GAP + MARGIN
    size = (columns * column_width + MARGIN, rows * row_height + MARGIN)
    figure = new_figure(*size, width)
    for place, image in enumerate(images):
        left = MARGIN + (place // rows) * column_width
        bottom = size[1] - (place % rows) * row_height - TITLE_HEIGHT - MARGIN - panel_height
        is_left_out = np.kron(image.mask, np.ones(patch_shape))[..., None] > 0
        there = (slice(is_left_out.shape[0]), slice(is_left_out.shape[1]))  # the patches may leave some of the image
        seen, both = image.pixels.copy(), image.pixels.copy()
        seen[there] = np.where(is_left_out, MASKED_GRAY, image.pixels[there])
        both[there] = np.where(is_left_out, image.painted, image.pixels[there])
        for panel, pixels in enumerate((image.pixels, seen, image.painted, both)):
            axes = add_axes(figure, left + panel * (IMAGE_WIDTH + GAP), bottom, IMAGE_WIDTH, panel_height)
            show_pixels(axes, np.clip(pixels, 0, 1))
            if panel:
                write(axes, PANELS[panel - 1], 0, 4, **SMALL)
            else:
                write(axes, shortened(image.title, LONGEST_TITLE), 0, 14, fontsize=11, fontweight="bold")
                write(axes, shortened(image.caption, LONGEST_NAME), 0, 4, **SMALL)
    write_picture(figure, path)
