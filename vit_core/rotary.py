"""Rotary positions: by which angles the queries and keys of a patch are turned (Su et al. 2021, arXiv 2104.09864).

Channels of a head are turned in pairs: a pair (x, y) becomes (x cos - y sin, y cos + x sin). One half of the pairs
knows the row, the other the column. Two families do it in ways that differ:

- "centres" (DINOv3): a coordinate is where the patch's centre lies between the image's edges, from -1 to 1, so that it
  is known for images of any size; a pair is a channel of the head's first half and its counterpart in the second.
- "indices" (EVA-02): a coordinate is the number of the row or the column, in a grid that is stretched to the one of
  training; a pair is two neighbouring channels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from vit_core.architecture import RotaryPositions

if TYPE_CHECKING:
    from jaxtyping import Float

    from vit_core.config import PretrainedConfig


def rotary_reference(config: PretrainedConfig) -> tuple[int, int]:
    """Rows and columns to which positions of "indices" stretch a grid: `rotary_grid`, or else the model's own."""
    side = getattr(config, "rotary_grid", None)
    if side is None:
        return config.grid
    return side if isinstance(side, tuple) else (side, side)


def rotary_coordinates(
    rotary: RotaryPositions, grid: tuple[int, int], reference: tuple[int, int]
) -> Float[np.ndarray, "patches 2"]:
    """Row and column of each patch, row by row.

    Args:
        rotary: which coordinates.
        grid: rows and columns of patches in the image.
        reference: of "indices", the rows and columns to which the grid is stretched.

    Returns:
        float64 array (patches, 2).
    """
    places = np.indices(grid).reshape(2, -1).T
    if rotary == "centres":
        return (places + 0.5) / grid * 2 - 1
    return places / np.array(grid) * reference


def rotary_frequencies(rotary: RotaryPositions, head_dim: int, theta: float) -> Float[np.ndarray, " quarter"]:
    """The angle of a coordinate of 1, for each pair of channels that knows the row; those for the column are the same.

    Args:
        rotary: which positions.
        head_dim: width of a head, a multiple of 4.
        theta: the ratio of the first frequency to what would come after the last.

    Returns:
        float64 array (head_dim / 4,).
    """
    frequencies = theta ** -(np.arange(head_dim // 4) / (head_dim // 4))
    return frequencies * 2 * math.pi if rotary == "centres" else frequencies


def rotary_tables(
    rotary: RotaryPositions,
    coordinates: Float[np.ndarray, "patches 2"],
    frequencies: Float[np.ndarray, " quarter"],
) -> tuple[Float[np.ndarray, "patches head_dim"], Float[np.ndarray, "patches head_dim"]]:
    """Cosines and sines for each channel of a head; `rotated` says how they are used.

    Args:
        rotary: which positions.
        coordinates: see `rotary_coordinates`.
        frequencies: see `rotary_frequencies`.
    """
    angles = (coordinates[:, :, None] * frequencies).reshape(len(coordinates), -1)
    angles = np.tile(angles, 2) if rotary == "centres" else np.repeat(angles, 2, axis=1)
    return np.cos(angles), np.sin(angles)


def rotated(
    rotary: RotaryPositions, heads: Float[np.ndarray, "... head_dim"], tables: tuple[np.ndarray, np.ndarray]
) -> Float[np.ndarray, "... head_dim"]:
    """Queries or keys of the patches, turned: `x cos + turned(x) sin`, as the backends do it.

    Args:
        rotary: which positions.
        heads: (..., patches, head_dim).
        tables: see `rotary_tables`.
    """
    cos, sin = tables
    if rotary == "centres":
        first, second = np.split(heads, 2, axis=-1)
        turned = np.concatenate([-second, first], axis=-1)
    else:
        turned = np.stack([-heads[..., 1::2], heads[..., ::2]], axis=-1).reshape(heads.shape)
    return heads * cos + turned * sin
