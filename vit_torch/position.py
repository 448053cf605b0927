"""The core's resampling matrices and relative positions as tensors, for sizes that a compiler may leave open.

`torch.nn.functional.interpolate` has the same kernels, but in float32 it rounds the places it samples: between grids of
37 and 24 patches that costs 1e-5 of the embeddings. Here these places are whole numbers and exact fractions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vit_core.position import cubic_weights, linear_weights

#: A kernel of interpolation; see `vit_core.position.cubic_weights`.
Kernel = Callable[[Any], dict[int, Any]]


def resample_grid(
    patches: Float[Tensor, "rows columns hidden"], new_grid: tuple[int, int], weights_at: Kernel = cubic_weights
) -> Float[Tensor, "new_rows new_columns hidden"]:
    """Resample a grid of embeddings as `vit_core.position` defines it.

    Args:
        patches: one embedding for each patch. Half precision is computed in float32.
        new_grid: rows and columns wanted; neither needs to be square, and both may be symbolic.
        weights_at: the kernel.

    Returns:
        The embeddings for the new grid, of the dtype of `patches`.
    """
    exact = patches.to(torch.promote_types(patches.dtype, torch.float32))
    rows, columns = (
        resampling_matrix(old, new, exact, weights_at) for old, new in zip(patches.shape[:2], new_grid, strict=True)
    )
    tall = (rows @ exact.flatten(1)).unflatten(1, exact.shape[1:])
    return (columns @ tall).to(patches.dtype)


def resampling_matrix(
    old_length: int, new_length: int, like: Tensor, weights_at: Kernel = cubic_weights
) -> Float[Tensor, "new_length old_length"]:
    """See `vit_core.position.resampling_matrix`; the matrix has the device and dtype of `like`."""
    numerators = (2 * torch.arange(new_length, device=like.device) + 1) * old_length - new_length
    nearest = torch.div(numerators, 2 * new_length, rounding_mode="floor")
    fractions = (numerators - nearest * (2 * new_length)).to(like.dtype) / (2 * new_length)
    places = torch.arange(old_length, device=like.device)
    return sum(
        weights[:, None] * ((nearest + tap).clamp(0, old_length - 1)[:, None] == places)
        for tap, weights in weights_at(fractions).items()
    )


def resample_table(
    table: Float[Tensor, "old_rows heads"], old_grid: tuple[int, int], new_grid: tuple[int, int]
) -> Float[Tensor, "new_rows heads"]:
    """See `vit_core.relative_position.resample_table`; the new grid may be symbolic."""
    height, width = 2 * old_grid[0] - 1, 2 * old_grid[1] - 1
    between_patches = table[: height * width].unflatten(0, (height, width))
    resampled = resample_grid(between_patches, (2 * new_grid[0] - 1, 2 * new_grid[1] - 1), linear_weights)
    return torch.cat([resampled.flatten(0, 1), table[height * width :]])


def relative_position_index(
    grid: tuple[int, int], prefix_tokens: int, device: torch.device
) -> Int[Tensor, "tokens tokens"]:
    """See `vit_core.relative_position.relative_position_index`; the grid may be symbolic."""
    rows, columns = grid
    places = torch.arange(rows * columns, device=device)
    row, column = places // columns, places % columns
    down = row[:, None] - row[None] + rows - 1
    right = column[:, None] - column[None] + columns - 1
    between_patches = down * (2 * columns - 1) + right
    if not prefix_tokens:
        return between_patches
    from_prefix = (2 * rows - 1) * (2 * columns - 1)  # this row of the table and two more are for tokens before patches
    to_prefix = (torch.zeros_like(places[:, None]) + from_prefix + 1).expand(-1, prefix_tokens)
    first = torch.cat([torch.full_like(places[:1], 2).expand(prefix_tokens), torch.zeros_like(places)]) + from_prefix
    return torch.cat([first.expand(prefix_tokens, -1), torch.cat([to_prefix, between_patches], dim=1)])
