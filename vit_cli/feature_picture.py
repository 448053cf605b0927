"""A picture of the features of patches: their first principal components as colours, as DINOv2's paper draws them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vit_cli.picture import (
    FOOTER_HEIGHT,
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

COLUMNS = 4  # of images, each with its colours beside it
COLOURS = 3  # red, green, blue
CHARACTERS_AN_INCH = 17  # of small letters
#: Values outside these percentiles have the colour of the percentile, so that single patches do not fade all others.
DARKEST, BRIGHTEST = 1, 99


@dataclass(frozen=True)
class PicturedFeatures:
    """One image of the picture.

    Attributes:
        title: what stands above it.
        pixels: what the model saw, (height, width, channels), in [0, 1].
        components: where its patches lie along the components, (rows, columns, 3).
    """

    title: str
    pixels: np.ndarray
    components: np.ndarray


def draw_features(path: Path, images: Sequence[PicturedFeatures], patch_shape: tuple[int, int], scale: str) -> None:
    """Draw each image and beside it its patches in colours, which mean the same in all of the images.

    Nothing is cut out: DINOv2's paper removes the background by a threshold on the first component, whose sign says so
    for some models and images only.

    Args:
        path: the file; its suffix says the format.
        images: one or more, of one size.
        patch_shape: height and width of a patch in pixels.
        scale: what the colours stand for.

    Raises:
        OSError: it cannot be written.
    """
    colours = as_colours(np.stack([image.components for image in images]))
    columns = min(COLUMNS, len(images))
    rows = math.ceil(len(images) / columns)
    height, width, _ = images[0].pixels.shape
    panel_height = image_height(height, width)
    column_width = 2 * IMAGE_WIDTH + GAP + MARGIN
    row_height = panel_height + TITLE_HEIGHT + MARGIN
    size = (columns * column_width + MARGIN, rows * row_height + FOOTER_HEIGHT)
    figure = new_figure(*size, width)
    for place, (image, patches) in enumerate(zip(images, colours, strict=True)):
        left = MARGIN + (place % columns) * column_width
        bottom = size[1] - (place // columns) * row_height - TITLE_HEIGHT - MARGIN - panel_height
        plain = add_axes(figure, left, bottom, IMAGE_WIDTH, panel_height)
        show_pixels(plain, image.pixels)
        write(plain, shortened(image.title, LONGEST_TITLE), 0, 14, fontsize=11, fontweight="bold")
        write(plain, shortened(f"{patches.shape[0]} x {patches.shape[1]} patches", LONGEST_NAME), 0, 4, **SMALL)
        painted = np.ones_like(image.pixels, shape=(height, width, COLOURS))
        covered = np.kron(patches, np.ones((*patch_shape, 1)))
        painted[: covered.shape[0], : covered.shape[1]] = covered  # the patches may leave some of the image
        show_pixels(add_axes(figure, left + IMAGE_WIDTH + GAP, bottom, IMAGE_WIDTH, panel_height), painted)
    footer = add_axes(figure, MARGIN, 0, size[0] - 2 * MARGIN, 0.45)
    footer.set_axis_off()
    for line, text in enumerate(textwrap.wrap(scale, int((size[0] - 2 * MARGIN) * CHARACTERS_AN_INCH))):
        write(footer, text, 0, 4 - 10 * line, **SMALL)
    write_picture(figure, path)


def as_colours(components: np.ndarray) -> np.ndarray:
    """Components, (..., 3), as red, green and blue from 0 to 1, each over its own range; gray where it has none."""
    low, high = np.percentile(components.reshape(-1, COLOURS), (DARKEST, BRIGHTEST), axis=0)
    span = np.where(high > low, high - low, 1)
    return np.where(high > low, np.clip((components - low) / span, 0, 1), 0.5)
