"""How an image becomes tokens in Flax: patches, tokens before them, positions.

Which of these there are, a config's `architecture` says (`vit_core.architecture`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Shaped

from vit_core import PretrainedConfig
from vit_core.patches import grid_of
from vit_core.position import sincos_positions
from vit_flax.checks import CHANNELS_LAST, check_per_patch, check_pixel_values
from vit_flax.initialization import normal
from vit_flax.parts import Part, PatchConvolution
from vit_flax.position import resample_grid


class FlaxViTPatchEmbeddings(Part):
    """Cuts an image into patches and projects each to a token."""

    def setup(self) -> None:
        config = self.config
        self.num_patches = config.grid[0] * config.grid[1]
        self.projection = PatchConvolution(
            **self.shared, features=config.hidden_size, patch_shape=config.patch_shape, axes=(None, "hidden")
        )

    def __call__(
        self, pixel_values: Float[Array, "batch height width channels"], interpolate_pos_encoding: bool = False
    ) -> Float[Array, "batch patches hidden"]:
        check_pixel_values(pixel_values, self.config, CHANNELS_LAST, interpolate_pos_encoding)
        patches = self.projection(pixel_values)
        batch, rows, columns, hidden = patches.shape
        return patches.reshape(batch, rows * columns, hidden)


class FlaxViTEmbeddings(Part):
    """Turns an image into tokens: those before the patches, such as a class token, then the patches; with positions.

    Positions that are fixed, the sines and cosines of masked autoencoders, are parameters whose gradient is zero. Leave
    them out of weight decay, as `mask` of `optax.adamw` does.
    """

    _: KW_ONLY
    use_mask_token: bool = False

    def setup(self) -> None:
        config, architecture, start = self.config, self.config.architecture, normal(self.config.initializer_range)
        for name in architecture.prefix_tokens:
            setattr(self, name, self._token(name, start))
        self.has_mask_token = self.use_mask_token if architecture.mask_token is None else architecture.mask_token
        if self.has_mask_token:
            self.mask_token = self._token("mask_token", nn.initializers.zeros)
        self.patch_embeddings = FlaxViTPatchEmbeddings(**self.shared)
        self.position_embeddings = POSITIONS[architecture.absolute_positions](self)
        self.dropout = nn.Dropout(config.hidden_dropout_prob if config.architecture.embedding_dropout else 0.0)

    def __call__(
        self,
        pixel_values: Float[Array, "batch height width channels"],
        deterministic: bool = True,
        *,
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> Float[Array, "batch tokens hidden"]:
        patches = self.patch_embeddings(pixel_values, interpolate_pos_encoding)
        if bool_masked_pos is not None:
            patches = self._mask(patches, bool_masked_pos)
        tokens = self._with_prefix(patches)
        positions = self.position_embeddings
        if positions is None:
            return self.dropout(tokens, deterministic)
        if interpolates(self.config, pixel_values, interpolate_pos_encoding):
            positions = self.interpolate_pos_encoding(tokens, *pixel_values.shape[1:3])
        return self.dropout(tokens + positions.astype(self.dtype), deterministic)

    def interpolate_pos_encoding(
        self, embeddings: Float[Array, "batch tokens hidden"], height: int, width: int
    ) -> Float[Array, "1 tokens hidden"]:
        """The position embeddings for images of another size, resampled as `vit_core.position` defines it.

        Args:
            embeddings: the tokens that the positions are for; the sizes alone decide here.
            height: of the images, in pixels.
            width: likewise.
        """
        before = self.config.architecture.num_prefix_tokens
        positions: Any = self.position_embeddings
        of_prefix, patches = positions[:, :before], positions[0, before:]
        grid = grid_of((height, width), self.config.patch_shape)
        resampled = resample_grid(patches.reshape(*self.config.grid, -1), grid)
        return jnp.concatenate([of_prefix, resampled.reshape(1, grid[0] * grid[1], patches.shape[-1])], axis=1)

    @nn.nowrap
    def _token(self, name: str, start: Any) -> Array:
        return self.parameter(name, (1, 1, self.config.hidden_size), (None, None, "hidden"), start)

    @nn.nowrap
    def positions(self, start: Any) -> Array:
        """A position for each token."""
        config = self.config
        tokens = config.architecture.num_prefix_tokens + config.grid[0] * config.grid[1]
        shape = (1, tokens, config.hidden_size)
        return self.parameter("position_embeddings", shape, (None, None, "hidden"), start)

    def _with_prefix(self, patches: Array) -> Array:
        names = self.config.architecture.prefix_tokens
        if not names:
            return patches
        one_an_image = (patches.shape[0], 1, patches.shape[2])
        prefix = [jnp.broadcast_to(getattr(self, name).astype(self.dtype), one_an_image) for name in names]
        return jnp.concatenate([*prefix, patches], axis=1)

    def _mask(self, patches: Array, bool_masked_pos: Array) -> Array:
        if not self.has_mask_token:
            raise ValueError(
                "bool_masked_pos needs a mask token; build the model, or a config that has the field, with "
                "use_mask_token=True."
            )
        check_per_patch("bool_masked_pos", bool_masked_pos, *patches.shape[:2])
        return jnp.where(bool_masked_pos.astype(bool)[..., None], self.mask_token.astype(self.dtype), patches)


def fixed_positions(grid: tuple[int, int], prefix_tokens: int) -> Callable[..., Array]:
    """How fixed positions start; see `vit_core.position.sincos_positions`."""
    return lambda key, shape, dtype: jnp.asarray(sincos_positions(grid, shape[-1], prefix_tokens), dtype)


def _fixed(embeddings: FlaxViTEmbeddings) -> Array:
    config = embeddings.config
    start = fixed_positions(config.grid, config.architecture.num_prefix_tokens)
    return jax.lax.stop_gradient(embeddings.positions(start))


#: The positions that embeddings add to their tokens.
POSITIONS: dict[str | None, Callable[[FlaxViTEmbeddings], Array | None]] = {
    None: lambda embeddings: None,
    "learned": lambda embeddings: embeddings.positions(normal(embeddings.config.initializer_range)),
    "sincos": _fixed,
}


def interpolates(config: PretrainedConfig, pixel_values: Array, interpolate_pos_encoding: bool) -> bool:
    """Whether positions are resampled: where it is asked for, or unasked for images of another size.

    Args:
        config: the model's.
        pixel_values: (batch, height, width, channels).
        interpolate_pos_encoding: whether it is asked for.
    """
    is_other = config.architecture.resamples_unasked and tuple(pixel_values.shape[1:3]) != config.image_shape
    return bool(interpolate_pos_encoding or is_other)
