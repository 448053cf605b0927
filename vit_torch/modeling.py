"""Vision Transformers in PyTorch, from top to bottom as the image travels: from embeddings to models with a head.

What a model is made of, its config's `architecture` says (`vit_core.architecture`): an option is chosen in a
constructor, and no class here knows a type of model. The layers are in `vit_torch.layers`, the classes that scripts
know by name (ViTModel, DeiTModel, ...) in `vit_torch.relatives`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from vit_core import PretrainedConfig, VisionTransformerConfig
from vit_core.architecture import Pooler, RelativePositions, Summary
from vit_core.checks import check_head_mask
from vit_core.parameters import INITIALIZERS, Parameter, parameters
from vit_torch.activations import activation
from vit_torch.filling import own_parts
from vit_torch.initialization import start
from vit_torch.layers import (
    LayerStack,
    RelativePositionBias,
    ViTAttention,
    ViTIntermediate,
    ViTLayer,
    ViTOutput,
    ViTSdpaAttention,
    ViTSdpaSelfAttention,
    ViTSelfAttention,
    ViTSelfOutput,
    layers_of,
)
from vit_torch.losses import classification_loss, masked_reconstruction_loss, masked_token_loss
from vit_torch.outputs import (
    BaseModelOutput,
    BaseModelOutputWithPooling,
    DeiTForImageClassificationWithTeacherOutput,
    ImageClassifierOutput,
    MaskedImageModelingOutput,
    MaskedLMOutput,
)
from vit_torch.position import resample_grid
from vit_torch.pretrained import PreTrainedModel

__all__ = [
    "ViTAttention",
    "ViTEmbeddings",
    "ViTEncoder",
    "ViTIntermediate",
    "ViTLayer",
    "ViTOutput",
    "ViTPatchEmbeddings",
    "ViTPooler",
    "ViTSdpaAttention",
    "ViTSdpaSelfAttention",
    "ViTSelfAttention",
    "ViTSelfOutput",
    "VisionTransformerForImageClassification",
    "VisionTransformerForImageClassificationWithTeacher",
    "VisionTransformerForMaskedImageModeling",
    "VisionTransformerForMaskedTokenModeling",
    "VisionTransformerModel",
    "VisionTransformerPreTrainedModel",
]


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

    def is_own_size(self, pixel_values: Tensor) -> bool:
        """Whether images have the size that the model is for."""
        return tuple(pixel_values.shape[-2:]) == self.image_size

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
    """Turns an image into tokens: those before the patches, such as a class token, then the patches; with positions."""

    def __init__(self, config: PretrainedConfig, use_mask_token: bool = False) -> None:
        super().__init__()
        self.config = config
        architecture, hidden = config.architecture, config.hidden_size
        self.prefix_tokens = architecture.prefix_tokens
        for name in self.prefix_tokens:
            self.register_parameter(name, nn.Parameter(torch.empty(1, 1, hidden)))
        has_mask_token = use_mask_token if architecture.mask_token is None else architecture.mask_token
        self.mask_token = nn.Parameter(torch.empty(1, 1, hidden)) if has_mask_token else None
        self.grid = config.grid
        self.absolute_positions = architecture.absolute_positions
        self.position_embeddings = self._positions()
        self.resamples_unasked = architecture.resamples_unasked
        self.patch_embeddings = ViTPatchEmbeddings(config)
        self.patch_size = config.patch_size
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.start_parameters()

    def start_parameters(self) -> None:
        """Give the tokens and positions their start."""
        for name in self.prefix_tokens:
            start(getattr(self, name), INITIALIZERS["token"], self.config)
        if self.mask_token is not None:
            start(self.mask_token, "zeros", self.config)
        if self.position_embeddings is not None:
            is_fixed = self.absolute_positions == "sincos"
            start(self.position_embeddings, "sincos" if is_fixed else INITIALIZERS["positions"], self.config)

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"],
        bool_masked_pos: Shaped[Tensor, "batch patches"] | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> Float[Tensor, "batch tokens hidden"]:
        interpolate = self.interpolates(pixel_values, interpolate_pos_encoding)
        patches = self.patch_embeddings(pixel_values, interpolate)
        if bool_masked_pos is not None:
            patches = self._mask(patches, bool_masked_pos)
        tokens = self._with_prefix(patches)
        if self.position_embeddings is None:
            return self.dropout(tokens)
        if interpolate:
            positions = self.interpolate_pos_encoding(tokens, *pixel_values.shape[-2:])
        else:
            positions = self.position_embeddings
        return self.dropout(tokens + positions)

    def interpolates(self, pixel_values: Tensor, interpolate_pos_encoding: bool | None) -> bool:
        """Whether positions are resampled: where it is asked for, or unasked for images of another size."""
        return bool(interpolate_pos_encoding) or (
            self.resamples_unasked and not self.patch_embeddings.is_own_size(pixel_values)
        )

    def interpolate_pos_encoding(
        self, embeddings: Float[Tensor, "batch given_tokens hidden"], height: int, width: int
    ) -> Float[Tensor, "1 tokens hidden"]:
        """The position embeddings for images of another size, resampled as `vit_core.position` defines it.

        Args:
            embeddings: the tokens that the positions are for; the sizes alone decide here.
            height: of the images, in pixels.
            width: likewise.
        """
        grid, before = self.patch_embeddings.grid(height, width), len(self.prefix_tokens)
        positions: Any = self.position_embeddings
        of_prefix, patches = positions[:, :before], positions[:, before:]
        resampled = resample_grid(patches[0].unflatten(0, self.grid), grid)
        return torch.cat([of_prefix, resampled.flatten(0, 1)[None]], dim=1)

    def _positions(self) -> nn.Parameter | None:
        if self.absolute_positions is None:
            return None
        tokens = len(self.prefix_tokens) + self.grid[0] * self.grid[1]
        positions = torch.empty(1, tokens, self.config.hidden_size)
        return nn.Parameter(positions, requires_grad=self.absolute_positions != "sincos")

    def _with_prefix(self, patches: Tensor) -> Tensor:
        if not self.prefix_tokens:
            return patches
        prefix = [getattr(self, name).expand(patches.shape[0], -1, -1) for name in self.prefix_tokens]
        return torch.cat([*prefix, patches], dim=1)

    def _mask(self, patches: Tensor, bool_masked_pos: Tensor) -> Tensor:
        if self.mask_token is None:
            raise ValueError("bool_masked_pos needs a mask token; build the model with use_mask_token=True.")
        if bool_masked_pos.shape != patches.shape[:2]:
            raise ValueError(
                f"bool_masked_pos has shape {tuple(bool_masked_pos.shape)}; one entry for each patch is needed, "
                f"{tuple(patches.shape[:2])}."
            )
        return torch.where(bool_masked_pos.bool().unsqueeze(-1), self.mask_token, patches)


class ViTEncoder(LayerStack):
    """The transformer layers, one after the other."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.relative_positions = config.architecture.relative_positions
        if self.relative_positions == "shared":
            self.relative_position_bias = RelativePositionBias(config)
        self.layer = layers_of(config)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, "layers ..."] | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        grid: tuple[int, int] | None = None,
    ) -> BaseModelOutput | tuple[Any, ...]:
        """Run the layers; on request with the hidden states before each layer and after the last, and the attention.

        Args:
            hidden_states: the embedded tokens.
            head_mask: factors for the heads of each layer.
            output_attentions: whether to return attention maps.
            output_hidden_states: whether to return hidden states.
            return_dict: whether to return an output object rather than a tuple.
            grid: rows and columns of patches, where relative positions are resampled.
        """
        relative = RELATIVE[self.relative_positions](self, grid)
        output = self.run(self.layer, hidden_states, head_mask, output_attentions, output_hidden_states, **relative)
        return output if return_dict else output.to_tuple()


#: What the layers of an encoder are handed by name to place tokens relative to each other.
RELATIVE: dict[RelativePositions | None, Callable[[Any, tuple[int, int] | None], dict[str, Any]]] = {
    None: lambda encoder, grid: {},
    "layers": lambda encoder, grid: {"grid": grid},
    "shared": lambda encoder, grid: {"relative_position_bias": encoder.relative_position_bias(grid)},
}


class ViTPooler(nn.Module):
    """A summary of the image from the class token."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.pooler_size)
        self.activation = activation(config.pooler_act)

    def forward(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch pooled"]:
        return self.activation(self.dense(hidden_states[:, 0]))


class MeanNormPooler(nn.Module):
    """A summary of the image: the mean of the patches, normed."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.num_prefix_tokens = config.architecture.num_prefix_tokens
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch hidden"]:
        return self.layernorm(hidden_states[:, self.num_prefix_tokens :].mean(1))


class ClassTokenPooler(nn.Module):
    """A summary of the image: the class token as it is."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()

    def forward(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch hidden"]:
        return hidden_states[:, 0]


POOLERS: dict[Pooler, Callable[[PretrainedConfig], nn.Module]] = {
    "dense": ViTPooler,
    "mean-norm": MeanNormPooler,
    "class-token": ClassTokenPooler,
}

#: What a classifier reads of a base model's output, which has so many tokens before the patches.
SUMMARIES: dict[Summary, Callable[[BaseModelOutputWithPooling, int], Tensor]] = {
    "class-token": lambda outputs, num_prefix_tokens: outputs.last_hidden_state[:, 0],
    "pooler": lambda outputs, num_prefix_tokens: outputs.pooler_output,
    "mean": lambda outputs, num_prefix_tokens: outputs.last_hidden_state[:, num_prefix_tokens:].mean(1),
}


class VisionTransformerPreTrainedModel(PreTrainedModel):
    """What the models of a `VisionTransformerConfig` share; see `PreTrainedModel`."""

    config_class: type[PretrainedConfig] = VisionTransformerConfig
    base_model_prefix = VisionTransformerConfig.base_model_prefix


class VisionTransformerModel(VisionTransformerPreTrainedModel):
    """A Vision Transformer without a head.

    Args:
        config: its sizes and settings, and what it is made of.
        add_pooling_layer: whether to add the pooler; as its architecture has it unless given.
        use_mask_token: whether to have a mask token, which `bool_masked_pos` needs, where its architecture leaves that
            open.
    """

    task = "model"
    embeddings_class: ClassVar[Callable[..., nn.Module]] = ViTEmbeddings

    def __init__(
        self, config: PretrainedConfig, add_pooling_layer: bool | None = None, use_mask_token: bool = False
    ) -> None:
        super().__init__(config)
        architecture = config.architecture
        self.has_relative_positions = architecture.relative_positions is not None
        has_pooler = architecture.has_pooler if add_pooling_layer is None else add_pooling_layer
        with own_parts():
            self.embeddings: Any = type(self).embeddings_class(config, use_mask_token)
            self.encoder = ViTEncoder(config)
            self.layernorm = (
                nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
                if architecture.final_norm
                else nn.Identity()
            )
            self.pooler = POOLERS[architecture.pooler](config) if has_pooler and architecture.pooler else None
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
            interpolate_pos_encoding: whether to resample positions, so that images may have any size. Models whose
                architecture `resamples_unasked` do so anyway where the size is another.
            return_dict: whether to return an output object rather than a tuple; the config's setting unless given.

        Raises:
            ValueError: a shape does not fit the model.
        """
        pixel_values = self._images(pixel_values)
        interpolate = bool(interpolate_pos_encoding)
        hidden_states = self.embeddings(pixel_values, self._as_tensor(bool_masked_pos), interpolate)
        encoded = self._encoded(
            hidden_states, pixel_values, head_mask, output_attentions, output_hidden_states, interpolate
        )
        last_hidden_state = self.layernorm(encoded[0])
        output = BaseModelOutputWithPooling(
            last_hidden_state=last_hidden_state,
            pooler_output=None if self.pooler is None else self.pooler(last_hidden_state),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._returned(output, return_dict)

    def _encoded(
        self,
        hidden_states: Tensor,
        pixel_values: Tensor,
        head_mask: Any,
        output_attentions: bool | None,
        output_hidden_states: bool | None,
        interpolate_pos_encoding: bool,
    ) -> BaseModelOutput:
        """What the encoder makes of embedded tokens."""
        config = self.config
        if output_attentions is None:
            output_attentions = config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = config.output_hidden_states
        encoded = self.encoder(
            hidden_states,
            head_mask=self._per_layer(self._as_tensor(head_mask)),
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            **self._resampled_grid(pixel_values, interpolate_pos_encoding),
        )
        if isinstance(encoded, tuple):  # of an encoder that scripts put here
            rest = iter(encoded[1:])
            all_hidden_states = next(rest, None) if output_hidden_states else None
            encoded = BaseModelOutput(encoded[0], all_hidden_states, next(rest, None))
        return encoded

    def _resampled_grid(self, pixel_values: Tensor, interpolate_pos_encoding: bool) -> dict[str, tuple[int, int]]:
        """The grid for which an encoder with relative positions has to resample them, if it has to."""
        if self.has_relative_positions and self.embeddings.interpolates(pixel_values, interpolate_pos_encoding):
            return {"grid": self.embeddings.patch_embeddings.grid(*pixel_values.shape[-2:])}
        return {}

    def _per_layer(self, head_mask: Tensor | None) -> Tensor | None:
        """A head mask for each layer, (layers, 1, heads, 1, 1); one of that form is taken as it is."""
        if head_mask is None or head_mask.ndim == 5:
            return head_mask
        layers = len(self.encoder.layer)
        check_head_mask(head_mask, self.config, layers)
        return head_mask.expand(layers, -1)[:, None, :, None, None]


class VisionTransformerWithHead(VisionTransformerPreTrainedModel):
    """What models with a head share: the base model, under the name that its family has for it."""

    base_model_class: ClassVar[Callable[..., VisionTransformerModel]] = VisionTransformerModel

    def add_base_model(self, **options: Any) -> None:
        """Make the base model; the options are those of its constructor."""
        self.add_module(self.config.base_model_prefix, type(self).base_model_class(self.config, **options))
        self.num_prefix_tokens = self.config.architecture.num_prefix_tokens
        self.first_masked = self.config.architecture.first_masked

    def patches_of(self, outputs: BaseModelOutputWithPooling, grid: tuple[int, int]) -> Tensor:
        """The tokens that stand for the patches in masked image modeling, (batch, patches, hidden)."""
        return outputs.last_hidden_state[:, self.first_masked : self.first_masked + grid[0] * grid[1]]


class VisionTransformerForImageClassification(VisionTransformerWithHead):
    """A Vision Transformer with a linear classifier on the summary of the image that its architecture names.

    Args:
        config: its sizes and settings; `num_labels` classes, and with 0 what the classifier would read instead of
            logits.
    """

    task = "image-classification"

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.classifier_reads = config.architecture.classifier_reads
        self.add_base_model(add_pooling_layer=self.classifier_reads == "pooler")
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
        """Run the model; see `VisionTransformerModel.forward`.

        Args:
            pixel_values: images, (batch, channels, height, width).
            head_mask: see `VisionTransformerModel.forward`.
            labels: what `vit_torch.losses.classification_loss` takes; with them the output has a loss.
            output_attentions: see `VisionTransformerModel.forward`.
            output_hidden_states: see `VisionTransformerModel.forward`.
            interpolate_pos_encoding: see `VisionTransformerModel.forward`.
            return_dict: see `VisionTransformerModel.forward`.

        Raises:
            ValueError: a shape does not fit the model, or a label is out of range.
        """
        outputs = self.base_model(
            pixel_values,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
        )
        summary = SUMMARIES[self.classifier_reads](outputs, self.num_prefix_tokens)
        logits = self.classifier(summary)
        loss = None if labels is None else classification_loss(logits, self._as_tensor(labels), self.config)
        output = ImageClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return self._returned(output, return_dict)


class VisionTransformerForImageClassificationWithTeacher(VisionTransformerWithHead):
    """A Vision Transformer with one classifier on the class token and one on the distillation token.

    The first learns from labels and the second from a teacher (Touvron et al. 2020, https://arxiv.org/abs/2012.12877,
    section 4), with `vit_torch.distillation.distillation_loss`; the answer is the mean of both.

    Args:
        config: its sizes and settings; its architecture has both tokens.

    Raises:
        ValueError: it has not.
    """

    task = "image-classification-with-teacher"

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        prefix_tokens = config.architecture.prefix_tokens
        if not {"cls_token", "distillation_token"} <= set(prefix_tokens):
            raise ValueError(
                f"prefix_tokens are {prefix_tokens!r}; a model with a teacher needs 'cls_token' and "
                f"'distillation_token'."
            )
        self.tokens = [prefix_tokens.index(name) for name in ("cls_token", "distillation_token")]
        self.add_base_model(add_pooling_layer=False)
        size = config.hidden_size
        with own_parts():
            self.cls_classifier = nn.Linear(size, config.num_labels) if config.num_labels else nn.Identity()
            self.distillation_classifier = nn.Linear(size, config.num_labels) if config.num_labels else nn.Identity()
        self.post_init()

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        return_dict: bool | None = None,
    ) -> DeiTForImageClassificationWithTeacherOutput | tuple[Tensor, ...]:
        """Run the model; see `VisionTransformerModel.forward`.

        Raises:
            ValueError: a shape does not fit the model.
        """
        outputs = self.base_model(
            pixel_values,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
        )
        class_token, distillation_token = (outputs.last_hidden_state[:, place] for place in self.tokens)
        cls_logits = self.cls_classifier(class_token)
        distillation_logits = self.distillation_classifier(distillation_token)
        output = DeiTForImageClassificationWithTeacherOutput(
            logits=(cls_logits + distillation_logits) / 2,
            cls_logits=cls_logits,
            distillation_logits=distillation_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
        return self._returned(output, return_dict)


class VisionTransformerForMaskedImageModeling(VisionTransformerWithHead):
    """A Vision Transformer with a decoder that reconstructs masked patches (SimMIM, https://arxiv.org/abs/2111.09886).

    Args:
        config: its sizes and settings; a patch is `encoder_stride` pixels high and wide.
    """

    task = "masked-image-modeling"

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.add_base_model(add_pooling_layer=False, use_mask_token=True)
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
        self.add_base_model(add_pooling_layer=False, use_mask_token=True)
        with own_parts():
            self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
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
        )
        grid = self.base_model.embeddings.patch_embeddings.grid(*pixel_values.shape[-2:])
        logits = self.lm_head(self.layernorm(self.patches_of(outputs, grid)))
        loss = None
        if labels is not None:
            loss = masked_token_loss(logits, self._as_tensor(labels), self._as_tensor(bool_masked_pos))
        output = MaskedLMOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return self._returned(output, return_dict)


def __getattr__(name: str) -> Any:
    """The models of ViT, which scripts import from here too; they are in `vit_torch.relatives`."""
    if name in ("ViTModel", "ViTForImageClassification", "ViTForMaskedImageModeling", "ViTPreTrainedModel"):
        from vit_torch import relatives

        return getattr(relatives, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
