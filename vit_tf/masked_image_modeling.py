"""Models in Keras that predict masked patches: their pixels, or the numbers that a tokenizer gives them.

SimMIM (Xie et al. 2021, https://arxiv.org/abs/2111.09886) and BEiT (Bao et al. 2021,
https://arxiv.org/abs/2106.08254); masked autoencoders are in `masked_autoencoder`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
from jaxtyping import Float, Shaped
from keras import layers, ops
from tensorflow import Tensor

from vit_core import PretrainedConfig
from vit_tf.initialization import Start
from vit_tf.layers import (
    Shape,
    linear,
)
from vit_tf.losses import masked_reconstruction_loss, masked_token_loss, mean_loss
from vit_tf.modeling import VisionTransformerWithHead
from vit_tf.norms import norm_of
from vit_tf.outputs import (
    TFMaskedImageModelingOutput,
    TFMaskedLMOutput,
)
from vit_tf.parts import Part


class PixelShuffle(Part):
    """Lays the channels of each place out as a patch of pixels, as torch.nn.PixelShuffle does (Shi et al. 2016,
    https://arxiv.org/abs/1609.05158).
    """

    def __init__(self, factor: int, data_format: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor
        self.data_format = data_format

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> Shape:
        """The shape of the images, for `summary`."""
        batch, rows, columns, pixels = input_shape
        channels, size = pixels // self.factor**2, (rows * self.factor, columns * self.factor)
        return (batch, channels, *size) if self.data_format == "channels_first" else (batch, *size, channels)

    def call(self, grid: Float[Tensor, "batch rows columns pixels"]) -> Float[Tensor, "batch channels height width"]:
        _, rows, columns, pixels = ops.shape(grid)
        factor, channels = self.factor, pixels // self.factor**2
        patches = ops.reshape(grid, (-1, rows, columns, channels, factor, factor))
        if self.data_format == "channels_first":
            axes, shape = (0, 3, 1, 4, 2, 5), (-1, channels, rows * factor, columns * factor)
        else:
            axes, shape = (0, 1, 4, 2, 5, 3), (-1, rows * factor, columns * factor, channels)
        return ops.reshape(ops.transpose(patches, axes), shape)


@keras.saving.register_keras_serializable("trivit")
class TFVisionTransformerForMaskedImageModeling(VisionTransformerWithHead):
    """A Vision Transformer with a decoder that reconstructs masked patches (SimMIM, https://arxiv.org/abs/2111.09886).

    Args:
        config: its sizes and settings; a patch is `encoder_stride` pixels high and wide.
        data_format: see `TFVisionTransformerModel`.
        **kwargs: see `TFVisionTransformerModel`.
    """

    task = "masked-image-modeling"
    output_class = TFMaskedImageModelingOutput
    main_output_name = "reconstruction"

    def __init__(self, config: PretrainedConfig, data_format: str = "channels_first", **kwargs: Any) -> None:
        super().__init__(config, data_format, **kwargs)
        architecture = config.architecture
        self.main_output_shape = self.image_batch_shape
        self._hold_base(use_mask_token=True)
        # As many tokens as there are patches, from the first that stands for one.
        self.masked = slice(
            architecture.first_masked, architecture.first_masked - architecture.num_prefix_tokens or None
        )
        self.decoder = [
            layers.Conv2D(
                config.encoder_stride**2 * config.num_channels,
                kernel_size=1,
                data_format="channels_last",
                kernel_initializer=Start(config),
                name="decoder_0",
                dtype=self.dtype_policy,
            ),
            PixelShuffle(config.encoder_stride, data_format, name="decoder_1", dtype=self.dtype_policy),
        ]
        self.build(self.image_batch_shape)

    def build(self, input_shape: Shape) -> None:
        self.decoder[0].build((None, *self.config.grid, self.config.hidden_size))
        self.decoder[1].build((None, *self.config.grid, self.decoder[0].filters))

    def call(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        bool_masked_pos: Shaped[Tensor, "batch patches"] | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> TFMaskedImageModelingOutput | tuple[Tensor, ...]:
        """Run the model; see `TFVisionTransformerModel.call`. With `bool_masked_pos` the output has a loss.

        Raises:
            ValueError: a shape does not fit the model, or there is a mask and patches are not `encoder_stride` pixels
                high and wide; see `vit_tf.checks.require` for graphs.
        """
        config = self.config
        if bool_masked_pos is not None and config.patch_shape != (config.encoder_stride, config.encoder_stride):
            raise ValueError(
                f"patch_size is {config.patch_size} and encoder_stride {config.encoder_stride}; with bool_masked_pos "
                f"they must be equal, so that the reconstruction has the image's size."
            )
        outputs = self._encoded(
            pixel_values,
            head_mask,
            output_attentions,
            output_hidden_states,
            interpolate_pos_encoding,
            training,
            bool_masked_pos=bool_masked_pos,
        )
        patches = outputs.last_hidden_state[:, self.masked]
        rows, columns = self._base_model().embeddings.patch_embeddings.grid(pixel_values)
        reconstruction = ops.reshape(patches, (-1, rows, columns, config.hidden_size))
        for layer in self.decoder:
            reconstruction = layer(reconstruction)
        loss = None
        if bool_masked_pos is not None:
            loss = masked_reconstruction_loss(
                pixel_values, reconstruction, bool_masked_pos, config.patch_shape, self.data_format
            )
        output = TFMaskedImageModelingOutput(loss, reconstruction, outputs.hidden_states, outputs.attentions)
        return self._returned(output, return_dict)

    def own_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Tensor:
        """The loss of the masked patches, which `fit` minimises when `compile` names none."""
        loss = y_pred[0]
        if len(loss.shape):
            raise ValueError(
                "there is no bool_masked_pos; fit on batches {'pixel_values': ..., 'bool_masked_pos': ...}."
            )
        return loss


@keras.saving.register_keras_serializable("trivit")
class TFVisionTransformerForMaskedTokenModeling(VisionTransformerWithHead):
    """A Vision Transformer that tells the visual tokens of masked patches (BEiT, https://arxiv.org/abs/2106.08254).

    Args:
        config: its sizes and settings; `vocab_size` visual tokens.
        data_format: see `TFVisionTransformerModel`.
        **kwargs: see `TFVisionTransformerModel`.
    """

    task = "masked-token-modeling"
    output_class = TFMaskedLMOutput
    main_output_name = "logits"

    def __init__(self, config: PretrainedConfig, data_format: str = "channels_first", **kwargs: Any) -> None:
        super().__init__(config, data_format, **kwargs)
        self.main_output_shape = (None, math.prod(config.grid), config.vocab_size)
        self._hold_base(use_mask_token=True)
        self.num_prefix_tokens = config.architecture.num_prefix_tokens
        self.layernorm = norm_of(config, "layernorm", self.dtype_policy)
        self.lm_head = linear(config, config.vocab_size, "lm_head", self.dtype_policy)
        self.build(self.image_batch_shape)

    def build(self, input_shape: Shape) -> None:
        self.layernorm.build((None, None, self.config.hidden_size))
        self.lm_head.build((None, None, self.config.hidden_size))

    def call(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        bool_masked_pos: Shaped[Tensor, "batch patches"] | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        labels: Shaped[Tensor, "*shape"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> TFMaskedLMOutput | tuple[Tensor, ...]:
        """Run the model; see `TFVisionTransformerModel.call`.

        Args:
            pixel_values: see `TFVisionTransformerModel.call`.
            bool_masked_pos: see `TFVisionTransformerModel.call`.
            head_mask: see `TFVisionTransformerModel.call`.
            labels: what `vit_tf.losses.masked_token_loss` takes; with them the output has a loss.
            output_attentions: see `TFVisionTransformerModel.call`.
            output_hidden_states: see `TFVisionTransformerModel.call`.
            interpolate_pos_encoding: see `TFVisionTransformerModel.call`.
            return_dict: see `TFVisionTransformerModel.call`.
            training: see `TFVisionTransformerModel.call`.

        Raises:
            ValueError: a shape does not fit the model, a label is out of range, or there are labels and no mask; see
                `vit_tf.checks.require` for graphs.
        """
        outputs = self._encoded(
            pixel_values,
            head_mask,
            output_attentions,
            output_hidden_states,
            interpolate_pos_encoding,
            training,
            bool_masked_pos=bool_masked_pos,
        )
        logits = self.lm_head(self.layernorm(outputs.last_hidden_state[:, self.num_prefix_tokens :]))
        loss = None if labels is None else masked_token_loss(logits, labels, bool_masked_pos)
        output = TFMaskedLMOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return self._returned(output, return_dict)

    def own_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Tensor:
        """The loss of the masked patches, which `fit` minimises when `compile` names none."""
        if y is None or not isinstance(x, Mapping):
            raise ValueError(
                "there are no labels or no bool_masked_pos; fit on batches {'pixel_values': ..., "
                "'bool_masked_pos': ..., 'labels': ...}."
            )
        loss = masked_token_loss(self.main_output(y_pred), y, x.get("bool_masked_pos"))
        return mean_loss(loss, sample_weight)


VisionTransformerForMaskedImageModeling = TFVisionTransformerForMaskedImageModeling
VisionTransformerForMaskedTokenModeling = TFVisionTransformerForMaskedTokenModeling
