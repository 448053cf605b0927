"""Vision Transformer in PyTorch, from top to bottom as the image travels.

Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", https://arxiv.org/abs/2010.11929. Modules are nested and named
so that `state_dict()` has the canonical names of `vit_core.parameters`, which are those of transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vit_core import PretrainedConfig
from vit_core.checks import check_head_mask
from vit_core.parameters import INITIALIZERS, Parameter, parameters
from vit_torch.activations import activation
from vit_torch.filling import own_parts
from vit_torch.initialization import start
from vit_torch.losses import classification_loss, masked_reconstruction_loss
from vit_torch.outputs import (
    BaseModelOutput,
    BaseModelOutputWithPooling,
    ImageClassifierOutput,
    MaskedImageModelingOutput,
)
from vit_torch.position import resample_grid
from vit_torch.pretrained import ViTPreTrainedModel
from vit_torch.pruning import prune_attention


class ViTPatchEmbeddings(nn.Module):
    """Cuts an image into patches and projects each to a token."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.image_size = config.image_shape
        self.patch_size = config.patch_shape
        self.num_channels = config.num_channels
        self.num_patches = config.grid[0] * config.grid[1]
        self.projection = nn.Conv2d(
            config.num_channels, config.hidden_size, kernel_size=self.patch_size, stride=self.patch_size
        )

    def forward(
        self, pixel_values: Float[Tensor, "batch channels height width"], interpolate_pos_encoding: bool = False
    ) -> Float[Tensor, "batch patches hidden"]:
        self._check(pixel_values, interpolate_pos_encoding)
        projection = self.projection
        weight = getattr(projection, "weight", None)
        if weight is None:  # of what scripts put here, which may have parts
            weight = next(projection.parameters(), pixel_values)
        return projection(pixel_values.to(weight.dtype)).flatten(2).transpose(1, 2)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches, in the form in which a convolution computes them, for symbolic sizes."""
        patch_height, patch_width = self.patch_size
        return (height - patch_height) // patch_height + 1, (width - patch_width) // patch_width + 1

    def _check(self, pixel_values: Tensor, interpolate_pos_encoding: bool) -> None:
        if pixel_values.ndim != 4:
            raise ValueError(
                f"pixel_values have shape {tuple(pixel_values.shape)}; they need (batch, channels, height, width)."
            )
        _, channels, height, width = pixel_values.shape
        if channels != self.num_channels:
            raise ValueError(
                f"pixel_values of shape {tuple(pixel_values.shape)} have {channels} channels, the model takes "
                f"{self.num_channels}; channels come first."
            )
        if not interpolate_pos_encoding and (height, width) != self.image_size:
            raise ValueError(
                f"images of {height} x {width} pixels do not fit a model for {self.image_size[0]} x "
                f"{self.image_size[1]}; resize them, or call with interpolate_pos_encoding=True."
            )
        if height < self.patch_size[0] or width < self.patch_size[1]:
            raise ValueError(
                f"images of {height} x {width} pixels are smaller than one patch of {self.patch_size[0]} x "
                f"{self.patch_size[1]}; make them larger."
            )


class ViTEmbeddings(nn.Module):
    """Turns an image into tokens: the class token, then the patches, each with its position added."""

    def __init__(self, config: PretrainedConfig, use_mask_token: bool = False) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.cls_token = nn.Parameter(torch.empty(1, 1, hidden))
        self.mask_token = nn.Parameter(torch.empty(1, 1, hidden)) if use_mask_token else None
        self.grid = config.grid
        self.position_embeddings = nn.Parameter(torch.empty(1, 1 + self.grid[0] * self.grid[1], hidden))
        self.patch_embeddings = ViTPatchEmbeddings(config)
        self.patch_size = config.patch_size
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.start_parameters()

    def start_parameters(self) -> None:
        """Give the tokens and positions their random start."""
        start(self.cls_token, INITIALIZERS["token"], self.config.initializer_range)
        start(self.position_embeddings, INITIALIZERS["positions"], self.config.initializer_range)
        if self.mask_token is not None:
            start(self.mask_token, "zeros", self.config.initializer_range)

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"],
        bool_masked_pos: Shaped[Tensor, "batch patches"] | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> Float[Tensor, "batch tokens hidden"]:
        patches = self.patch_embeddings(pixel_values, interpolate_pos_encoding)
        if bool_masked_pos is not None:
            patches = self._mask(patches, bool_masked_pos)
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        if interpolate_pos_encoding:
            positions = self.interpolate_pos_encoding(tokens, *pixel_values.shape[-2:])
        else:
            positions = self.position_embeddings
        return self.dropout(tokens + positions)

    def interpolate_pos_encoding(
        self, embeddings: Float[Tensor, "batch tokens hidden"], height: int, width: int
    ) -> Float[Tensor, "1 tokens hidden"]:
        """The position embeddings for images of another size, resampled as `vit_core.position` defines it.

        Args:
            embeddings: the tokens that the positions are for; the sizes alone decide here.
            height: of the images, in pixels.
            width: likewise.
        """
        grid = self.patch_embeddings.grid(height, width)
        cls_position, patches = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        resampled = resample_grid(patches[0].unflatten(0, self.grid), grid)
        return torch.cat([cls_position, resampled.flatten(0, 1)[None]], dim=1)

    def _mask(self, patches: Tensor, bool_masked_pos: Tensor) -> Tensor:
        if self.mask_token is None:
            raise ValueError("bool_masked_pos needs a mask token; build the model with use_mask_token=True.")
        if bool_masked_pos.shape != patches.shape[:2]:
            raise ValueError(
                f"bool_masked_pos has shape {tuple(bool_masked_pos.shape)}; one entry for each patch is needed, "
                f"{tuple(patches.shape[:2])}."
            )
        return torch.where(bool_masked_pos.bool().unsqueeze(-1), self.mask_token, patches)


class ViTSelfAttention(nn.Module):
    """Multi-head self-attention (equations 5 to 7 of the paper), up to the output projection."""

    def __init__(self, config: PretrainedConfig, layer: int | None = None) -> None:
        super().__init__()
        self.config = config  # attn_implementation is read at each call, so that it can be changed
        self.heads = config.kept_heads(layer)
        self.attention_head_size = config.head_dim
        self.query = nn.Linear(config.hidden_size, self.all_head_size, bias=config.qkv_bias)
        self.key = nn.Linear(config.hidden_size, self.all_head_size, bias=config.qkv_bias)
        self.value = nn.Linear(config.hidden_size, self.all_head_size, bias=config.qkv_bias)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    @property
    def num_attention_heads(self) -> int:
        """The number of heads that are not pruned."""
        return len(self.heads)

    @property
    def all_head_size(self) -> int:
        """The width of all heads side by side."""
        return self.num_attention_heads * self.attention_head_size

    def transpose_for_scores(
        self, x: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch heads tokens head_width"]:
        """Take the heads, which lie side by side, apart."""
        return torch.unflatten(x, -1, (-1, self.attention_head_size)).transpose(1, 2)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, "*head"] | None = None,
        output_attentions: bool = False,
    ) -> tuple[Float[Tensor, "batch tokens width"] | Float[Tensor, "batch heads tokens tokens"] | None, ...]:
        query = self.transpose_for_scores(self.query(hidden_states))
        key = self.transpose_for_scores(self.key(hidden_states))
        value = self.transpose_for_scores(self.value(hidden_states))
        dropout = self.dropout
        is_usual = self.config.attn_implementation == "sdpa" and isinstance(dropout, nn.Dropout)
        if is_usual and head_mask is None and not output_attentions:
            dropout_prob = dropout.p if dropout.training else 0.0
            context = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout_prob)
            return context.transpose(1, 2).flatten(2), None
        scores = query @ key.transpose(-1, -2) / self.attention_head_size**0.5
        probabilities = dropout(scores.softmax(dim=-1))
        if head_mask is not None:
            probabilities = probabilities * self._kept(head_mask).to(probabilities)
        context = (probabilities @ value).transpose(1, 2).flatten(2)
        return (context, probabilities) if output_attentions else (context,)

    def _kept(self, head_mask: Tensor) -> Tensor:
        """The entries of a mask, (heads,) or (1, heads, 1, 1), for the heads that are not pruned."""
        mask = head_mask[None, :, None, None] if head_mask.ndim == 1 else head_mask
        return mask if mask.shape[1] == self.num_attention_heads else mask[:, self.heads]


class ViTSelfOutput(nn.Module):
    """The output projection of attention; the residual is added in ViTLayer."""

    def __init__(self, config: PretrainedConfig, layer: int | None = None) -> None:
        super().__init__()
        self.dense = nn.Linear(len(config.kept_heads(layer)) * config.head_dim, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch tokens width"],
        input_tensor: Float[Tensor, "batch tokens hidden"] | None = None,  # for parts that scripts put here
    ) -> Float[Tensor, "batch tokens hidden"]:
        return self.dropout(self.dense(hidden_states))


class ViTAttention(nn.Module):
    """Self-attention with its output projection."""

    def __init__(self, config: PretrainedConfig, layer: int | None = None) -> None:
        super().__init__()
        self.attention = ViTSelfAttention(config, layer)
        self.output = ViTSelfOutput(config, layer)

    @property
    def pruned_heads(self) -> set[int]:
        """The heads that are gone, in the numbering before any pruning."""
        return set(range(self.attention.config.num_attention_heads)) - set(self.attention.heads)

    def prune_heads(self, heads: Iterable[int]) -> None:
        """Remove attention heads for good, in the numbering before any pruning; see `ViTModel.prune_heads`."""
        prune_attention(self, heads)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, "*head"] | None = None,
        output_attentions: bool = False,
    ) -> tuple[Float[Tensor, "batch tokens hidden"] | Float[Tensor, "batch heads tokens tokens"] | None, ...]:
        context, *probabilities = items_of(self.attention(hidden_states, head_mask, output_attentions))
        return self.output(context, hidden_states), *probabilities


# The names that transformers 4 has for these with scaled dot product attention.
ViTSdpaSelfAttention = ViTSelfAttention
ViTSdpaAttention = ViTAttention


class ViTIntermediate(nn.Module):
    """The first half of the MLP."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_act_fn = activation(config.hidden_act)

    def forward(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens mlp"]:
        return self.intermediate_act_fn(self.dense(hidden_states))


class ViTOutput(nn.Module):
    """The second half of the MLP, with the residual."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, hidden_states: Float[Tensor, "batch tokens mlp"], input_tensor: Float[Tensor, "batch tokens hidden"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        return self.dropout(self.dense(hidden_states)) + input_tensor


class ViTLayer(nn.Module):
    """One transformer layer, with LayerNorm before each half (equations 2 and 3)."""

    def __init__(self, config: PretrainedConfig, layer: int | None = None) -> None:
        super().__init__()
        self.attention = ViTAttention(config, layer)
        self.intermediate = ViTIntermediate(config)
        self.output = ViTOutput(config)
        self.layernorm_before = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layernorm_after = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, "*head"] | None = None,
        output_attentions: bool = False,
    ) -> tuple[Float[Tensor, "batch tokens hidden"] | Float[Tensor, "batch heads tokens tokens"] | None, ...]:
        returned = self.attention(self.layernorm_before(hidden_states), head_mask, output_attentions)
        attended, *probabilities = items_of(returned)
        hidden_states = attended + hidden_states
        mlp = self.intermediate(self.layernorm_after(hidden_states))
        return self.output(mlp, hidden_states), *probabilities


def items_of(returned: Any) -> Sequence[Any]:
    """What a layer or an attention returns, which may be someone else's and return a tensor alone."""
    return (returned,) if isinstance(returned, Tensor) else returned


class ViTEncoder(nn.Module):
    """The transformer layers, one after the other."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.layer = nn.ModuleList(ViTLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.gradient_checkpointing = False
        self._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, "layers ..."] | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> BaseModelOutput | tuple[Any, ...]:
        """Run the layers; on request with the hidden states before each layer and after the last, and the attention."""
        all_hidden_states, all_attentions = [], []
        for index, layer in enumerate(self.layer):
            if output_hidden_states:
                all_hidden_states.append(hidden_states)
            arguments = (hidden_states, None if head_mask is None else head_mask[index], output_attentions)
            if self.gradient_checkpointing and self.training:
                returned = self._gradient_checkpointing_func(layer, *arguments)
            else:
                returned = layer(*arguments)
            hidden_states, *attentions = items_of(returned)
            if output_attentions:
                all_attentions.append(attentions[0] if attentions else None)
        if output_hidden_states:
            all_hidden_states.append(hidden_states)
        output = BaseModelOutput(hidden_states, tuple(all_hidden_states) or None, tuple(all_attentions) or None)
        return output if return_dict else output.to_tuple()


class ViTPooler(nn.Module):
    """A summary of the image from the class token."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.pooler_size)
        self.activation = activation(config.pooler_act)

    def forward(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch pooled"]:
        return self.activation(self.dense(hidden_states[:, 0]))


class ViTModel(ViTPreTrainedModel):
    """The Vision Transformer without a head.

    Args:
        config: its sizes and settings.
        add_pooling_layer: whether to add the pooler.
        use_mask_token: whether to have a mask token, which `bool_masked_pos` needs.
    """

    task = "model"

    def __init__(self, config: PretrainedConfig, add_pooling_layer: bool = True, use_mask_token: bool = False) -> None:
        super().__init__(config)
        with own_parts():
            self.embeddings = ViTEmbeddings(config, use_mask_token)
            self.encoder = ViTEncoder(config)
            self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            self.pooler = ViTPooler(config) if add_pooling_layer else None
        self.post_init()

    def parameter_table(self, config: PretrainedConfig | None = None) -> tuple[Parameter, ...]:
        """The rows of `vit_core.parameters` that describe this model, in the order of its `state_dict`."""
        return parameters(
            config or self.config,
            "model",
            add_pooling_layer=self.pooler is not None,
            use_mask_token=self.embeddings.mask_token is not None,
        )

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        bool_masked_pos: Shaped[Tensor, "batch patches"] | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPooling | tuple[Tensor, ...]:
        """Run the model.

        Args:
            pixel_values: images, (batch, channels, height, width).
            bool_masked_pos: (batch, patches), true or 1 where the mask token replaces the patch.
            head_mask: (heads,) or (layers, heads), factors for attention heads: 1 keeps a head, 0 silences it. Heads
                count as before pruning.
            output_attentions: whether to return attention maps; the config's setting unless given.
            output_hidden_states: whether to return every layer's hidden states; likewise.
            interpolate_pos_encoding: whether to resample the position embeddings, so that images may have any size.
            return_dict: whether to return an output object rather than a tuple; the config's setting unless given.

        Raises:
            ValueError: a shape does not fit the model.
        """
        config = self.config
        if pixel_values is None:
            raise ValueError("pixel_values are missing; pass images of shape (batch, channels, height, width).")
        if output_attentions is None:
            output_attentions = config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = config.output_hidden_states

        hidden_states = self.embeddings(
            self._as_tensor(pixel_values), self._as_tensor(bool_masked_pos), bool(interpolate_pos_encoding)
        )
        encoded = self.encoder(
            hidden_states,
            head_mask=self._per_layer(self._as_tensor(head_mask)),
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        if isinstance(encoded, tuple):  # of an encoder that scripts put here
            rest = iter(encoded[1:])
            all_hidden_states = next(rest, None) if output_hidden_states else None
            encoded = BaseModelOutput(encoded[0], all_hidden_states, next(rest, None))
        last_hidden_state = self.layernorm(encoded[0])
        output = BaseModelOutputWithPooling(
            last_hidden_state=last_hidden_state,
            pooler_output=None if self.pooler is None else self.pooler(last_hidden_state),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._returned(output, return_dict)

    def _per_layer(self, head_mask: Tensor | None) -> Tensor | None:
        """A head mask for each layer, (layers, 1, heads, 1, 1); one of that form is taken as it is."""
        if head_mask is None or head_mask.ndim == 5:
            return head_mask
        layers = len(self.encoder.layer)
        check_head_mask(head_mask, self.config, layers)
        return head_mask.expand(layers, -1)[:, None, :, None, None]


class ViTForMaskedImageModeling(ViTPreTrainedModel):
    """The Vision Transformer with a decoder that reconstructs masked patches (SimMIM, https://arxiv.org/abs/2111.09886).

    Args:
        config: its sizes and settings; a patch is `encoder_stride` pixels high and wide.
    """

    task = "masked-image-modeling"

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.vit = ViTModel(config, add_pooling_layer=False, use_mask_token=True)
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
        """Run the model; see `ViTModel.forward`. With `bool_masked_pos` the output has a loss.

        Raises:
            ValueError: a shape does not fit the model, or there is a mask and patches are not `encoder_stride` pixels
                high and wide.
        """
        config = self.config
        if bool_masked_pos is not None and config.patch_shape != (config.encoder_stride, config.encoder_stride):
            raise ValueError(
                f"patch_size is {config.patch_size} and encoder_stride {config.encoder_stride}; with bool_masked_pos "
                f"they must be equal, so that the reconstruction has the image's size."
            )
        outputs = self.vit(
            pixel_values,
            bool_masked_pos=bool_masked_pos,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
        )
        assert pixel_values is not None  # or the base model would have raised
        pixel_values = self._as_tensor(pixel_values)
        patches = outputs.last_hidden_state[:, 1:]
        grid = self.vit.embeddings.patch_embeddings.grid(*pixel_values.shape[-2:])
        reconstruction = self.decoder(patches.transpose(1, 2).unflatten(2, grid))
        loss = None
        if bool_masked_pos is not None:
            mask = self._as_tensor(bool_masked_pos)
            loss = masked_reconstruction_loss(pixel_values, reconstruction, mask, config.patch_shape)
        output = MaskedImageModelingOutput(loss, reconstruction, outputs.hidden_states, outputs.attentions)
        return self._returned(output, return_dict)


class ViTForImageClassification(ViTPreTrainedModel):
    """The Vision Transformer with a linear classifier on the class token or on the pooler's output.

    Args:
        config: its sizes and settings; `num_labels` classes, and with 0 what the classifier would read instead of
            logits. With `classifier_uses_pooler` that is the pooler's output.
    """

    task = "image-classification"

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.vit = ViTModel(config, add_pooling_layer=config.classifier_uses_pooler)
        with own_parts():
            self.classifier = (
                nn.Linear(config.classifier_input_size, config.num_labels) if config.num_labels else nn.Identity()
            )
        self.post_init()

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        labels: Shaped[Tensor, "*shape"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        return_dict: bool | None = None,
    ) -> ImageClassifierOutput | tuple[Tensor, ...]:
        """Run the model; see `ViTModel.forward`.

        Args:
            pixel_values: images, (batch, channels, height, width).
            head_mask: see `ViTModel.forward`.
            labels: what `vit_torch.losses.classification_loss` takes; with them the output has a loss.
            output_attentions: see `ViTModel.forward`.
            output_hidden_states: see `ViTModel.forward`.
            interpolate_pos_encoding: see `ViTModel.forward`.
            return_dict: see `ViTModel.forward`.

        Raises:
            ValueError: a shape does not fit the model, or a label is out of range.
        """
        outputs = self.vit(
            pixel_values,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
        )
        summary = outputs.pooler_output if self.config.classifier_uses_pooler else outputs.last_hidden_state[:, 0]
        logits = self.classifier(summary)
        loss = None if labels is None else classification_loss(logits, self._as_tensor(labels), self.config)
        output = ImageClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return self._returned(output, return_dict)
