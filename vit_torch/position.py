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

from vit_core.architecture import Resampling
from vit_core.position import CATMULL_ROM_COEFFICIENT, cubic_weights, linear_weights

#: A kernel of interpolation; see `vit_core.position.cubic_weights`.
Kernel = Callable[[Any], dict[int, Any]]


#: By what lengths are counted, and what is added to the new one then: DINO's offset is a tenth.
OFFSETS: dict[Resampling, tuple[int, int]] = {"bicubic": (1, 0), "offset": (10, 1), "bilinear": (1, 0)}


def resample_grid(
    patches: Float[Tensor, "rows columns hidden"],
    new_grid: tuple[int, int],
    weights_at: Kernel = cubic_weights,
    resampling: Resampling = "bicubic",
) -> Float[Tensor, "new_rows new_columns hidden"]:
    """Resample a grid of embeddings as `vit_core.position` defines it.

    Args:
        patches: one embedding for each patch. Half precision is computed in float32.
        new_grid: rows and columns wanted; neither needs to be square, and both may be symbolic.
        weights_at: the kernel.
        resampling: see `vit_core.position.resampling_matrix`. A grid that stays as it is, an offset leaves alone.

    Returns:
        The embeddings for the new grid, of the dtype of `patches`.
    """
    exact = patches.to(torch.promote_types(patches.dtype, torch.float32))
    lengths = list(zip(patches.shape[:2], new_grid, strict=True))
    rows, columns = (resampling_matrix(old, new, exact, weights_at, resampling) for old, new in lengths)
    if resampling == "offset":
        stays = torch.stack([torch.full((), new, device=exact.device) == old for old, new in lengths]).all()
        rows, columns = (torch.where(stays, _identity(matrix), matrix) for matrix in (rows, columns))
    tall = (rows @ exact.flatten(1)).unflatten(1, exact.shape[1:])
    return (columns @ tall).to(patches.dtype)


def resampling_matrix(
    old_length: int,
    new_length: int,
    like: Tensor,
    weights_at: Kernel = cubic_weights,
    resampling: Resampling = "bicubic",
) -> Float[Tensor, "new_length old_length"]:
    """See `vit_core.position.resampling_matrix`; the matrix has the device and dtype of `like`."""
    if resampling in ("antialiased", "catmull-rom"):
        return _catmull_rom(old_length, new_length, like, is_widened=resampling == "antialiased")
    if resampling == "bilinear":
        weights_at = linear_weights
    unit, offset = OFFSETS[resampling]
    length = new_length * unit + offset
    numerators = (2 * torch.arange(new_length, device=like.device) + 1) * (old_length * unit) - length
    nearest = torch.div(numerators, 2 * length, rounding_mode="floor")
    fractions = (numerators - nearest * (2 * length)).to(like.dtype) / (2 * length)
    places = torch.arange(old_length, device=like.device)
    return sum(
        weights[:, None] * ((nearest + tap).clamp(0, old_length - 1)[:, None] == places)
        for tap, weights in weights_at(fractions).items()
    )


def _catmull_rom(
    old_length: int, new_length: int, like: Tensor, is_widened: bool
) -> Float[Tensor, "new_length old_length"]:
    """See `vit_core.position.resampling_matrix`; the polynomials are factored, which spares float32 cancellation."""
    old, new = (2 * torch.arange(length, device=like.device) + 1 for length in (old_length, new_length))
    distances = (old * new_length - new[:, None] * old_length).abs()
    unit = torch.sym_max(old_length, new_length) if is_widened else new_length
    x, a = distances.to(like.dtype) / (2 * unit), CATMULL_ROM_COEFFICIENT
    near, far = (x - 1) * ((a + 2) * x * x - x - 1), a * (x - 1) * (x - 2) * (x - 2)
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)


def _identity(matrix: Float[Tensor, "new_length old_length"]) -> Float[Tensor, "new_length old_length"]:
    """Ones where the number of the row is that of the column."""
    rows, columns = (torch.arange(length, device=matrix.device) for length in matrix.shape)
    return (rows[:, None] == columns).to(matrix.dtype)


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
