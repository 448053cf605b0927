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
            **self.shared,
            features=config.hidden_size,
            patch_shape=config.patch_shape,
            axes=(None, "hidden"),
            use_bias=config.architecture.patch_bias,
        )
        if config.architecture.patch_norm:
            self.layernorm = self.layer_norm()

    def __call__(
        self, pixel_values: Float[Array, "batch height width channels"], interpolate_pos_encoding: bool = False
    ) -> Float[Array, "batch patches hidden"]:
        check_pixel_values(pixel_values, self.config, CHANNELS_LAST, interpolate_pos_encoding)
        patches = self.projection(pixel_values)
        batch, rows, columns, hidden = patches.shape
        patches = patches.reshape(batch, rows * columns, hidden)
        return self.layernorm(patches) if self.config.architecture.patch_norm else patches


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
            setattr(self, name, self._tokens(name, start))
        if architecture.register_tokens:
            self.register_tokens = self._tokens("register_tokens", start, architecture.register_tokens)
        self.has_mask_token = self.use_mask_token if architecture.mask_token is None else architecture.mask_token
        if self.has_mask_token:
            self.mask_token = self._tokens("mask_token", nn.initializers.zeros)
        self.patch_embeddings = FlaxViTPatchEmbeddings(**self.shared)
        self.position_embeddings = POSITIONS[architecture.absolute_positions](self)
        if architecture.embedding_norm:
            self.layernorm = self.layer_norm()
        self.dropout = nn.Dropout(config.hidden_dropout_prob if architecture.embedding_dropout else 0.0)

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
        positions = self.position_embeddings
        if positions is not None and interpolates(self.config, pixel_values, interpolate_pos_encoding):
            positions = self.interpolate_pos_encoding(patches, *pixel_values.shape[1:3])
        tokens = self._positioned(patches, None if positions is None else positions.astype(self.dtype))
        if self.config.architecture.embedding_norm:
            tokens = self.layernorm(tokens)
        return self.dropout(tokens, deterministic)

    def interpolate_pos_encoding(
        self, embeddings: Float[Array, "batch tokens hidden"], height: int, width: int
    ) -> Float[Array, "1 tokens hidden"]:
        """The position embeddings for images of another size, resampled as `vit_core.position` defines it.

        Args:
            embeddings: accepted for scripts that give it; the sizes alone decide here.
            height: of the images, in pixels.
            width: likewise.
        """
        architecture = self.config.architecture
        before = architecture.num_positioned_prefix_tokens
        positions: Any = self.position_embeddings
        of_prefix, patches = positions[:, :before], positions[0, before:]
        grid = grid_of((height, width), self.config.patch_shape)
        resampled = resample_grid(patches.reshape(*self.config.grid, -1), grid, architecture.position_resampling)
        return jnp.concatenate([of_prefix, resampled.reshape(1, grid[0] * grid[1], patches.shape[-1])], axis=1)

    @nn.nowrap
    def _tokens(self, name: str, start: Any, count: int = 1) -> Array:
        return self.parameter(name, (1, count, self.config.hidden_size), (None, None, "hidden"), start)

    @nn.nowrap
    def positions(self, start: Any) -> Array:
        """A position for each patch, and for tokens before them that have one."""
        config = self.config
        tokens = config.architecture.num_positioned_prefix_tokens + config.grid[0] * config.grid[1]
        shape = (1, tokens, config.hidden_size)
        return self.parameter("position_embeddings", shape, (None, None, "hidden"), start)

    def _positioned(self, patches: Array, positions: Array | None) -> Array:
        """All tokens, with positions where they have one: the first before the patches, and the patches."""
        architecture = self.config.architecture
        registers = ("register_tokens",) if architecture.register_tokens else ()
        prefix = [getattr(self, name).astype(self.dtype) for name in (*architecture.prefix_tokens, *registers)]
        if positions is None or architecture.num_positioned_prefix_tokens == architecture.num_prefix_tokens:
            tokens = _joined(prefix, patches)
            return tokens if positions is None else tokens + positions
        before = architecture.num_positioned_prefix_tokens
        prefix[:before] = [token + positions[:, place : place + 1] for place, token in enumerate(prefix[:before])]
        return _joined(prefix, patches + positions[:, before:])

    def _mask(self, patches: Array, bool_masked_pos: Array) -> Array:
        if not self.has_mask_token:
            raise ValueError(
                "bool_masked_pos needs a mask token; build the model, or a config that has the field, with "
                "use_mask_token=True."
            )
        check_per_patch("bool_masked_pos", bool_masked_pos, *patches.shape[:2])
        return jnp.where(bool_masked_pos.astype(bool)[..., None], self.mask_token.astype(self.dtype), patches)


def _joined(prefix: list[Array], patches: Array) -> Array:
    """The tokens of each image: those that all images have before the patches, and the patches."""
    if not prefix:
        return patches
    images, _, width = patches.shape
    return jnp.concatenate([*(jnp.broadcast_to(each, (images, each.shape[1], width)) for each in prefix), patches], 1)


def fixed_positions(grid: tuple[int, int], prefix_tokens: int) -> Callable[..., Array]:
    """How fixed positions start; see `vit_core.position.sincos_positions`."""
    return lambda key, shape, dtype: jnp.asarray(sincos_positions(grid, shape[-1], prefix_tokens), dtype)


def _fixed(embeddings: FlaxViTEmbeddings) -> Array:
    config = embeddings.config
    start = fixed_positions(config.grid, config.architecture.num_positioned_prefix_tokens)
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
