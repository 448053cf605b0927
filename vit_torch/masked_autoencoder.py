"""The masked autoencoder in PyTorch (MAE, He et al. 2021, https://arxiv.org/abs/2111.06377).

The encoder sees a share of the patches, drawn by noise; a small decoder paints the others. The fixed positions and the
layers are those of every other model.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from vit_core import PretrainedConfig
from vit_core.parameters import INITIALIZERS
from vit_core.patches import grid_of
from vit_torch.embeddings import ViTEmbeddings
from vit_torch.filling import own_parts
from vit_torch.initialization import start
from vit_torch.layers import LayerStack, layers_of
from vit_torch.losses import masked_patch_loss
from vit_torch.modeling import VisionTransformerModel, VisionTransformerWithHead
from vit_torch.norms import norm_of
from vit_torch.outputs import ViTMAEDecoderOutput, ViTMAEForPreTrainingOutput, ViTMAEModelOutput
from vit_torch.position import resample_grid


class MaskedEmbeddings(ViTEmbeddings):
    """Turns an image into the tokens before the patches and those of the patches that are seen, with positions."""

    def forward(  # type: ignore[override]
        self,
        pixel_values: Float[Tensor, "batch channels height width"],
        noise: Shaped[Tensor, "batch patches"] | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> tuple[Float[Tensor, "batch seen_tokens hidden"], Float[Tensor, "batch patches"], Int[Tensor, "batch patches"]]:
        """Embed and leave patches out.

        Returns:
            The tokens; for each patch 1 if it was left out and 0 if it is seen; and where each patch stands among the
            shuffled ones.
        """
        patches = self.patch_embeddings(pixel_values, interpolate_pos_encoding)
        positions: Any = self.position_embeddings
        if interpolate_pos_encoding:
            positions = self.interpolate_pos_encoding(patches, *pixel_values.shape[-2:])
        before = len(self.prefix_tokens)
        seen, mask, ids_restore = self.random_masking(patches + positions[:, before:], noise)
        prefix = [
            (getattr(self, name) + positions[:, place : place + 1]).expand(seen.shape[0], -1, -1)
            for place, name in enumerate(self.prefix_tokens)
        ]
        return torch.cat([*prefix, seen], dim=1), mask, ids_restore

    def random_masking(
        self, sequence: Float[Tensor, "batch patches hidden"], noise: Shaped[Tensor, "batch patches"] | None = None
    ) -> tuple[Float[Tensor, "batch seen hidden"], Float[Tensor, "batch patches"], Int[Tensor, "batch patches"]]:
        """Leave patches out: those with the most noise, a share of them that is the config's `mask_ratio`.

        Args:
            sequence: the patches.
            noise: a number for each; drawn from torch's generator unless given.

        Returns:
            The patches that are seen, from the least noise on; for each patch 1 if it was left out and 0 if it is seen;
            and where each patch stands among the shuffled ones.

        Raises:
            ValueError: the noise has another shape.
        """
        batch, patches, hidden = sequence.shape
        if noise is None:
            noise = torch.rand(batch, patches, device=sequence.device)
        if noise.shape != (batch, patches):
            raise ValueError(
                f"noise has shape {tuple(noise.shape)}; one number for each patch is needed, {(batch, patches)}."
            )
        seen = int(patches * (1 - self.config.mask_ratio))
        stable = {} if torch.onnx.is_in_onnx_export() else {"stable": True}  # ONNX has none; ties are rare in noise
        ids_shuffle = torch.argsort(noise.to(sequence.device), dim=1, **stable)
        ids_restore = torch.argsort(ids_shuffle, dim=1)
        kept = torch.gather(sequence, 1, ids_shuffle[:, :seen, None].expand(-1, -1, hidden))
        return kept, (ids_restore >= seen).to(torch.float32), ids_restore


class MaskedAutoencoderModel(VisionTransformerModel):
    """The encoder of a masked autoencoder, which sees a share of the patches.

    Args:
        config: its sizes and settings. With `mask_ratio=0` it sees all patches, in shuffled order.
    """

    embeddings_class = MaskedEmbeddings

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)

    def forward(  # type: ignore[override]
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        noise: Shaped[Tensor, "batch patches"] | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
    ) -> ViTMAEModelOutput | tuple[Tensor, ...]:
        """Run the model; see `VisionTransformerModel.forward`.

        Args:
            pixel_values: images, (batch, channels, height, width).
            noise: (batch, patches); the patches with the most of it are left out. Drawn from torch's generator unless
                given.
            head_mask: see `VisionTransformerModel.forward`.
            output_attentions: see `VisionTransformerModel.forward`.
            output_hidden_states: see `VisionTransformerModel.forward`.
            return_dict: see `VisionTransformerModel.forward`.
            interpolate_pos_encoding: see `VisionTransformerModel.forward`.

        Raises:
            ValueError: a shape does not fit the model.
        """
        pixel_values = self._images(pixel_values)
        interpolate = bool(interpolate_pos_encoding)
        hidden_states, mask, ids_restore = self.embeddings(pixel_values, self._as_tensor(noise), interpolate)
        encoded = self._encoded(
            hidden_states, pixel_values, head_mask, output_attentions, output_hidden_states, interpolate
        )
        output = ViTMAEModelOutput(
            last_hidden_state=self.layernorm(encoded[0]),
            mask=mask,
            ids_restore=ids_restore,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._returned(output, return_dict)


class ViTMAEDecoder(LayerStack):
    """Paints every patch, from the tokens of those that were seen and a mask token for the others."""

    def __init__(self, config: PretrainedConfig, num_patches: int | None = None) -> None:
        super().__init__(config)
        decoder_config: PretrainedConfig = config.decoder_config
        architecture, hidden = config.architecture, decoder_config.hidden_size
        self.num_prefix_tokens = architecture.num_prefix_tokens
        self.has_fixed_positions = architecture.absolute_positions == "sincos"
        tokens = self.num_prefix_tokens + (math.prod(config.grid) if num_patches is None else num_patches)
        self.mask_token = nn.Parameter(torch.empty(1, 1, hidden))
        self.decoder_pos_embed = nn.Parameter(
            torch.empty(1, tokens, hidden), requires_grad=not self.has_fixed_positions
        )
        self.decoder_embed = nn.Linear(config.hidden_size, hidden)
        self.decoder_layers = layers_of(decoder_config)
        self.decoder_norm = norm_of(config, hidden)
        self.decoder_pred = nn.Linear(hidden, math.prod(config.patch_shape) * config.num_channels)
        self.start_parameters()

    def start_parameters(self) -> None:
        """Give the mask token and the positions their start."""
        start(self.mask_token, INITIALIZERS["token"], self.config)
        positions = "sincos" if self.has_fixed_positions else INITIALIZERS["positions"]
        start(self.decoder_pos_embed, positions, self.config)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch seen_tokens hidden"],
        ids_restore: Int[Tensor, "batch patches"],
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        interpolate_pos_encoding: bool = False,
    ) -> ViTMAEDecoderOutput | tuple[Any, ...]:
        """Run the decoder.

        Args:
            hidden_states: what the encoder made of the tokens that it saw.
            ids_restore: where each patch stands among the shuffled ones, of which the first were seen.
            output_attentions: whether to return the decoder's attention maps.
            output_hidden_states: whether to return the decoder's hidden states.
            return_dict: whether to return an output object rather than a tuple.
            interpolate_pos_encoding: whether to resample the positions for another number of patches.
        """
        tokens = self.decoder_embed(hidden_states)
        prefix, seen = tokens[:, : self.num_prefix_tokens], tokens[:, self.num_prefix_tokens :]
        (batch, patches), hidden = ids_restore.shape, tokens.shape[-1]
        left_out = self.mask_token.expand(batch, patches - seen.shape[1], -1)
        shuffled = torch.cat([seen, left_out.to(seen)], dim=1)
        restored = torch.gather(shuffled, 1, ids_restore[:, :, None].expand(-1, -1, hidden))
        tokens = torch.cat([prefix, restored], dim=1)
        positions = self.interpolate_pos_encoding(tokens) if interpolate_pos_encoding else self.decoder_pos_embed
        decoded = self.run(self.decoder_layers, tokens + positions, None, output_attentions, output_hidden_states)
        logits = self.decoder_pred(self.decoder_norm(decoded.last_hidden_state))[:, self.num_prefix_tokens :]
        output = ViTMAEDecoderOutput(logits, decoded.hidden_states, decoded.attentions)
        return output if return_dict else output.to_tuple()

    def interpolate_pos_encoding(
        self, embeddings: Float[Tensor, "batch tokens hidden"]
    ) -> Float[Tensor, "1 tokens hidden"]:
        """The positions for another number of patches, resampled as one line of patches, not as a grid.

        So does transformers, and checkpoints were evaluated so.

        Args:
            embeddings: the tokens that the positions are for.
        """
        before = self.num_prefix_tokens
        of_prefix, line = self.decoder_pos_embed[:, :before], self.decoder_pos_embed[:, before:]
        return torch.cat([of_prefix, resample_grid(line, (1, embeddings.shape[1] - before))], dim=1)


class MaskedAutoencoderForPreTraining(VisionTransformerWithHead):
    """A masked autoencoder with the decoder that paints what the encoder does not see.

    Args:
        config: its sizes and settings.
    """

    task = "pre-training"
    base_model_class: ClassVar[Any] = MaskedAutoencoderModel

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.add_base_model()
        with own_parts():
            self.decoder = ViTMAEDecoder(config)
        self.post_init()

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        noise: Shaped[Tensor, "batch patches"] | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
    ) -> ViTMAEForPreTrainingOutput | tuple[Tensor, ...]:
        """Run the model; see `MaskedAutoencoderModel.forward`. Hidden states and attention are the encoder's.

        Raises:
            ValueError: a shape does not fit the model, or the images are no whole number of patches.
        """
        pixel_values = self._images(pixel_values)
        interpolate = bool(interpolate_pos_encoding)
        outputs = self.base_model(
            pixel_values,
            noise=noise,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            interpolate_pos_encoding=interpolate,
        )
        decoded = self.decoder(outputs.last_hidden_state, outputs.ids_restore, interpolate_pos_encoding=interpolate)
        output = ViTMAEForPreTrainingOutput(
            loss=self.forward_loss(pixel_values, decoded.logits, outputs.mask, interpolate),
            logits=decoded.logits,
            mask=outputs.mask,
            ids_restore=outputs.ids_restore,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
        return self._returned(output, return_dict)

    def patchify(
        self, pixel_values: Float[Tensor, "batch channels height width"], interpolate_pos_encoding: bool = False
    ) -> Float[Tensor, "batch patches pixels"]:
        """Cut images into patches: their pixels row by row, the channels of each pixel side by side.

        Args:
            pixel_values: the images, of any size that is a whole number of patches.
            interpolate_pos_encoding: accepted for scripts that pass it; the images tell.

        Raises:
            ValueError: the images are no whole number of patches, or have other channels than the model's.
        """
        (height, width), channels = self.config.patch_shape, self.config.num_channels
        if pixel_values.shape[1] != channels:
            raise ValueError(f"images have {pixel_values.shape[1]} channels, the model takes {channels}.")
        if pixel_values.shape[2] % height or pixel_values.shape[3] % width:
            raise ValueError(
                f"images of {pixel_values.shape[2]} x {pixel_values.shape[3]} pixels are no whole number of patches of "
                f"{height} x {width}; resize or crop them."
            )
        rows, columns = grid_of(pixel_values.shape[2:], (height, width))
        cut = pixel_values.reshape(-1, channels, rows, height, columns, width)
        return cut.permute(0, 2, 4, 3, 5, 1).reshape(-1, rows * columns, height * width * channels)

    def unpatchify(
        self,
        patchified_pixel_values: Float[Tensor, "batch patches pixels"],
        original_image_size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """Put patches together to images again.

        Args:
            patchified_pixel_values: as `patchify` returns them.
            original_image_size: height and width of the images in pixels; the model's unless given.

        Raises:
            ValueError: images of that size have another number of patches.
        """
        (height, width), channels = self.config.patch_shape, self.config.num_channels
        image_height, image_width = original_image_size or self.config.image_shape
        rows, columns = grid_of((image_height, image_width), (height, width))
        if patchified_pixel_values.shape[1] != rows * columns:
            raise ValueError(
                f"there are {patchified_pixel_values.shape[1]} patches, but an image of {image_height} x {image_width} "
                f"pixels has {rows} x {columns}; give its size as original_image_size."
            )
        cut = patchified_pixel_values.reshape(-1, rows, columns, height, width, channels)
        return cut.permute(0, 5, 1, 3, 2, 4).reshape(-1, channels, rows * height, columns * width)

    def forward_loss(
        self,
        pixel_values: Float[Tensor, "batch channels height width"],
        pred: Float[Tensor, "batch patches pixels"],
        mask: Float[Tensor, "batch patches"],
        interpolate_pos_encoding: bool = False,
    ) -> Float[Tensor, ""]:
        """The loss of painted patches; see `vit_torch.losses.masked_patch_loss`.

        Args:
            pixel_values: the images.
            pred: their patches as the decoder painted them.
            mask: 1 where a patch was left out.
            interpolate_pos_encoding: see `patchify`.
        """
        target = self.patchify(pixel_values, interpolate_pos_encoding)
        return masked_patch_loss(pred, target, mask, self.config.norm_pix_loss)
