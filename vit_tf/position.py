"""The core's resampling matrices as tensors, for sizes that a graph may leave open."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from keras import ops

from vit_core import position as core
from vit_core.architecture import Resampling
from vit_core.position import CATMULL_ROM_COEFFICIENT, DINO_OFFSET, cubic_weights, linear_weights

if TYPE_CHECKING:
    from tensorflow import Tensor


def is_known(grid: tuple[int | Tensor, int | Tensor]) -> bool:
    """Whether rows and columns of a grid are numbers, rather than what a graph will find out."""
    return all(isinstance(size, int) for size in grid)


def is_same_grid(one: tuple[int, int], other: tuple[int | Tensor, int | Tensor]) -> bool:
    """Whether two grids are known to be the same."""
    return is_known(other) and tuple(one) == tuple(other)


def resample_grid(
    patches: Float[Tensor, "rows columns hidden"],
    new_grid: tuple[int | Tensor, int | Tensor],
    weights_at: Callable[[Any], dict[int, Any]] = cubic_weights,
    resampling: Resampling = "bicubic",
) -> Float[Tensor, "new_rows new_columns hidden"]:
    """Resample a grid of embeddings as `vit_core.position` defines it.

    Args:
        patches: one embedding for each patch. Half precision is computed in float32.
        new_grid: rows and columns wanted; neither needs to be square, and both may be scalar tensors.
        weights_at: the kernel, `vit_core.position.cubic_weights` or `linear_weights`.
        resampling: see `vit_core.position.resampling_matrix`; an offset does nothing to a grid that stays the same.

    Returns:
        The embeddings for the new grid, of the dtype of `patches`.
    """
    old_grid = patches.shape[:2]
    matrices = [
        resampling_matrix(old, new, weights_at, resampling) for old, new in zip(old_grid, new_grid, strict=True)
    ]
    if resampling == "offset":
        if is_same_grid(old_grid, new_grid):
            return patches
        are_same = [ops.equal(old, new) for old, new in zip(old_grid, new_grid, strict=True)]
        is_same = ops.logical_and(*are_same)
        matrices = [ops.where(is_same, _identity(matrix), matrix) for matrix in matrices]
    exact = patches if patches.dtype == "float64" else ops.cast(patches, "float32")
    rows, columns = (ops.cast(matrix, exact.dtype) for matrix in matrices)
    tall = ops.tensordot(rows, exact, axes=(1, 0))
    return ops.cast(ops.transpose(ops.tensordot(columns, tall, axes=(1, 1)), (1, 0, 2)), patches.dtype)


def resampling_matrix(
    old_length: int,
    new_length: int | Tensor,
    weights_at: Callable[[Any], dict[int, Any]] = cubic_weights,
    resampling: Resampling = "bicubic",
) -> Float[Tensor, "new_length old_length"]:
    """See `vit_core.position.resampling_matrix`; the matrix is in float64."""
    if isinstance(new_length, int):
        return ops.convert_to_tensor(core.resampling_matrix(old_length, new_length, weights_at, resampling))
    if resampling == "bilinear":
        weights_at = linear_weights
    length = ops.cast(new_length, "float64")
    rows = ops.arange(new_length, dtype="int32")
    if resampling in ("antialiased", "catmull-rom"):
        step = old_length / length
        width = ops.maximum(step, 1.0) if resampling == "antialiased" else 1.0
        return _catmull_rom(old_length, ops.cast(rows, "float64"), step, width)
    if resampling == "offset":
        places = (ops.cast(rows, "float64") + 0.5) * old_length / (length + DINO_OFFSET) - 0.5
        nearest = ops.floor(places)
        return _spread(ops.cast(nearest, "int32"), weights_at(places - nearest), old_length)
    numerators = (2 * rows + 1) * old_length - new_length
    nearest = ops.floor_divide(numerators, 2 * new_length)
    fractions = ops.cast(numerators - nearest * (2 * new_length), "float64") / (2 * length)
    return _spread(nearest, weights_at(fractions), old_length)


def _spread(nearest: Tensor, weights_by_tap: dict[int, Any], old_length: int) -> Tensor:
    """The matrix of weights of old values, by their position relative to the nearest; edge values are repeated."""
    places = ops.arange(old_length, dtype="int32")
    return sum(
        weights[:, None] * ops.cast(ops.clip(nearest + tap, 0, old_length - 1)[:, None] == places, "float64")
        for tap, weights in weights_by_tap.items()
    )


def _identity(matrix: Tensor) -> Tensor:
    """What leaves values as they are, of the shape of another matrix."""
    new_length, old_length = ops.shape(matrix)
    return ops.cast(ops.arange(new_length)[:, None] == ops.arange(old_length), matrix.dtype)


def _catmull_rom(old_length: int, rows: Tensor, step: Tensor, width: Tensor | float) -> Tensor:
    """The matrix of a kernel that may be wider where there are fewer new values than old ones."""
    a = CATMULL_ROM_COEFFICIENT
    old_places = ops.arange(old_length, dtype="float64") + 0.5
    x = ops.abs((old_places - ((rows + 0.5) * step)[:, None]) / width)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    weights = ops.where(x < 1, near, ops.where(x < 2, far, ops.zeros_like(x)))
    return weights / ops.sum(weights, axis=1, keepdims=True)
