"""The core's resampling matrices as tensors, for sizes that a graph may leave open."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from keras import ops

from vit_core.position import cubic_weights

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
) -> Float[Tensor, "new_rows new_columns hidden"]:
    """Resample a grid of embeddings as `vit_core.position` defines it.

    Args:
        patches: one embedding for each patch. Half precision is computed in float32.
        new_grid: rows and columns wanted; neither needs to be square, and both may be scalar tensors.
        weights_at: the kernel, `vit_core.position.cubic_weights` or `linear_weights`.

    Returns:
        The embeddings for the new grid, of the dtype of `patches`.
    """
    exact = patches if patches.dtype == "float64" else ops.cast(patches, "float32")
    rows, columns = (
        ops.cast(resampling_matrix(old, new, weights_at), exact.dtype)
        for old, new in zip(patches.shape[:2], new_grid, strict=True)
    )
    tall = ops.tensordot(rows, exact, axes=(1, 0))
    return ops.cast(ops.transpose(ops.tensordot(columns, tall, axes=(1, 1)), (1, 0, 2)), patches.dtype)


def resampling_matrix(
    old_length: int, new_length: int | Tensor, weights_at: Callable[[Any], dict[int, Any]] = cubic_weights
) -> Float[Tensor, "new_length old_length"]:
    """See `vit_core.position.resampling_matrix`; the matrix is in float64."""
    numerators = (2 * ops.arange(new_length, dtype="int32") + 1) * old_length - new_length
    nearest = ops.floor_divide(numerators, 2 * new_length)
    fractions = ops.cast(numerators - nearest * (2 * new_length), "float64") / ops.cast(2 * new_length, "float64")
    places = ops.arange(old_length, dtype="int32")
    return sum(
        weights[:, None] * ops.cast(ops.clip(nearest + tap, 0, old_length - 1)[:, None] == places, "float64")
        for tap, weights in weights_at(fractions).items()
    )
