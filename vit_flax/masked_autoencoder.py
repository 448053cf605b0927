"""Masked autoencoders in Flax (He et al. 2021, https://arxiv.org/abs/2111.06377).

The encoder is a Vision Transformer that sees a few of the patches, chosen by noise; the decoder is a small one that
paints all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, Shaped

from vit_core import PretrainedConfig
from vit_core.patches import grid_of
from vit_flax.checks import check_per_patch
from vit_flax.embeddings import fixed_positions
from vit_flax.initialization import normal
from vit_flax.intermediate_layers import IntermediateLayers
from vit_flax.layers import LayerStack
from vit_flax.modeling import (
    FlaxVisionTransformerModule,
    FlaxVisionTransformerPreTrainedModel,
    VisionTransformerWithHead,
)
from vit_flax.outputs import FlaxViTMAEDecoderOutput, FlaxViTMAEForPreTrainingOutput, FlaxViTMAEModelOutput
from vit_flax.parts import given
from vit_flax.position import resample_grid

#: What normalisation adds to the variance of a patch.
EPSILON = 1e-6


def random_masking(
    noise: Float[Array, "batch patches"], mask_ratio: float
) -> tuple[Int[Array, "batch kept"], Float[Array, "batch patches"], Int[Array, "batch patches"]]:
    """Choose the patches with the least noise.

    Args:
        noise: a number for each patch.
        mask_ratio: the share of patches that are left out.

    Returns:
        The numbers of the patches that are kept, by their noise; 1 where a patch is left out and 0 where it is kept;
        and where each patch stands among all of them by their noise.
    """
    kept = int(noise.shape[1] * (1 - mask_ratio))
    by_noise = jnp.argsort(noise, axis=1, stable=True)
    ids_restore = jnp.argsort(by_noise, axis=1)
    return by_noise[:, :kept], (ids_restore >= kept).astype(jnp.float32), ids_restore


def picked(
    tokens: Float[Array, "batch tokens hidden"], places: Int[Array, "batch picked"]
) -> Float[Array, "batch picked hidden"]:
    """The tokens at some places, in each image its own."""
    return jnp.take_along_axis(tokens, places[..., None], axis=1)


def patches_of_pixels(
    pixel_values: Float[Array, "batch height width channels"], config: PretrainedConfig
) -> Float[Array, "batch patches pixels"]:
    """The pixels of each patch: row by row, and of each place all channels.

    Raises:
        ValueError: patches do not fill the images, or they have another number of channels.
    """
    (batch, *size, channels), patch = pixel_values.shape, config.patch_shape
    if channels != config.num_channels:
        raise ValueError(
            f"images have {channels} channels, the model takes {config.num_channels}; channels come first."
        )
    for name, pixels, length in zip(("high", "wide"), size, patch, strict=True):
        if pixels % length:
            raise ValueError(
                f"images are {pixels} pixels {name}, which patches of {length} do not fill; resize or crop them."
            )
    rows, columns = grid_of(size, patch)
    patches = pixel_values.reshape(batch, rows, patch[0], columns, patch[1], channels).transpose(0, 1, 3, 2, 4, 5)
    return patches.reshape(batch, rows * columns, math.prod(patch) * channels)


def reconstruction_loss(
    pixel_values: Float[Array, "batch height width channels"],
    pred: Float[Array, "batch patches pixels"],
    mask: Float[Array, "batch patches"],
    config: PretrainedConfig,
) -> Float[Array, ""]:
    """The mean squared error over the pixels of the patches that were left out; in float32 at least.

    With the config's `norm_pix_loss`, of pixels that have mean 0 and variance 1 in each patch.

    Args:
        pixel_values: the images.
        pred: what the decoder makes of their patches.
        mask: 1 where a patch was left out, 0 where it was seen.
        config: the model's.
    """
    dtype = jnp.promote_types(pred.dtype, jnp.float32)
    target = patches_of_pixels(pixel_values, config).astype(dtype)
    if config.norm_pix_loss:
        variance = target.var(-1, keepdims=True, ddof=1)
        target = (target - target.mean(-1, keepdims=True)) / jnp.sqrt(variance + EPSILON)
    errors = jnp.square(pred.astype(dtype) - target).mean(-1)
    return (errors * mask).sum() / jnp.maximum(mask.sum(), 1)  # nothing left out is no loss rather than 0 / 0


class FlaxMaskedAutoencoderModule(FlaxVisionTransformerModule):
    """The encoder of a masked autoencoder: a Vision Transformer that sees a part of the patches.

    Its fields are those of `FlaxVisionTransformerModule`.
    """

    def __call__(  # type: ignore[override]
        self,
        pixel_values: Float[Array, "batch height width channels"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        *,
        noise: Float[Array, "batch patches"] | None = None,
        interpolate_pos_encoding: bool = False,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
    ) -> FlaxViTMAEModelOutput | tuple[Any, ...]:
        """Run the model; see `FlaxMaskedAutoencoderModel.__call__`, but the channels of images come last here."""
        self._require_rng(deterministic)
        tokens = self.embeddings(
            pixel_values, deterministic=deterministic, **given(interpolate_pos_encoding=interpolate_pos_encoding)
        )
        before = self.config.architecture.num_prefix_tokens
        prefix, patches = tokens[:, :before], tokens[:, before:]
        noise = self._drawn(patches.shape[:2]) if noise is None else jnp.asarray(noise)
        check_per_patch("noise", noise, *patches.shape[:2])
        kept, mask, ids_restore = random_masking(noise, self.config.mask_ratio)
        encoded = self._encoded(
            jnp.concatenate([prefix, picked(patches, kept)], axis=1),
            deterministic,
            output_attentions,
            output_hidden_states,
            head_mask=head_mask,
        )
        output = FlaxViTMAEModelOutput(
            last_hidden_state=self.layernorm(encoded[0]),
            mask=mask,
            ids_restore=ids_restore,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return output if return_dict else output.to_tuple()

    def _drawn(self, shape: tuple[int, ...]) -> Float[Array, "batch patches"]:
        """Noise from the random numbers "noise" or, where there are none, from those of dropout."""
        if self.is_initializing():  # where no value is looked at
            return jnp.zeros(shape)
        name = next((name for name in ("noise", "dropout") if self.has_rng(name)), None)
        if name is None:
            raise ValueError(
                "noise decides which patches are seen; pass noise of shape (batch, patches), or dropout_rng="
                "jax.random.key(...) to draw it (to a module: rngs={'noise': ...})."
            )
        return jax.random.uniform(self.make_rng(name), shape)


class FlaxViTMAEDecoder(LayerStack):
    """Paints all patches from the tokens of those that the encoder has seen."""

    def setup(self) -> None:
        config, decoder = self.config, self.config.decoder_config
        axes = (None, None, "decoder_hidden")
        start, before = normal(config.initializer_range), config.architecture.num_prefix_tokens
        self.mask_token = self.parameter("mask_token", (1, 1, decoder.hidden_size), axes, start)
        shape = (1, before + math.prod(config.grid), decoder.hidden_size)
        self.decoder_pos_embed = jax.lax.stop_gradient(
            self.parameter("decoder_pos_embed", shape, axes, fixed_positions(config.grid, before))
        )
        self.decoder_embed = self.linear(decoder.hidden_size, ("hidden", "decoder_hidden"))
        self.decoder_layers = self.stack(decoder)
        self.decoder_norm = self.layer_norm("decoder_hidden")
        pixels = math.prod(config.patch_shape) * config.num_channels
        self.decoder_pred = self.linear(pixels, ("decoder_hidden", "pixels"))

    def __call__(
        self,
        hidden_states: Float[Array, "batch seen hidden"],
        ids_restore: Int[Array, "batch patches"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        *,
        interpolate_pos_encoding: bool = False,
    ) -> FlaxViTMAEDecoderOutput | tuple[Any, ...]:
        """Run the decoder.

        Args:
            hidden_states: the encoder's last hidden states.
            ids_restore: see `random_masking`.
            deterministic: whether dropout is off.
            output_attentions: whether to return the decoder's attention maps.
            output_hidden_states: whether to return the decoder's hidden states.
            return_dict: whether to return an output object rather than a tuple.
            interpolate_pos_encoding: whether to resample the positions for the number of patches.
        """
        before = self.config.architecture.num_prefix_tokens
        seen = self.decoder_embed(hidden_states)
        (batch, count, width), patches = seen.shape, ids_restore.shape[1]
        left_out = jnp.broadcast_to(self.mask_token.astype(self.dtype), (batch, patches - (count - before), width))
        restored = picked(jnp.concatenate([seen[:, before:], left_out], axis=1), ids_restore)
        positions = self.decoder_pos_embed
        if interpolate_pos_encoding:
            # As one line of patches, whatever the grid: so does transformers, and so checkpoints were evaluated.
            resampled = resample_grid(positions[:, before:], (1, patches))
            positions = jnp.concatenate([positions[:, :before], resampled], axis=1)
        tokens = jnp.concatenate([seen[:, :before], restored], axis=1) + positions.astype(self.dtype)
        decoded = self.run(
            self.decoder_layers,
            self.constrain(tokens, "batch", "tokens", "decoder_hidden"),
            deterministic,
            output_attentions,
            output_hidden_states,
        )
        logits = self.decoder_pred(self.decoder_norm(decoded.last_hidden_state))[:, before:]
        output = FlaxViTMAEDecoderOutput(logits, decoded.hidden_states, decoded.attentions)
        return output if return_dict else output.to_tuple()


class FlaxMaskedAutoencoderForPreTrainingModule(VisionTransformerWithHead):
    """A masked autoencoder with its decoder, which paints the patches that the encoder does not see.

    Its fields are those of `VisionTransformerWithHead`.
    """

    base_module_class = FlaxMaskedAutoencoderModule

    def setup(self) -> None:
        self.add_base_model()
        self.decoder = FlaxViTMAEDecoder(**self.shared, scan_layers=self.scan_layers, remat=self.remat)

    def __call__(
        self,
        pixel_values: Float[Array, "batch height width channels"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
        *,
        noise: Float[Array, "batch patches"] | None = None,
        interpolate_pos_encoding: bool = False,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
    ) -> FlaxViTMAEForPreTrainingOutput | tuple[Any, ...]:
        """Run the model; see `FlaxMaskedAutoencoderForPreTraining.__call__`, but with channels last."""
        outputs: Any = self.base_model(
            pixel_values,
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **given(noise=noise, interpolate_pos_encoding=interpolate_pos_encoding, head_mask=head_mask),
        )
        decoded: Any = self.decoder(
            outputs.last_hidden_state,
            outputs.ids_restore,
            deterministic=deterministic,
            interpolate_pos_encoding=interpolate_pos_encoding,
        )
        logits = decoded.logits
        loss = reconstruction_loss(pixel_values, logits, outputs.mask, self.config)
        output = FlaxViTMAEForPreTrainingOutput(
            loss, logits, outputs.mask, outputs.ids_restore, outputs.hidden_states, outputs.attentions
        )
        return self.returned(output, return_dict)


class FlaxMaskedAutoencoderModel(FlaxVisionTransformerPreTrainedModel, IntermediateLayers):
    """The encoder of a masked autoencoder; see `FlaxPreTrainedModel` for its arguments."""

    task = "model"
    module_class = FlaxMaskedAutoencoderModule

    def __call__(  # type: ignore[override]  # what the module takes is named here
        self,
        pixel_values: Float[Array, "batch channels height width"],
        noise: Float[Array, "batch patches"] | None = None,
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
    ) -> FlaxViTMAEModelOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerModel.__call__`.

        Args:
            pixel_values: images, (batch, channels, height, width).
            noise: (batch, patches), what decides which patches are seen: those with the least. Drawn by `dropout_rng`
                unless given.
            params: see `FlaxVisionTransformerModel.__call__`.
            dropout_rng: a key for the noise, and for dropout.
            train: see `FlaxVisionTransformerModel.__call__`.
            output_attentions: see `FlaxVisionTransformerModel.__call__`.
            output_hidden_states: see `FlaxVisionTransformerModel.__call__`.
            return_dict: see `FlaxVisionTransformerModel.__call__`.
            interpolate_pos_encoding: see `FlaxVisionTransformerModel.__call__`.
            head_mask: see `FlaxVisionTransformerModel.__call__`.

        Raises:
            TypeError: images or parameters are no arrays.
            ValueError: a shape does not fit the model, or the mesh; or there is neither `noise` nor `dropout_rng`.
        """
        return super().__call__(
            pixel_values,
            params,
            dropout_rng,
            train,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            noise=noise,
            interpolate_pos_encoding=interpolate_pos_encoding,
            head_mask=head_mask,
        )


class FlaxMaskedAutoencoderForPreTraining(FlaxVisionTransformerPreTrainedModel):
    """A masked autoencoder with its decoder, which paints the patches that the encoder does not see.

    See `FlaxPreTrainedModel` for its arguments.
    """

    task = "pre-training"
    module_class = FlaxMaskedAutoencoderForPreTrainingModule

    def __call__(  # type: ignore[override]  # what the module takes is named here
        self,
        pixel_values: Float[Array, "batch channels height width"],
        noise: Float[Array, "batch patches"] | None = None,
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
    ) -> FlaxViTMAEForPreTrainingOutput | tuple[Any, ...]:
        """Run the model; see `FlaxMaskedAutoencoderModel.__call__`. The output has a loss; hidden states are the
        encoder's.

        Raises:
            TypeError: images or parameters are no arrays.
            ValueError: a shape does not fit the model, or the mesh; patches do not fill the images; or there is neither
                `noise` nor `dropout_rng`.
        """
        return super().__call__(
            pixel_values,
            params,
            dropout_rng,
            train,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            noise=noise,
            interpolate_pos_encoding=interpolate_pos_encoding,
            head_mask=head_mask,
        )

    def patchify(
        self, pixel_values: Float[Array, "batch channels height width"], interpolate_pos_encoding: bool = False
    ) -> Float[Array, "batch patches pixels"]:
        """The pixels of each patch: row by row, and of each place all channels.

        Args:
            pixel_values: images, (batch, channels, height, width).
            interpolate_pos_encoding: accepted for scripts that give it; images may have any size here.

        Raises:
            ValueError: patches do not fill the images, or they have another number of channels.
        """
        return patches_of_pixels(jnp.asarray(pixel_values).transpose(0, 2, 3, 1), self.config)

    def unpatchify(
        self,
        patchified_pixel_values: Float[Array, "batch patches pixels"],
        original_image_size: tuple[int, int] | None = None,
    ) -> Float[Array, "batch channels height width"]:
        """The images of which `patchify` made patches.

        Args:
            patchified_pixel_values: what `patchify` returned, or the model's logits.
            original_image_size: height and width of the images; the config's unless given.

        Raises:
            ValueError: such images have another number of patches.
        """
        patches, channels = jnp.asarray(patchified_pixel_values), self.config.num_channels
        (height, width), patch = original_image_size or self.config.image_shape, self.config.patch_shape
        rows, columns = grid_of((height, width), patch)
        if patches.shape[1] != rows * columns:
            raise ValueError(
                f"there are {patches.shape[1]} patches, but images of {height} x {width} pixels have {rows * columns}; "
                f"give the original_image_size (height, width)."
            )
        images = patches.reshape(-1, rows, columns, *patch, channels).transpose(0, 5, 1, 3, 2, 4)
        return images.reshape(-1, channels, rows * patch[0], columns * patch[1])

    def forward_loss(
        self,
        pixel_values: Float[Array, "batch channels height width"],
        pred: Float[Array, "batch patches pixels"],
        mask: Float[Array, "batch patches"],
        interpolate_pos_encoding: bool = False,
    ) -> Float[Array, ""]:
        """The loss of what a decoder painted; see `reconstruction_loss`.

        Args:
            pixel_values: the images, (batch, channels, height, width).
            pred: what the decoder makes of their patches.
            mask: 1 where a patch was left out, 0 where it was seen.
            interpolate_pos_encoding: see `patchify`.
        """
        return reconstruction_loss(jnp.asarray(pixel_values).transpose(0, 2, 3, 1), pred, mask, self.config)
