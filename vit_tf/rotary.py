"""The core's rotary positions as tensors, for grids that a graph may leave open; see `vit_core.rotary`."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import keras
import numpy as np
from jaxtyping import Float
from keras import ops
from tensorflow import Tensor

from vit_core import PretrainedConfig
from vit_core.architecture import RotaryPositions
from vit_core.rotary import Rotary
from vit_tf.initialization import Frequencies
from vit_tf.parts import Part
from vit_tf.position import is_known

Grid = tuple[int | Tensor, int | Tensor]
#: How the config says that coordinates are moved in training, and what moves nothing.
MOVES = {"pos_embed_shift": 0.0, "pos_embed_jitter": 1.0, "pos_embed_rescale": 1.0}


class RotaryTables(Part):
    """By what the channels of a head are turned, for each token: cosines, and sines with their signs.

    Tokens before the patches are not turned: their cosines are 1. In training, the coordinates of "centres" are moved
    at random, the same for all images of a batch: shifted, stretched along each axis, and stretched along both
    (DINOv3, https://arxiv.org/abs/2508.10104).
    """

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid, self.rotary = config.grid, Rotary.of(config)
        self.num_prefix_tokens = config.architecture.num_prefix_tokens
        moves = {name: getattr(config, name, None) for name in MOVES} if self.rotary.kind == "centres" else {}
        self.moves = {name: size for name, size in moves.items() if size is not None and size != MOVES[name]}
        self.seed = keras.random.SeedGenerator() if self.moves else None

    def call(self, grid: Grid | None = None, training: bool = False) -> Float[Tensor, "2 tokens head_dim"]:
        """The tables for a grid of patches, the config's unless given; constants where nothing is open."""
        grid = self.grid if grid is None else grid
        moves = training and bool(self.moves)
        if is_known(grid) and not moves:
            tables = constant_tables(self.rotary, grid, self.num_prefix_tokens)
            return ops.convert_to_tensor(tables, self.compute_dtype)
        coordinates = self._coordinates(grid)
        angles = self._angles(self._moved(coordinates) if moves else coordinates)
        sines = ops.sin(angles) * _signs(self.rotary)
        unturned = ops.ones((self.num_prefix_tokens, self.rotary.head_dim), angles.dtype)
        cosines = ops.concatenate([unturned, ops.cos(angles)], axis=0)
        return ops.cast(ops.stack([cosines, ops.concatenate([0 * unturned, sines], axis=0)]), self.compute_dtype)

    def _coordinates(self, grid: Grid) -> Float[Tensor, "patches 2"]:
        """See `vit_core.rotary.Rotary.coordinates`."""
        if is_known(grid):
            return ops.convert_to_tensor(self.rotary.coordinates(grid), "float32")
        indices = ops.arange(grid[0] * grid[1], dtype="int32")
        places = (indices // grid[1], indices % grid[1])
        both = [
            self.rotary.place(ops.cast(places[axis], "float32"), axis, ops.cast(grid[axis], "float32"))
            for axis in self.rotary.axes
        ]
        return ops.stack(both, axis=1)

    def _moved(self, coordinates: Float[Tensor, "patches 2"]) -> Float[Tensor, "patches 2"]:
        """The coordinates moved at random."""
        for name, size in self.moves.items():
            limit = size if name == "pos_embed_shift" else math.log(size)
            axes = 1 if name == "pos_embed_rescale" else 2
            drawn = keras.random.uniform((1, axes), -limit, limit, dtype="float32", seed=self.seed)
            coordinates = coordinates + drawn if name == "pos_embed_shift" else coordinates * ops.exp(drawn)
        return coordinates

    def _angles(self, coordinates: Float[Tensor, "patches 2"]) -> Float[Tensor, "patches head_dim"]:
        """The angle of each channel; see `vit_core.rotary.Rotary.tables`."""
        frequencies = self.rotary.frequencies.astype("float32")
        angles = ops.reshape(coordinates[:, :, None] * frequencies, (-1, self.rotary.head_dim // 2))
        return ops.tile(angles, (1, 2)) if self.rotary.kind == "centres" else ops.repeat(angles, 2, axis=1)


class MixedRotary(RotaryTables):
    """The same by trained frequencies of a layer, one for each pair of channels of each head and either coordinate (Heo
    et al. 2024, https://arxiv.org/abs/2403.13298, section 3.2).
    """

    def __init__(self, config: PretrainedConfig, layer: int | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.num_heads = len(config.kept_heads(layer))

    def build(self, input_shape: Any = None) -> None:
        shape = (2, self.num_heads, self.rotary.head_dim // 2)
        self.frequencies = self.add_weight(
            name="frequencies", shape=shape, initializer=Frequencies(self.rotary), autocast=False
        )

    def call(  # type: ignore[override]
        self, grid: Grid | None = None
    ) -> Float[Tensor, "2 tokens heads head_dim"]:
        """The tables of each head, whose angles are computed in float32."""
        frequencies = ops.cast(self.frequencies, "float32")
        first, second = frequencies[0], frequencies[1]
        coordinates = self._coordinates(self.grid if grid is None else grid)
        coordinates = ops.pad(coordinates, ((self.num_prefix_tokens, 0), (0, 0)))
        angles = ops.repeat(coordinates[:, :1, None] * first + coordinates[:, 1:, None] * second, 2, axis=-1)
        tables = ops.stack([ops.cos(angles), ops.sin(angles) * _signs(self.rotary)])
        return ops.cast(tables, self.compute_dtype)


@lru_cache(maxsize=16)
def constant_tables(
    rotary: Rotary, grid: tuple[int, int], prefix_tokens: int
) -> Float[np.ndarray, "2 tokens head_dim"]:
    """What `RotaryTables` returns for a grid that is known, in float64."""
    cosines, sines = rotary.tables(rotary.coordinates(grid))
    tables = np.stack([cosines, sines * _signs(rotary)])
    unturned = np.zeros((2, prefix_tokens, rotary.head_dim))
    unturned[0] = 1
    return np.concatenate([unturned, tables], axis=1)


def turned(
    rotary: RotaryPositions,
    heads: Float[Tensor, "batch tokens heads head_dim"],
    tables: Float[Tensor, "2 tokens *heads head_dim"],
) -> Float[Tensor, "batch tokens heads head_dim"]:
    """Queries or keys, turned; see `vit_core.rotary.rotated`.

    Args:
        rotary: which positions.
        heads: (batch, tokens, heads, head_dim).
        tables: see `RotaryTables`.
    """
    if rotary == "centres":
        partners = ops.concatenate(ops.split(heads, 2, axis=-1)[::-1], axis=-1)
    else:
        pairs = ops.stack([heads[..., 1::2], heads[..., ::2]], axis=-1)
        partners = ops.reshape(pairs, ops.shape(heads))
    tables = tables if len(tables.shape) == 4 else tables[:, :, None]
    cosines, sines = tables[0], tables[1]
    return heads * cosines + partners * sines


def _signs(rotary: Rotary) -> Float[np.ndarray, " head_dim"]:
    """With which sign a channel's sine counts, as -1 for the first of a pair."""
    pair, half = np.array([-1, 1], np.float32), rotary.head_dim // 2
    return np.repeat(pair, half) if rotary.kind == "centres" else np.tile(pair, half)
