"""The patches as maps, and what layers on the way make of them, as DINOv2's own code returns it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jax import Array
from jaxtyping import Float

from vit_core.feature_maps import last_layers
from vit_core.patches import grid_of
from vit_flax.checks import CHANNELS_FIRST, check_pixel_values
from vit_flax.model import channels_last
from vit_flax.parts import given


def as_map(
    patches: Float[Array, "batch patches hidden"], grid: tuple[int, int]
) -> Float[Array, "batch hidden rows columns"]:
    """The patches where they stand in the image."""
    return patches.reshape(patches.shape[0], *grid, patches.shape[-1]).transpose(0, 3, 1, 2)


def after_layers(
    module: Any,
    pixel_values: Float[Array, "batch height width channels"],
    layers: Sequence[int],
    norm: bool,
    interpolate: bool,
) -> list[Float[Array, "batch tokens hidden"]]:
    """The tokens after some layers of a base model's module, counted from 0."""
    embedded = module.embeddings(pixel_values, deterministic=True, **given(interpolate_pos_encoding=interpolate))
    grid = module._resampled_grid(pixel_values, interpolate)
    hidden_states = module._encoded(embedded, True, False, True, grid=grid).hidden_states
    return [module.layernorm(hidden_states[layer + 1]) if norm else hidden_states[layer + 1] for layer in layers]


class IntermediateLayers:
    """A base model that returns what layers on the way make of an image."""

    def get_intermediate_layers(
        self,
        pixel_values: Float[Array, "batch channels height width"],
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_class_token: bool = False,
        norm: bool = True,
        interpolate_pos_encoding: bool | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> tuple[Any, ...]:
        """The patches after some layers, as DINOv2's `get_intermediate_layers` returns them.

        A masked autoencoder sees all patches here.

        Args:
            pixel_values: images, (batch, channels, height, width).
            n: how many of the last layers, or which, counted from 0; -1 is the last. They are returned in order.
            reshape: whether patches are returned as maps, (batch, hidden, rows, columns), rather than (batch, patches,
                hidden).
            return_class_token: whether each layer's class token, (batch, hidden), is returned beside its patches.
            norm: whether the model's last norm is applied to each.
            interpolate_pos_encoding: whether to resample positions, so that images may have any size; see `__call__`.
            params: parameters to use instead of the model's, for functions that JAX transforms.

        Returns:
            For each layer the patches, or (patches, class token).

        Raises:
            TypeError: images or parameters are no arrays.
            ValueError: a shape does not fit the model, there is no such layer, or no class token.
        """
        model: Any = self
        config, before = model.config, model.config.architecture.num_prefix_tokens
        if return_class_token and "cls_token" not in config.architecture.prefix_tokens:
            raise ValueError("return_class_token is True, and this model has no class token; leave it out.")
        check_pixel_values(pixel_values, config, CHANNELS_FIRST, bool(interpolate_pos_encoding))
        images = channels_last(pixel_values)
        tokens = model.module.apply(
            {"params": model.checked(params)},
            images,
            last_layers(n, config.num_hidden_layers),
            norm,
            bool(interpolate_pos_encoding),
            method=after_layers,
        )
        patches = [each[:, before:] for each in tokens]
        if reshape:
            patches = [as_map(each, grid_of(images.shape[1:3], config.patch_shape)) for each in patches]
        return tuple(zip(patches, (each[:, 0] for each in tokens), strict=True) if return_class_token else patches)
