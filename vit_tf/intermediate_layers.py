"""The patches as maps, and what layers on the way make of them, as DINOv2's own code returns it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from keras import ops
from tensorflow import Tensor

from vit_core.feature_maps import last_layers
from vit_tf.checks import check_pixel_values
from vit_tf.layers import Grid


def as_map(patches: Float[Tensor, "batch patches hidden"], grid: Grid) -> Float[Tensor, "batch hidden rows columns"]:
    """The patches where they stand in the image."""
    return ops.transpose(ops.reshape(patches, (-1, *grid, patches.shape[-1])), (0, 3, 1, 2))


class IntermediateLayers:
    """A base model that returns what layers on the way make of an image."""

    def get_intermediate_layers(
        self,
        pixel_values: Float[Tensor, "batch channels height width"],
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_class_token: bool = False,
        norm: bool = True,
        interpolate_pos_encoding: bool | None = None,
    ) -> tuple[Any, ...]:
        """The patches after some layers, as DINOv2's `get_intermediate_layers` returns them.

        A masked autoencoder sees all patches here.

        Args:
            pixel_values: images, with the axes in the order of the model's `data_format`.
            n: how many of the last layers, or which, counted from 0; -1 is the last. They are returned in order.
            reshape: whether patches are returned as maps, (batch, hidden, rows, columns), rather than (batch, patches,
                hidden).
            return_class_token: whether each layer's class token, (batch, hidden), is returned beside its patches.
            norm: whether the model's last norm is applied to each.
            interpolate_pos_encoding: whether to resample positions, so that images may have any size; see `call`.

        Returns:
            For each layer the patches, or (patches, class token).

        Raises:
            ValueError: a shape does not fit the model, there is no such layer, or no class token.
        """
        model: Any = self
        architecture = model.config.architecture
        if return_class_token and "cls_token" not in architecture.prefix_tokens:
            raise ValueError("return_class_token is True, and this model has no class token; leave it out.")
        layers = last_layers(n, len(model.encoder.layer))
        has_any_size = bool(interpolate_pos_encoding) or architecture.resamples_unasked
        check_pixel_values(pixel_values, model.config, model.data_format, has_any_size)
        pixel_values = ops.cast(pixel_values, model.compute_dtype)
        grid = model.embeddings.patch_embeddings.grid(pixel_values)
        embedded = model.embeddings(pixel_values, interpolate_pos_encoding=bool(interpolate_pos_encoding))
        encoded = model.encoder(embedded, output_hidden_states=True, grid=grid if model.knows_grid else None)
        tokens = [encoded.hidden_states[layer + 1] for layer in layers]
        tokens = [model.layernorm(each) for each in tokens] if norm else tokens
        patches = [each[:, architecture.num_prefix_tokens :] for each in tokens]
        if reshape:
            patches = [as_map(each, grid) for each in patches]
        return tuple(zip(patches, (each[:, 0] for each in tokens), strict=True) if return_class_token else patches)
