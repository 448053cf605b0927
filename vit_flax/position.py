"""The core's resampling matrices as constants: in JAX, sizes are known when a function is traced."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vit_core.architecture import Resampling
from vit_core.position import linear_weights, resampling_matrix


def resample_grid(
    patches: Float[Array, "rows columns hidden"], new_grid: tuple[int, int], resampling: Resampling = "bicubic"
) -> Float[Array, "new_rows new_columns hidden"]:
    """Resample a grid of embeddings as `vit_core.position` defines it.

    Args:
        patches: one embedding for each patch. Half precision is computed in float32.
        new_grid: rows and columns wanted; neither needs to be square.
        resampling: see `vit_core.position.resampling_matrix`.

    Returns:
        The embeddings for the new grid, of the dtype of `patches`.
    """
    return _resampled(patches, new_grid, resampling=resampling)


def resample_table(
    table: Float[Array, "old_rows heads"], old_grid: tuple[int, int], new_grid: tuple[int, int]
) -> Float[Array, "new_rows heads"]:
    """Resample a table of relative positions as `vit_core.relative_position.resample_table` does.

    Args:
        table: one row for each way from a patch to another, then those of tokens before the patches, which stay.
        old_grid: rows and columns that it is for.
        new_grid: rows and columns wanted.
    """
    (down, right), new = ((2 * rows - 1, 2 * columns - 1) for rows, columns in (old_grid, new_grid))
    ways = _resampled(table[: down * right].reshape(down, right, -1), new, weights_at=linear_weights)
    return jnp.concatenate([ways.reshape(new[0] * new[1], -1), table[down * right :]])


def _resampled(
    places: Float[Array, "rows columns width"], new_grid: tuple[int, int], **options: Any
) -> Float[Array, "new_rows new_columns width"]:
    exact = places.astype(jnp.promote_types(places.dtype, jnp.float32))
    rows, columns = (
        resampling_matrix(old, new, **options).astype(exact.dtype)
        for old, new in zip(places.shape[:2], new_grid, strict=True)
    )
    # "highest": by itself a TPU multiplies float32 in bfloat16.
    tall = jnp.einsum("ri,ich->rch", rows, exact, precision="highest")
    return jnp.einsum("cj,rjh->rch", columns, tall, precision="highest").astype(places.dtype)
