"""The core's relative positions as tensors, for grids that a graph may leave open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from keras import ops

from vit_core import relative_position as core
from vit_core.position import linear_weights
from vit_tf.position import is_known, resample_grid

if TYPE_CHECKING:
    from tensorflow import Tensor

Grid = tuple["int | Tensor", "int | Tensor"]


def relative_position_index(grid: Grid, prefix_tokens: int = 1) -> Int[Tensor, "tokens tokens"]:
    """See `vit_core.relative_position.relative_position_index`; rows and columns may be scalar tensors."""
    if is_known(grid):
        return ops.convert_to_tensor(core.relative_position_index(grid, prefix_tokens))
    rows, columns = (ops.cast(size, "int32") for size in grid)
    places = ops.arange(rows * columns, dtype="int32")
    row, column = places // columns, places % columns
    down = row[:, None] - row[None] + rows - 1
    right = column[:, None] - column[None] + columns - 1
    between_patches = down * (2 * columns - 1) + right
    if not prefix_tokens:
        return between_patches
    from_prefix = (2 * rows - 1) * (2 * columns - 1)
    to_prefix, within_prefix = from_prefix + 1, from_prefix + 2
    above = ops.broadcast_to(from_prefix, (prefix_tokens, rows * columns))
    left = ops.broadcast_to(to_prefix, (rows * columns, prefix_tokens))
    corner = ops.broadcast_to(within_prefix, (prefix_tokens, prefix_tokens))
    top = ops.concatenate([corner, above], axis=1)
    return ops.concatenate([top, ops.concatenate([left, between_patches], axis=1)], axis=0)


def resample_table(
    table: Float[Tensor, "old_rows heads"], old_grid: tuple[int, int], new_grid: Grid
) -> Float[Tensor, "new_rows heads"]:
    """See `vit_core.relative_position.resample_table`; the new grid's rows and columns may be scalar tensors."""
    old_ways = (2 * old_grid[0] - 1, 2 * old_grid[1] - 1)
    new_ways = (2 * new_grid[0] - 1, 2 * new_grid[1] - 1)
    between_patches = old_ways[0] * old_ways[1]
    heads = table.shape[1]
    ways = ops.reshape(table[:between_patches], (*old_ways, heads))
    resampled = ops.reshape(resample_grid(ways, new_ways, linear_weights), (-1, heads))
    return ops.concatenate([resampled, table[between_patches:]], axis=0)
