"""Positions: fixed sines and cosines, and embeddings for another grid of patches, as two small matrices.

Resampling is bicubic as PyTorch's `interpolate(mode="bicubic", align_corners=False)` defines it: Keys' cubic
convolution (1981, doi:10.1109/TASSP.1981.1163711) with a = -0.75, pixels as areas, edge values repeated, no
antialiasing. It is separable and linear, so height and width each are one matrix, whatever the framework. Some models
resample in other ways, see `resampling_matrix`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from vit_core.architecture import Resampling

if TYPE_CHECKING:
    from jaxtyping import Float

CUBIC_COEFFICIENT = -0.75
#: That of Catmull and Rom's spline, with which PIL and PyTorch resample with antialiasing, and others always.
CATMULL_ROM_COEFFICIENT = -0.5
#: What DINO's authors add to the new length of a side of the grid, so that rounding takes nothing of it.
DINO_OFFSET = 0.1


def resampling_matrix(
    old_length: int,
    new_length: int,
    weights_at: Callable[[Any], dict[int, Any]] | None = None,
    resampling: Resampling = "bicubic",
) -> Float[np.ndarray, "new_length old_length"]:
    """The matrix that resamples `old_length` values to `new_length`.

    Args:
        old_length: number of values there are, at least 1.
        new_length: number of values wanted, at least 1.
        weights_at: the kernel, `cubic_weights` unless given, or `linear_weights`.
        resampling: "bicubic", by the lengths; "offset", by the factor (new_length + 0.1) / old_length, as DINO and
            DINOv2 without registers do it (facebookresearch/dino, vision_transformer.py); "antialiased", with a kernel
            as wide as what it leaves out needs, of another coefficient, as PyTorch's `antialias=True` does it;
            "catmull-rom", with that kernel as narrow as it is, as `keras.ops.image.resize` does it; "bilinear", with
            `linear_weights`.

    Returns:
        float64 array of shape (new_length, old_length). Rows sum to one; between equal lengths it is the identity, but
        with an offset.
    """
    if old_length < 1 or new_length < 1:
        raise ValueError(f"cannot resample {old_length} values to {new_length}; both must be at least 1.")
    rows = np.arange(new_length)
    if resampling in ("antialiased", "catmull-rom"):
        return _catmull_rom(old_length, new_length, is_widened=resampling == "antialiased")
    if resampling == "offset":
        places = (rows + 0.5) * old_length / (new_length + DINO_OFFSET) - 0.5
        nearest = np.floor(places).astype(int)
        return _spread(nearest, cubic_weights(places - nearest), old_length)
    if resampling == "bilinear":
        weights_at = linear_weights
    # A new value's place among the old ones is (row + 1/2) * old / new - 1/2; in whole numbers, nothing is rounded.
    nearest, remainders = np.divmod((2 * rows + 1) * old_length - new_length, 2 * new_length)
    return _spread(nearest, (weights_at or cubic_weights)(remainders / (2 * new_length)), old_length)


def _spread(nearest: np.ndarray, weights_by_tap: dict[int, Any], old_length: int) -> np.ndarray:
    """The matrix of weights of old values, by their position relative to the nearest; edge values are repeated."""
    rows, matrix = np.arange(len(nearest)), np.zeros((len(nearest), old_length))
    for tap, weights in weights_by_tap.items():
        np.add.at(matrix, (rows, np.clip(nearest + tap, 0, old_length - 1)), weights)
    return matrix


def _catmull_rom(old_length: int, new_length: int, is_widened: bool) -> np.ndarray:
    """Keys' kernel, which may be widened where there are fewer new values than old; beyond the edge is nothing."""
    step, a = old_length / new_length, CATMULL_ROM_COEFFICIENT
    places = (np.arange(new_length) + 0.5) * step
    x = np.abs((np.arange(old_length) + 0.5 - places[:, None]) / (max(step, 1) if is_widened else 1))
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)


def resample_position_embeddings(
    embeddings: Float[np.ndarray, "1 old_tokens hidden"],
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    prefix_tokens: int = 1,
    resampling: Resampling = "bicubic",
) -> Float[np.ndarray, "1 new_tokens hidden"]:
    """Resample the patches' position embeddings to another grid; those of the tokens before them stay as they are.

    Args:
        embeddings: class token and then patches, row by row: (1, prefix_tokens + rows * columns, hidden).
        old_grid: rows and columns the embeddings are for.
        new_grid: rows and columns wanted; neither needs to be square.
        prefix_tokens: how many tokens stand before the patches and have a position.
        resampling: see `resampling_matrix`.

    Returns:
        Array of shape (1, prefix_tokens + new rows * new columns, hidden), of the dtype of `embeddings`.

    Raises:
        ValueError: the embeddings are not for `old_grid`.
    """
    rows, columns = old_grid
    tokens = prefix_tokens + rows * columns
    if embeddings.ndim != 3 or embeddings.shape[:2] != (1, tokens):
        before = "a class token and a" if prefix_tokens == 1 else f"{prefix_tokens} tokens and a"
        raise ValueError(
            f"position embeddings of shape {embeddings.shape} are not for {before} grid of {rows} by {columns} "
            f"patches, which take shape (1, {tokens}, hidden size)."
        )
    hidden = embeddings.shape[2]
    patches = embeddings[0, prefix_tokens:].reshape(rows, columns, hidden).astype(np.float64)
    down, right = (
        resampling_matrix(old, new, resampling=resampling) for old, new in zip(old_grid, new_grid, strict=True)
    )
    tall = np.tensordot(down, patches, axes=(1, 0))
    resampled = np.tensordot(right, tall, axes=(1, 1)).transpose(1, 0, 2)
    flat = resampled.reshape(1, new_grid[0] * new_grid[1], hidden).astype(embeddings.dtype)
    return np.concatenate([embeddings[:, :prefix_tokens], flat], axis=1)


def sincos_positions(
    grid: tuple[int, int], hidden: int, prefix_tokens: int = 1
) -> Float[np.ndarray, "1 tokens hidden"]:
    """Fixed positions: sines and cosines of the column in the first half of the channels, of the row in the second.

    He et al. 2021 (https://arxiv.org/abs/2111.06377), after Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762,
    section 3.5) along each axis. Reference: facebookresearch/mae, util/pos_embed.py.

    Args:
        grid: rows and columns of patches.
        hidden: how many channels; a multiple of 4.
        prefix_tokens: how many tokens stand before the patches; their positions are 0.

    Returns:
        float32 array of shape (1, prefix_tokens + rows * columns, hidden).
    """
    rows, columns = np.indices(grid).reshape(2, -1)
    frequencies = 10000.0 ** -(np.arange(hidden // 4) / (hidden / 4))
    angles = [places[:, None] * frequencies for places in (columns, rows)]
    patches = np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)
    return np.concatenate([np.zeros((prefix_tokens, hidden)), patches])[None].astype(np.float32)


def linear_weights(fraction: Any) -> dict[int, Any]:
    """The kernel of linear interpolation; see `cubic_weights`."""
    return {0: 1 - fraction, 1: fraction}


def cubic_weights(fraction: Any) -> dict[int, Any]:
    """Keys' kernel (equation 4 of the paper, with its coefficient free) at the four values around a place.

    Args:
        fraction: how far the place lies behind the nearest value before it, in [0, 1); an array or tensor of any
            framework.

    Returns:
        The weight of each value, by its position relative to that one. The polynomials are factored, because expanded
        ones lose four decimals of float32 to cancellation.
    """
    a, t, s = CUBIC_COEFFICIENT, fraction, 1 - fraction
    return {
        -1: a * t * s * s,
        0: s * (1 + t - (a + 2) * t * t),
        1: t * (1 + s - (a + 2) * s * s),
        2: a * s * t * t,
    }
