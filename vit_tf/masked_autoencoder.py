"""Masked autoencoders in Keras (He et al. 2021, https://arxiv.org/abs/2111.06377).

The encoder is a Vision Transformer that sees a few of the patches, chosen by noise; the decoder is a small one that
paints all of them.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import keras
import tensorflow as tf
from jaxtyping import Float, Int, Shaped
from keras import backend, ops
from tensorflow import Tensor

from vit_core import PretrainedConfig
from vit_core.patches import grid_of
from vit_tf.checks import check_per_patch, require
from vit_tf.initialization import SinCos, Start
from vit_tf.layers import LayerStack, Shape, ViTLayer, linear
from vit_tf.modeling import TFVisionTransformerModel, VisionTransformerWithHead
from vit_tf.norms import norm_of
from vit_tf.outputs import TFViTMAEDecoderOutput, TFViTMAEForPreTrainingOutput, TFViTMAEModelOutput
from vit_tf.position import resample_grid

#: What normalisation adds to the variance of a patch.
EPSILON = 1e-6


def random_masking(
    noise: Float[Tensor, "batch patches"], mask_ratio: float
) -> tuple[Int[Tensor, "batch kept"], Float[Tensor, "batch patches"], Int[Tensor, "batch patches"]]:
    """Choose the patches with the least noise.

    Args:
        noise: a number for each patch.
        mask_ratio: the share of patches that are left out.

    Returns:
        The numbers of the patches that are kept, by their noise; 1 where a patch is left out and 0 where it is kept;
        and where each patch stands among all of them by their noise.
    """
    patches = ops.shape(noise)[1]
    kept = number_of_kept(patches, mask_ratio)
    by_noise = tf.argsort(noise, axis=1, stable=True)
    ids_restore = tf.argsort(by_noise, axis=1, stable=True)
    return by_noise[:, :kept], ops.cast(ids_restore >= kept, "float32"), ids_restore


def number_of_kept(patches: int | Tensor, mask_ratio: float) -> int | Tensor:
    """How many of the patches the encoder sees."""
    if isinstance(patches, int):
        return int(patches * (1 - mask_ratio))
    return ops.cast(ops.cast(patches, "float64") * (1 - mask_ratio), "int32")


def picked(
    tokens: Float[Tensor, "batch tokens hidden"], places: Int[Tensor, "batch picked"]
) -> Float[Tensor, "batch picked hidden"]:
    """The tokens at some places, in each image its own."""
    return tf.gather(tokens, places, axis=1, batch_dims=1)


class ViTMAEDecoder(LayerStack):
    """Paints all patches from the tokens of those that the encoder has seen."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        decoder: PretrainedConfig = config.decoder_config
        self.hidden_size = decoder.hidden_size
        self.num_prefix_tokens = config.architecture.num_prefix_tokens
        self.decoder_embed = linear(config, decoder.hidden_size, "decoder_embed", self.dtype_policy)
        self.decoder_layers = [
            ViTLayer(decoder, layer, name=f"decoder_layers.{layer}", dtype=self.dtype_policy)
            for layer in range(decoder.num_hidden_layers)
        ]
        self.decoder_norm = norm_of(config, "decoder_norm", self.dtype_policy)
        pixels = math.prod(config.patch_shape) * config.num_channels
        self.decoder_pred = linear(config, pixels, "decoder_pred", self.dtype_policy)
        self.output_shape = (None, math.prod(config.grid), pixels)  # for `summary`

    def build(self, input_shape: Shape) -> None:
        width, before = self.hidden_size, self.num_prefix_tokens
        self.mask_token = self.add_weight(name="mask_token", shape=(1, 1, width), initializer=Start(self.config))
        self.decoder_pos_embed = self.add_weight(
            name="decoder_pos_embed",
            shape=(1, before + math.prod(self.config.grid), width),
            initializer=SinCos(self.config.grid, before),
            trainable=False,
        )
        self.decoder_embed.build((None, None, self.config.hidden_size))
        for layer in self.decoder_layers:
            layer.build((None, None, width))
        self.decoder_norm.build((None, None, width))
        self.decoder_pred.build((None, None, width))

    def call(
        self,
        hidden_states: Float[Tensor, "batch seen hidden"],
        ids_restore: Int[Tensor, "batch patches"],
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        interpolate_pos_encoding: bool = False,
        training: bool = False,
    ) -> TFViTMAEDecoderOutput | tuple[Any, ...]:
        """Run the decoder.

        Args:
            hidden_states: the encoder's last hidden states.
            ids_restore: see `random_masking`.
            output_attentions: whether to return the decoder's attention maps.
            output_hidden_states: whether to return the decoder's hidden states.
            return_dict: whether to return an output object rather than a tuple.
            interpolate_pos_encoding: whether to resample the positions for the number of patches.
            training: whether dropout acts.
        """
        before = self.num_prefix_tokens
        seen = self.decoder_embed(hidden_states)
        batch, count, width = ops.shape(seen)
        patches = ops.shape(ids_restore)[1]
        left_out = ops.broadcast_to(self.mask_token, (batch, patches - (count - before), width))
        restored = picked(ops.concatenate([seen[:, before:], left_out], axis=1), ids_restore)
        tokens = ops.concatenate([seen[:, :before], restored], axis=1) if before else restored
        tokens = tokens + (self._resampled_positions(patches) if interpolate_pos_encoding else self.decoder_pos_embed)
        decoded = self.run_layers(
            self.decoder_layers,
            tokens,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            training=training,
        )
        logits = self.decoder_pred(self.decoder_norm(decoded.last_hidden_state))[:, before:]
        output = TFViTMAEDecoderOutput(logits, decoded.hidden_states, decoded.attentions)
        return output if return_dict else output.to_tuple()

    def _resampled_positions(self, patches: int | Tensor) -> Float[Tensor, "1 tokens hidden"]:
        """The positions for another number of patches, which transformers resamples as one line, whatever the grid."""
        before = self.num_prefix_tokens
        positions = ops.convert_to_tensor(self.decoder_pos_embed)
        return ops.concatenate([positions[:, :before], resample_grid(positions[:, before:], (1, patches))], axis=1)


class MaskedAutoencoderModel(TFVisionTransformerModel):
    """The encoder of a masked autoencoder: a Vision Transformer that sees a part of the patches.

    Its arguments are those of `TFVisionTransformerModel`.
    """

    output_class = TFViTMAEModelOutput

    def __init__(self, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.mask_ratio: float = config.mask_ratio
        self.num_prefix_tokens = config.architecture.num_prefix_tokens
        kept = number_of_kept(math.prod(config.grid), self.mask_ratio)
        self.output_shape = self.main_output_shape = (None, self.num_prefix_tokens + kept, config.hidden_size)

    def build(self, input_shape: Shape) -> None:
        self.noise_seed = keras.random.SeedGenerator()
        self._noise_state = self.noise_seed.state.value  # where `tf.saved_model.save` finds it
        super().build(input_shape)

    def call(  # type: ignore[override]
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        noise: Float[Tensor, "batch patches"] | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
        interpolate_pos_encoding: bool | None = None,
    ) -> TFViTMAEModelOutput | tuple[Tensor, ...]:
        """Run the model; see `TFVisionTransformerModel.call`.

        Args:
            pixel_values: see `TFVisionTransformerModel.call`.
            noise: (batch, patches), what decides which patches are seen: those with the least. Drawn unless given.
            head_mask: see `TFVisionTransformerModel.call`.
            output_attentions: see `TFVisionTransformerModel.call`.
            output_hidden_states: see `TFVisionTransformerModel.call`.
            return_dict: see `TFVisionTransformerModel.call`.
            training: see `TFVisionTransformerModel.call`.
            interpolate_pos_encoding: see `TFVisionTransformerModel.call`.

        Raises:
            ValueError: a shape does not fit the model; see `vit_tf.checks.require` for graphs.
        """
        config, before = self.config, self.num_prefix_tokens
        tokens = self.embeddings(
            ops.cast(pixel_values, self.compute_dtype), interpolate_pos_encoding=bool(interpolate_pos_encoding)
        )
        patches = tokens[:, before:]
        if noise is None:
            noise = keras.random.uniform(ops.shape(patches)[:2], dtype="float32", seed=self.noise_seed)
        check_per_patch("noise", noise, patches)
        kept, mask, ids_restore = random_masking(noise, self.mask_ratio)
        seen = picked(patches, kept)
        encoded = self.encoder(
            ops.concatenate([tokens[:, :before], seen], axis=1) if before else seen,
            self._per_layer(head_mask),
            output_attentions=config.output_attentions if output_attentions is None else output_attentions,
            output_hidden_states=config.output_hidden_states if output_hidden_states is None else output_hidden_states,
            training=training,
        )
        output = TFViTMAEModelOutput(
            last_hidden_state=self.layernorm(encoded.last_hidden_state),
            mask=mask,
            ids_restore=ids_restore,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._returned(output, return_dict)


class MaskedAutoencoderForPreTraining(VisionTransformerWithHead):
    """A masked autoencoder with its decoder, which paints the patches that the encoder does not see.

    Args:
        config: its sizes and settings.
        data_format: see `TFVisionTransformerModel`.
        **kwargs: see `TFVisionTransformerModel`.
    """

    task = "pre-training"
    output_class = TFViTMAEForPreTrainingOutput
    main_output_name = "logits"
    base_model_class: ClassVar[type[TFVisionTransformerModel]] = MaskedAutoencoderModel

    def __init__(self, config: PretrainedConfig, data_format: str = "channels_first", **kwargs: Any) -> None:
        super().__init__(config, data_format, **kwargs)
        self._hold_base()
        self.decoder = ViTMAEDecoder(config, name="decoder", dtype=self.dtype_policy)
        self.main_output_shape = self.decoder.output_shape
        self.norm_pix_loss: bool = config.norm_pix_loss
        self.build(self.image_batch_shape)

    def build(self, input_shape: Shape) -> None:
        self.decoder.build((None, None, self.config.hidden_size))

    def call(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        noise: Float[Tensor, "batch patches"] | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
        interpolate_pos_encoding: bool | None = None,
    ) -> TFViTMAEForPreTrainingOutput | tuple[Tensor, ...]:
        """Run the model; see `MaskedAutoencoderModel.call`. The output has a loss; hidden states are the encoder's.

        Raises:
            ValueError: a shape does not fit the model, or patches do not fill the images; see `vit_tf.checks.require`
                for graphs.
        """
        outputs = self._encoded(
            pixel_values,
            head_mask,
            output_attentions,
            output_hidden_states,
            interpolate_pos_encoding,
            training,
            noise=noise,
        )
        logits = self.decoder(
            outputs.last_hidden_state,
            outputs.ids_restore,
            interpolate_pos_encoding=bool(interpolate_pos_encoding),
            training=training,
        ).logits
        loss = self.forward_loss(pixel_values, logits, outputs.mask, bool(interpolate_pos_encoding))
        output = TFViTMAEForPreTrainingOutput(
            loss, logits, outputs.mask, outputs.ids_restore, outputs.hidden_states, outputs.attentions
        )
        return self._returned(output, return_dict)

    def patchify(
        self, pixel_values: Float[Tensor, "batch channels height width"], interpolate_pos_encoding: bool = False
    ) -> Float[Tensor, "batch patches pixels"]:
        """The pixels of each patch: row by row, and of each place all channels.

        Args:
            pixel_values: images, with the axes in the order of the model's `data_format`.
            interpolate_pos_encoding: accepted for scripts that give it; images may have any size here.

        Raises:
            ValueError: patches do not fill the images, or they have another number of channels; see
                `vit_tf.checks.require` for graphs.
        """
        pixel_values = ops.convert_to_tensor(pixel_values)
        if self.data_format == "channels_first":
            pixel_values = ops.transpose(pixel_values, (0, 2, 3, 1))
        (_, height, width, channels), patch = ops.shape(pixel_values), self.config.patch_shape
        require(
            channels == self.config.num_channels,
            f"images have {{}} channels, the model takes {self.config.num_channels}; channels come "
            f"{'first' if self.data_format == 'channels_first' else 'last'}.",
            channels,
        )
        for name, size, length in (("high", height, patch[0]), ("wide", width, patch[1])):
            require(
                size % length == 0,
                f"images are {{}} pixels {name}, which patches of {length} do not fill; resize or crop them.",
                size,
            )
        rows, columns = grid_of((height, width), patch)
        patches = ops.reshape(pixel_values, (-1, rows, patch[0], columns, patch[1], channels))
        patches = ops.transpose(patches, (0, 1, 3, 2, 4, 5))
        return ops.reshape(patches, (-1, rows * columns, math.prod(patch) * channels))

    def unpatchify(
        self,
        patchified_pixel_values: Float[Tensor, "batch patches pixels"],
        original_image_size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """The images of which `patchify` made patches.

        Args:
            patchified_pixel_values: what `patchify` returned, or the model's logits.
            original_image_size: height and width of the images; the config's unless given.

        Raises:
            ValueError: such images have another number of patches; see `vit_tf.checks.require` for graphs.
        """
        patches = ops.convert_to_tensor(patchified_pixel_values)
        height, width = original_image_size or self.config.image_shape
        patch, channels = self.config.patch_shape, self.config.num_channels
        rows, columns = grid_of((height, width), patch)
        count = ops.shape(patches)[1]
        require(
            count == rows * columns,
            f"there are {{}} patches, but images of {height} x {width} pixels have {rows * columns}; give the "
            f"original_image_size (height, width).",
            count,
        )
        images = ops.reshape(patches, (-1, rows, columns, *patch, channels))
        size = (rows * patch[0], columns * patch[1])
        if self.data_format == "channels_first":
            return ops.reshape(ops.transpose(images, (0, 5, 1, 3, 2, 4)), (-1, channels, *size))
        return ops.reshape(ops.transpose(images, (0, 1, 3, 2, 4, 5)), (-1, *size, channels))

    def forward_loss(
        self,
        pixel_values: Float[Tensor, "batch channels height width"],
        pred: Float[Tensor, "batch patches pixels"],
        mask: Float[Tensor, "batch patches"],
        interpolate_pos_encoding: bool = False,
    ) -> Float[Tensor, ""]:
        """The mean squared error over the pixels of the patches that were left out; in float32 at least.

        With the config's `norm_pix_loss`, of pixels that have mean 0 and variance 1 in each patch.

        Args:
            pixel_values: the images.
            pred: what the decoder makes of their patches.
            mask: 1 where a patch was left out, 0 where it was seen.
            interpolate_pos_encoding: see `patchify`.
        """
        dtype = backend.result_type(pred.dtype, "float32")
        target = ops.cast(self.patchify(pixel_values, interpolate_pos_encoding), dtype)
        if self.norm_pix_loss:
            mean = ops.mean(target, axis=-1, keepdims=True)
            squares = ops.sum(ops.square(target - mean), axis=-1, keepdims=True)
            variance = squares / (target.shape[-1] - 1)  # unbiased, as torch.var is
            target = (target - mean) / ops.sqrt(variance + EPSILON)
        errors = ops.mean(ops.square(ops.cast(pred, dtype) - target), axis=-1)
        mask = ops.cast(mask, dtype)
        return ops.sum(errors * mask) / ops.maximum(ops.sum(mask), 1)  # nothing left out is no loss, not 0 / 0

    def own_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Tensor:
        """The loss of the patches that were left out, which `fit` minimises when `compile` names none."""
        return y_pred[0]
