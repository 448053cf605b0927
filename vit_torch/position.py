"""The core's resampling matrices as tensors, for sizes that a compiler or an exporter may leave open.

`torch.nn.functional.interpolate` has the same kernel, but in float32 it rounds the places it samples: between grids of
37 and 24 patches that costs 1e-5 of the embeddings. Here these places are whole numbers and exact fractions.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vit_core.position import cubic_weights


def resample_grid(
    patches: Float[Tensor, "rows columns hidden"], new_grid: tuple[int, int]
) -> Float[Tensor, "new_rows new_columns hidden"]:
    """Resample a grid of embeddings as `vit_core.position` defines it.

    Args:
        patches: one embedding for each patch. Half precision is computed in float32.
        new_grid: rows and columns wanted; neither needs to be square, and both may be symbolic.

    Returns:
        The embeddings for the new grid, of the dtype of `patches`.
    """
    exact = patches.to(torch.promote_types(patches.dtype, torch.float32))
    rows, columns = (resampling_matrix(old, new, exact) for old, new in zip(patches.shape[:2], new_grid, strict=True))
    tall = (rows @ exact.flatten(1)).unflatten(1, exact.shape[1:])
    return (columns @ tall).to(patches.dtype)


def resampling_matrix(old_length: int, new_length: int, like: Tensor) -> Float[Tensor, "new_length old_length"]:
    """See `vit_core.position.resampling_matrix`; the matrix has the device and dtype of `like`."""
    numerators = (2 * torch.arange(new_length, device=like.device) + 1) * old_length - new_length
    nearest = torch.div(numerators, 2 * new_length, rounding_mode="floor")
    fractions = (numerators - nearest * (2 * new_length)).to(like.dtype) / (2 * new_length)
    places = torch.arange(old_length, device=like.device)
    return sum(
        weights[:, None] * ((nearest + tap).clamp(0, old_length - 1)[:, None] == places)
        for tap, weights in cubic_weights(fractions).items()
    )
