"""Images as patches and patches as images, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


def grid_of(size: Sequence[int], patch_shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of whole patches in an image, in the form in which a convolution computes them.

    That form lets PyTorch see for sizes that are symbols that positions and patches are equally many.

    Args:
        size: height and width of the image, in pixels; tensors in graphs of any size.
        patch_shape: height and width of a patch, in pixels.
    """
    (height, width), (patch_height, patch_width) = size, patch_shape
    return (height - patch_height) // patch_height + 1, (width - patch_width) // patch_width + 1


def patchify(
    images: Float[np.ndarray, "batch channels height width"], patch_shape: tuple[int, int]
) -> Float[np.ndarray, "batch patches pixels"]:
    """Cut images into patches, row by row; of a pixel's values, the channels come last (as MAE has them).

    Args:
        images: whose height and width are multiples of a patch's.
        patch_shape: height and width of a patch.
    """
    batch, channels, *size = images.shape
    (rows, columns), (height, width) = grid_of(size, patch_shape), patch_shape
    cut = images.reshape(batch, channels, rows, height, columns, width)
    return cut.transpose(0, 2, 4, 3, 5, 1).reshape(batch, -1, height * width * channels)


def unpatchify(
    patches: Float[np.ndarray, "batch patches pixels"], patch_shape: tuple[int, int], grid: tuple[int, int]
) -> Float[np.ndarray, "batch channels height width"]:
    """Put patches together again; the inverse of `patchify`.

    Args:
        patches: row by row.
        patch_shape: height and width of a patch.
        grid: rows and columns of patches.
    """
    (rows, columns), (height, width) = grid, patch_shape
    cut = patches.reshape(len(patches), rows, columns, height, width, -1)
    return cut.transpose(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, rows * height, columns * width)
