"""The core's resampling matrices as constants: in JAX, sizes are known when a function is traced."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vit_core.position import resampling_matrix


def resample_grid(
    patches: Float[Array, "rows columns hidden"], new_grid: tuple[int, int]
) -> Float[Array, "new_rows new_columns hidden"]:
    """Resample a grid of embeddings as `vit_core.position` defines it.

    Args:
        patches: one embedding for each patch. Half precision is computed in float32.
        new_grid: rows and columns wanted; neither needs to be square.

    Returns:
        The embeddings for the new grid, of the dtype of `patches`.
    """
    exact = patches.astype(jnp.promote_types(patches.dtype, jnp.float32))
    rows, columns = (
        resampling_matrix(old, new).astype(exact.dtype) for old, new in zip(patches.shape[:2], new_grid, strict=True)
    )
    # "highest": by itself a TPU multiplies float32 in bfloat16.
    tall = jnp.einsum("ri,ich->rch", rows, exact, precision="highest")
    return jnp.einsum("cj,rjh->rch", columns, tall, precision="highest").astype(patches.dtype)
