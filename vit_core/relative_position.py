"""Relative positions as BEiT has them (Bao et al. 2021, https://arxiv.org/abs/2106.08254; the code is Swin's).

A table holds one number for each head and each way from one patch to another, in rows and columns; three more rows are
for ways from the class token, to it, and from it to itself. Which row belongs to which pair of tokens is the index.
Reference: microsoft/unilm, beit/modeling_finetune.py, RelativePositionBias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vit_core.position import linear_weights, resampling_matrix

if TYPE_CHECKING:
    from jaxtyping import Float, Int

#: Rows at the end of a table: from a token before the patches to a patch, from a patch to it, between such tokens.
PREFIX_ROWS = 3


def table_length(grid: tuple[int, int], prefix_tokens: int = 1) -> int:
    """The number of rows of the table for a grid of patches."""
    rows, columns = grid
    return (2 * rows - 1) * (2 * columns - 1) + (PREFIX_ROWS if prefix_tokens else 0)


def relative_position_index(grid: tuple[int, int], prefix_tokens: int = 1) -> Int[np.ndarray, "tokens tokens"]:
    """The row of the table for each pair of tokens: the one that asks, and the one that is looked at.

    Args:
        grid: rows and columns of patches.
        prefix_tokens: how many tokens stand before them.

    Returns:
        int32 array of shape (prefix_tokens + rows * columns,) * 2.
    """
    rows, columns = grid
    row, column = (places.reshape(-1) for places in np.indices(grid))
    down = row[:, None] - row[None] + rows - 1
    right = column[:, None] - column[None] + columns - 1
    between_patches = down * (2 * columns - 1) + right
    if not prefix_tokens:
        return between_patches.astype(np.int32)
    from_prefix, to_prefix, within_prefix = range(table_length(grid) - PREFIX_ROWS, table_length(grid))
    index = np.full((prefix_tokens + rows * columns,) * 2, within_prefix, np.int32)
    index[:prefix_tokens, prefix_tokens:] = from_prefix
    index[prefix_tokens:, :prefix_tokens] = to_prefix
    index[prefix_tokens:, prefix_tokens:] = between_patches
    return index


def resample_table(
    table: Float[np.ndarray, "old_rows heads"], old_grid: tuple[int, int], new_grid: tuple[int, int]
) -> Float[np.ndarray, "new_rows heads"]:
    """Resample a table for another grid of patches, bilinearly; the rows of tokens before the patches stay.

    transformers reads the old grid as (columns, rows) here, so that tables of grids that are not square come out mixed
    up; this follows the paper's meaning.

    Args:
        table: one row for each way, as `relative_position_index` counts them.
        old_grid: rows and columns that it is for.
        new_grid: rows and columns wanted.
    """
    (old_height, old_width), (new_height, new_width) = (_ways(grid) for grid in (old_grid, new_grid))
    ways = table[: old_height * old_width].reshape(old_height, old_width, -1).astype(np.float64)
    down = resampling_matrix(old_height, new_height, linear_weights)
    right = resampling_matrix(old_width, new_width, linear_weights)
    resampled = np.einsum("rd,dgh,cg->rch", down, ways, right)
    flat = resampled.reshape(new_height * new_width, -1).astype(table.dtype)
    return np.concatenate([flat, table[old_height * old_width :]])


def _ways(grid: tuple[int, int]) -> tuple[int, int]:
    """How many ways there are down and to the right."""
    return 2 * grid[0] - 1, 2 * grid[1] - 1
