"""Models in PyTorch that predict masked patches: their pixels, or the numbers that a tokenizer gives them.

SimMIM (Xie et al. 2021, https://arxiv.org/abs/2111.09886) and BEiT (Bao et al. 2021,
https://arxiv.org/abs/2106.08254); masked autoencoders are in `masked_autoencoder`.
"""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from vit_core import PretrainedConfig
from vit_torch.filling import own_parts
from vit_torch.losses import masked_reconstruction_loss, masked_token_loss
from vit_torch.modeling import VisionTransformerWithHead
from vit_torch.norms import norm_of
from vit_torch.outputs import (
    MaskedImageModelingOutput,
    MaskedLMOutput,
)


class VisionTransformerForMaskedImageModeling(VisionTransformerWithHead):
    """A Vision Transformer with a decoder that reconstructs masked patches (SimMIM, https://arxiv.org/abs/2111.09886).

    Args:
        config: its sizes and settings; a patch is `encoder_stride` pixels high and wide.
    """

    task = "masked-image-modeling"

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.add_base_model(use_mask_token=True)
        pixels = config.encoder_stride**2 * config.num_channels
        with own_parts():
            self.decoder = nn.Sequential(
                nn.Conv2d(config.hidden_size, pixels, kernel_size=1), nn.PixelShuffle(config.encoder_stride)
            )
        self.post_init()

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        bool_masked_pos: Shaped[Tensor, "batch patches"] | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        return_dict: bool | None = None,
    ) -> MaskedImageModelingOutput | tuple[Tensor, ...]:
        """Run the model; see `VisionTransformerModel.forward`. With `bool_masked_pos` the output has a loss.

        Raises:
            ValueError: a shape does not fit the model, or there is a mask and patches are not `encoder_stride` pixels
                high and wide.
        """
        config, pixel_values = self.config, self._images(pixel_values)
        if bool_masked_pos is not None and config.patch_shape != (config.encoder_stride, config.encoder_stride):
            raise ValueError(
                f"patch_size is {config.patch_size} and encoder_stride {config.encoder_stride}; with bool_masked_pos "
                f"they must be equal, so that the reconstruction has the image's size."
            )
        outputs = self.base_model(
            pixel_values,
            bool_masked_pos=bool_masked_pos,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
            **self.base_options,
        )
        grid = self.base_model.embeddings.patch_embeddings.grid(*pixel_values.shape[-2:])
        patches = self.patches_of(outputs, grid)
        reconstruction = self.decoder(patches.transpose(1, 2).unflatten(2, grid))
        loss = None
        if bool_masked_pos is not None:
            mask = self._as_tensor(bool_masked_pos)
            loss = masked_reconstruction_loss(pixel_values, reconstruction, mask, config.patch_shape)
        output = MaskedImageModelingOutput(loss, reconstruction, outputs.hidden_states, outputs.attentions)
        return self._returned(output, return_dict)


class VisionTransformerForMaskedTokenModeling(VisionTransformerWithHead):
    """A Vision Transformer that predicts visual tokens of masked patches (BEiT, https://arxiv.org/abs/2106.08254).

    Args:
        config: its sizes and settings; there are `vocab_size` visual tokens.
    """

    task = "masked-token-modeling"

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.add_base_model(use_mask_token=True)
        with own_parts():
            self.layernorm = norm_of(config)
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        bool_masked_pos: Shaped[Tensor, "batch patches"] | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        labels: Shaped[Tensor, " masked"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        return_dict: bool | None = None,
    ) -> MaskedLMOutput | tuple[Tensor, ...]:
        """Run the model; see `VisionTransformerModel.forward`.

        Args:
            pixel_values: images, (batch, channels, height, width).
            bool_masked_pos: (batch, patches), true or 1 where the mask token replaces the patch.
            head_mask: see `VisionTransformerModel.forward`.
            labels: the visual tokens of the masked patches of all images, one after the other; see
                `vit_torch.losses.masked_token_loss`. With them the output has a loss.
            output_attentions: see `VisionTransformerModel.forward`.
            output_hidden_states: see `VisionTransformerModel.forward`.
            interpolate_pos_encoding: see `VisionTransformerModel.forward`.
            return_dict: see `VisionTransformerModel.forward`.

        Raises:
            ValueError: a shape does not fit the model, or there are labels without a mask.
        """
        pixel_values = self._images(pixel_values)
        if labels is not None and bool_masked_pos is None:
            raise ValueError("labels are the visual tokens of masked patches; pass bool_masked_pos with them.")
        outputs = self.base_model(
            pixel_values,
            bool_masked_pos=bool_masked_pos,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
            **self.base_options,
        )
        grid = self.base_model.embeddings.patch_embeddings.grid(*pixel_values.shape[-2:])
        logits = self.lm_head(self.layernorm(self.patches_of(outputs, grid)))
        loss = None
        if labels is not None:
            loss = masked_token_loss(logits, self._as_tensor(labels), self._as_tensor(bool_masked_pos))
        output = MaskedLMOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return self._returned(output, return_dict)
