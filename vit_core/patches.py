"""Images as patches and patches as images, in numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


def patchify(
    images: Float[np.ndarray, "batch channels height width"], patch_shape: tuple[int, int]
) -> Float[np.ndarray, "batch patches pixels"]:
    """Cut images into patches, row by row; of a pixel's values, the channels come last (as MAE has them).

    Args:
        images: whose height and width are multiples of a patch's.
        patch_shape: height and width of a patch.
    """
    batch, channels, height, width = images.shape
    patch_height, patch_width = patch_shape
    cut = images.reshape(batch, channels, height // patch_height, patch_height, width // patch_width, patch_width)
    return cut.transpose(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch_height * patch_width * channels)


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
