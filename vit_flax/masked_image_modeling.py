"""Models in Flax that predict masked patches: their pixels, or the numbers that a tokenizer gives them.

SimMIM (Xie et al. 2021, https://arxiv.org/abs/2111.09886) and BEiT (Bao et al. 2021,
https://arxiv.org/abs/2106.08254); masked autoencoders are in `masked_autoencoder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Shaped

from vit_core.patches import grid_of
from vit_flax.losses import masked_reconstruction_loss, masked_token_loss
from vit_flax.modeling import FlaxVisionTransformerPreTrainedModel, VisionTransformerWithHead
from vit_flax.outputs import (
    FlaxMaskedImageModelingOutput,
    FlaxMaskedLMOutput,
)
from vit_flax.parts import Part, PatchConvolution, given


class FlaxViTDecoder(Part):
    """Turns each token into the pixels of its patch."""

    @nn.compact  # its layer is called by a number, as an item of torch.nn.Sequential is
    def __call__(self, grid: Float[Array, "batch rows columns hidden"]) -> Float[Array, "batch rows columns pixels"]:
        pixels = self.config.encoder_stride**2 * self.config.num_channels
        return PatchConvolution(**self.shared, features=pixels, axes=("hidden", "pixels"), name="0")(grid)


def pixel_shuffle(
    grid: Float[Array, "batch rows columns pixels"], factor: int
) -> Float[Array, "batch channels height width"]:
    """Lay the channels of each place out as a patch of pixels, as torch.nn.PixelShuffle does (Shi et al. 2016,
    https://arxiv.org/abs/1609.05158).
    """
    batch, rows, columns, pixels = grid.shape
    channels = pixels // factor**2
    patches = grid.reshape(batch, rows, columns, channels, factor, factor).transpose(0, 3, 1, 4, 2, 5)
    return patches.reshape(batch, channels, rows * factor, columns * factor)


class FlaxVisionTransformerForMaskedImageModelingModule(VisionTransformerWithHead):
    """A Vision Transformer with a decoder that reconstructs masked patches (SimMIM, https://arxiv.org/abs/2111.09886).

    Its fields are those of `VisionTransformerWithHead`.
    """

    def setup(self) -> None:
        self.add_base_model(use_mask_token=True)
        self.decoder = FlaxViTDecoder(**self.shared)

    def __call__(
        self,
        pixel_values: Float[Array, "batch height width channels"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
        *,
        interpolate_pos_encoding: bool = False,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
    ) -> FlaxMaskedImageModelingOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerForMaskedImageModeling.__call__`, but with channels last."""
        config, stride = self.config, self.config.encoder_stride
        if bool_masked_pos is not None and config.patch_shape != (stride, stride):
            raise ValueError(
                f"patch_size is {config.patch_size} and encoder_stride {stride}; with bool_masked_pos they must be "
                f"equal, so that the reconstruction has the image's size."
            )
        outputs: Any = self.base_model(
            pixel_values,
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **given(
                interpolate_pos_encoding=interpolate_pos_encoding,
                head_mask=head_mask,
                bool_masked_pos=bool_masked_pos,
                without_pooler=self.may_skip_pooler,
            ),
        )
        rows, columns = grid_of(pixel_values.shape[1:3], config.patch_shape)
        patches = self.patches_of(outputs, (rows, columns))
        tokens = patches.reshape(pixel_values.shape[0], rows, columns, config.hidden_size)
        reconstruction = pixel_shuffle(self.decoder(tokens), stride)
        loss = None
        if bool_masked_pos is not None:
            loss = masked_reconstruction_loss(pixel_values, reconstruction, bool_masked_pos, config.patch_shape)
        output = FlaxMaskedImageModelingOutput(loss, reconstruction, outputs.hidden_states, outputs.attentions)
        return self.returned(output, return_dict)


class FlaxVisionTransformerForMaskedTokenModelingModule(VisionTransformerWithHead):
    """A Vision Transformer that predicts visual tokens of masked patches (BEiT, https://arxiv.org/abs/2106.08254).

    Its fields are those of `VisionTransformerWithHead`.
    """

    def setup(self) -> None:
        self.add_base_model(use_mask_token=True)
        self.layernorm = self.layer_norm()
        self.lm_head = self.linear(self.config.vocab_size, ("hidden", "vocabulary"))

    def __call__(
        self,
        pixel_values: Float[Array, "batch height width channels"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
        *,
        interpolate_pos_encoding: bool = False,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
        labels: Shaped[Array, " masked"] | None = None,
    ) -> FlaxMaskedLMOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerForMaskedTokenModeling.__call__`, but with channels last."""
        if labels is not None and bool_masked_pos is None:
            raise ValueError("labels are the visual tokens of masked patches; pass bool_masked_pos with them.")
        outputs: Any = self.base_model(
            pixel_values,
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **given(
                interpolate_pos_encoding=interpolate_pos_encoding,
                head_mask=head_mask,
                bool_masked_pos=bool_masked_pos,
                without_pooler=self.may_skip_pooler,
            ),
        )
        patches = self.patches_of(outputs, grid_of(pixel_values.shape[1:3], self.config.patch_shape))
        logits = self.lm_head(self.layernorm(patches))
        loss = None
        if labels is not None:
            loss = masked_token_loss(logits, jnp.asarray(labels), jnp.asarray(bool_masked_pos))
        return self.returned(FlaxMaskedLMOutput(loss, logits, outputs.hidden_states, outputs.attentions), return_dict)


class FlaxVisionTransformerForMaskedImageModeling(FlaxVisionTransformerPreTrainedModel):
    """A Vision Transformer with a decoder that reconstructs masked patches (SimMIM, https://arxiv.org/abs/2111.09886).

    See `FlaxPreTrainedModel` for its arguments. A patch is `encoder_stride` pixels high and wide.
    """

    task = "masked-image-modeling"
    module_class = FlaxVisionTransformerForMaskedImageModelingModule

    def __call__(  # type: ignore[override]  # what the module takes is named here
        self,
        pixel_values: Float[Array, "batch channels height width"],
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
    ) -> FlaxMaskedImageModelingOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerModel.__call__`. With `bool_masked_pos` the output has a loss.

        Raises:
            TypeError: images or parameters are no arrays.
            ValueError: a shape does not fit the model, or the mesh; `dropout_rng` is missing; or there is a mask and
                patches are not `encoder_stride` pixels high and wide.
        """
        return super().__call__(
            pixel_values,
            params,
            dropout_rng,
            train,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            interpolate_pos_encoding=interpolate_pos_encoding,
            head_mask=head_mask,
            bool_masked_pos=bool_masked_pos,
        )


class FlaxVisionTransformerForMaskedTokenModeling(FlaxVisionTransformerPreTrainedModel):
    """A Vision Transformer that predicts visual tokens of masked patches (BEiT, https://arxiv.org/abs/2106.08254).

    See `FlaxPreTrainedModel` for its arguments. There are `config.vocab_size` visual tokens.
    """

    task = "masked-token-modeling"
    module_class = FlaxVisionTransformerForMaskedTokenModelingModule

    def __call__(  # type: ignore[override]  # what the module takes is named here
        self,
        pixel_values: Float[Array, "batch channels height width"],
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
        labels: Shaped[Array, " masked"] | None = None,
    ) -> FlaxMaskedLMOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerModel.__call__`.

        Args:
            pixel_values: see `FlaxVisionTransformerModel.__call__`.
            bool_masked_pos: (batch, patches), true or 1 where the mask token replaces the patch.
            params: see `FlaxVisionTransformerModel.__call__`.
            dropout_rng: see `FlaxVisionTransformerModel.__call__`.
            train: see `FlaxVisionTransformerModel.__call__`.
            output_attentions: see `FlaxVisionTransformerModel.__call__`.
            output_hidden_states: see `FlaxVisionTransformerModel.__call__`.
            return_dict: see `FlaxVisionTransformerModel.__call__`.
            interpolate_pos_encoding: see `FlaxVisionTransformerModel.__call__`.
            head_mask: see `FlaxVisionTransformerModel.__call__`.
            labels: the visual tokens of the masked patches of all images, one after the other; see
                `vit_flax.losses.masked_token_loss`. With them the output has a loss.

        Raises:
            TypeError: images or parameters are no arrays.
            ValueError: a shape does not fit the model, or the mesh; `dropout_rng` is missing; or labels are given
                without a mask or do not fit it, which under jit makes the loss NaN instead.
        """
        return super().__call__(
            pixel_values,
            params,
            dropout_rng,
            train,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            interpolate_pos_encoding=interpolate_pos_encoding,
            head_mask=head_mask,
            bool_masked_pos=bool_masked_pos,
            labels=labels,
        )
