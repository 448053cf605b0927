"""The patches as maps, and what layers on the way make of them, as DINOv2's own code returns it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from vit_core.feature_maps import last_layers
from vit_torch.embeddings import ViTEmbeddings


def as_map(
    patches: Float[Tensor, "batch patches hidden"], grid: tuple[int, int]
) -> Float[Tensor, "batch hidden rows columns"]:
    """The patches where they stand in the image."""
    return patches.unflatten(1, grid).permute(0, 3, 1, 2).contiguous()


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
            pixel_values: images, (batch, channels, height, width).
            n: how many of the last layers, or which, counted from 0; -1 is the last. They are returned in order.
            reshape: whether patches are returned as maps, (batch, hidden, rows, columns), rather than (batch, patches,
                hidden).
            return_class_token: whether each layer's class token, (batch, hidden), is returned beside its patches.
            norm: whether the model's last norm is applied to each.
            interpolate_pos_encoding: whether to resample positions, so that images may have any size; see `forward`.

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
        pixel_values, interpolate = model._images(pixel_values), bool(interpolate_pos_encoding)
        embedded = ViTEmbeddings.forward(model.embeddings, pixel_values, None, interpolate)  # of all patches
        encoded = model._encoded(embedded, pixel_values, None, False, True, interpolate)
        tokens = [encoded.hidden_states[layer + 1] for layer in layers]
        tokens = [model.layernorm(each) for each in tokens] if norm else tokens
        patches = [each[:, architecture.num_prefix_tokens :] for each in tokens]
        if reshape:
            grid = model.embeddings.patch_embeddings.grid(*pixel_values.shape[-2:])
            patches = [as_map(each, grid) for each in patches]
        return tuple(zip(patches, (each[:, 0] for each in tokens), strict=True) if return_class_token else patches)
