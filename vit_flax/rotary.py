"""Rotary positions in Flax: queries and keys of the patches, turned by where these are (see `vit_core.rotary`)."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from vit_core import PretrainedConfig
from vit_core.architecture import RotaryPositions
from vit_core.rotary import Rotary
from vit_flax.initialization import starting_frequencies
from vit_flax.parts import Part

Table = Float[Array | np.ndarray, "patches *heads head_dim"]
Tables = tuple[Table, Table]  # cosines and sines, of all heads or of each
#: What layers turn queries and keys by: tables, or coordinates of which each makes its own.
Rotating = Tables | Float[Array | np.ndarray, "patches 2"]


def moves_positions(config: PretrainedConfig) -> bool:
    """Whether a model moves its rotary positions at random in training."""
    return config.architecture.rotary_positions == "centres" and any(_augmentations(config))


def rotary_tables(config: PretrainedConfig, grid: tuple[int, int], dtype: Any, key: Array | None = None) -> Rotating:
    """Cosines and sines for each channel of a head; constants, unless they are moved at random.

    Where each layer makes its own, see `MixedRotary`, the coordinates of the patches in float32.

    Args:
        config: of a model with rotary positions.
        grid: rows and columns of patches.
        dtype: of the tables, which are computed in float32 at least.
        key: moves the coordinates at random, those of all images alike, as the config says.
    """
    rotary = Rotary.of(config)
    coordinates = rotary.coordinates(grid)
    if rotary.kind == "mixed":
        return coordinates.astype(np.float32)
    if key is None:
        cos, sin = rotary.tables(coordinates)
        return tuple(table.astype(np.float32).astype(dtype) for table in (cos, sin))  # type: ignore[return-value]
    moved = augmented(config, jnp.asarray(coordinates, jnp.float32), key)
    angles = (moved[:, :, None] * rotary.frequencies.astype(np.float32)).reshape(len(coordinates), -1)
    angles = jnp.tile(angles, 2)
    return jnp.cos(angles).astype(dtype), jnp.sin(angles).astype(dtype)


class MixedRotary(Part):
    """The trained frequencies of a layer, one for each pair of channels of each head and either coordinate.

    Heo et al. 2024, https://arxiv.org/abs/2403.13298, section 3.2.

    Attributes:
        layer: the number of the layer that owns it, of whose heads it has those that are not pruned; all without one.
    """

    _: KW_ONLY
    layer: int | None = None

    def setup(self) -> None:
        config = self.config
        shape = (2, len(config.kept_heads(self.layer)), config.head_dim // 2)
        start = starting_frequencies(config)
        self.frequencies = self.parameter("frequencies", shape, ("coordinates", "head", "frequencies"), start)

    def __call__(self, coordinates: Float[Array | np.ndarray, "patches 2"]) -> Tables:
        """Cosines and sines for each head, (patches, heads, head_dim)."""
        first, second = self.frequencies.astype(jnp.float32)
        angles = coordinates[:, :1, None] * first + coordinates[:, 1:, None] * second
        angles = jnp.repeat(angles, 2, axis=-1)
        return jnp.cos(angles).astype(self.dtype), jnp.sin(angles).astype(self.dtype)


def augmented(config: PretrainedConfig, coordinates: Float[Array, "patches 2"], key: Array) -> Array:
    """Coordinates from -1 to 1, moved at random as DINOv3 is trained (https://arxiv.org/abs/2508.10104, section 3.2).

    First each axis is shifted by up to `pos_embed_shift`; then each is stretched by a factor of up to
    `pos_embed_jitter`, or shrunk; then both by one of up to `pos_embed_rescale`. Factors are even in their logarithm.

    Args:
        config: says how far; a field that is None moves nothing.
        coordinates: row and column of each patch.
        key: decides.
    """
    shift, jitter, rescale = _augmentations(config)
    keys = jax.random.split(key, 3)
    if shift:
        coordinates = coordinates + jax.random.uniform(keys[0], (1, 2), minval=-shift, maxval=shift)
    for key, largest, shape in ((keys[1], jitter, (1, 2)), (keys[2], rescale, (1, 1))):
        if largest:
            most = math.log(largest)
            coordinates = coordinates * jnp.exp(jax.random.uniform(key, shape, minval=-most, maxval=most))
    return coordinates


def rotated(
    rotary: RotaryPositions, heads: Float[Array, "batch tokens heads head_dim"], tables: Tables
) -> Float[Array, "batch tokens heads head_dim"]:
    """Queries or keys, of which those of the patches are turned; the tokens before them stay.

    Args:
        rotary: see `vit_core.rotary.rotated`.
        heads: queries or keys.
        tables: see `rotary_tables`.
    """
    cos, sin = (table[:, None] if table.ndim == 2 else table for table in tables)
    before = heads.shape[1] - cos.shape[0]
    patches = heads[:, before:]
    if rotary == "centres":
        first, second = jnp.split(patches, 2, axis=-1)
        turned = jnp.concatenate([-second, first], axis=-1)
    else:
        turned = jnp.stack([-patches[..., 1::2], patches[..., ::2]], axis=-1).reshape(patches.shape)
    patches = patches * cos + turned * sin
    return jnp.concatenate([heads[:, :before], patches], axis=1) if before else patches


def _augmentations(config: PretrainedConfig) -> tuple[float | None, float | None, float | None]:
    """How far coordinates are shifted, and stretched one by one and together; None where a config does not say."""
    names = ("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale")
    shift, jitter, rescale = (getattr(config, name, None) for name in names)
    return shift, jitter, rescale
