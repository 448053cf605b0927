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
from vit_core.architecture import RelativePositions, Summary
from vit_core.checks import check_head_mask
from vit_core.parameters import Parameter, Task, parameters
from vit_torch.embeddings import ViTEmbeddings, ViTPatchEmbeddings
from vit_torch.filling import own_parts
from vit_torch.intermediate_layers import IntermediateLayers
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
from vit_torch.losses import classification_loss
from vit_torch.norms import norm_of
from vit_torch.outputs import (
    BaseModelOutput,
    BaseModelOutputWithPooling,
    DeiTForImageClassificationWithTeacherOutput,
    ImageClassifierOutput,
)
from vit_torch.poolers import POOLERS, ViTPooler
from vit_torch.prefix_only import may_compute_prefix_only
from vit_torch.pretrained import PreTrainedModel
from vit_torch.rotary import ROTARY
from vit_torch.token_merging import run_merging

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
    "VisionTransformerModel",
    "VisionTransformerPreTrainedModel",
]


class ViTEncoder(LayerStack):
    """The transformer layers, one after the other."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.relative_positions = config.architecture.relative_positions
        if self.relative_positions == "shared":
            self.relative_position_bias = RelativePositionBias(config)
        rotary = config.architecture.rotary_positions
        self.rope_embeddings = ROTARY[rotary](config) if rotary is not None else None
        self.layer = layers_of(config)
        self.merged_tokens: tuple[int, ...] = ()  # by each layer; see `vit_torch.token_merging`

    @property
    def layers(self) -> nn.ModuleList:
        """The layers, by the name that scripts for CLIP and SigLIP have for them."""
        return self.layer

    def forward(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, "layers ..."] | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        grid: tuple[int, int] | None = None,
        prefix_only: bool = False,
    ) -> BaseModelOutput | tuple[Any, ...]:
        """Run the layers; on request with the hidden states before each layer and after the last, and the attention.

        Args:
            hidden_states: the embedded tokens.
            head_mask: factors for the heads of each layer.
            output_attentions: whether to return attention maps.
            output_hidden_states: whether to return hidden states.
            return_dict: whether to return an output object rather than a tuple.
            grid: rows and columns of patches, where they are not the model's own and positions are part of attention.
            prefix_only: whether the last layer computes the tokens before the patches alone.
        """
        relative = RELATIVE[self.relative_positions](self, grid)
        if self.rope_embeddings is not None:
            relative["rotary"] = self.rope_embeddings(hidden_states, grid)
        asked = (hidden_states, head_mask, output_attentions, output_hidden_states, prefix_only)
        output = run_merging(self, *asked) if self.merged_tokens else self.run(self.layer, *asked, **relative)
        return output if return_dict else output.to_tuple()


#: What the layers of an encoder are handed by name to place tokens relative to each other.
RELATIVE: dict[RelativePositions | None, Callable[[Any, tuple[int, int] | None], dict[str, Any]]] = {
    None: lambda encoder, grid: {},
    "layers": lambda encoder, grid: {"grid": grid},
    "shared": lambda encoder, grid: {"relative_position_bias": encoder.relative_position_bias(grid)},
}


#: What a classifier reads of a base model's output, which has so many tokens before the patches.
SUMMARIES: dict[Summary, Callable[[BaseModelOutputWithPooling, int], Tensor]] = {
    "class-token": lambda outputs, num_prefix_tokens: outputs.last_hidden_state[:, 0],
    "pooler": lambda outputs, num_prefix_tokens: outputs.pooler_output,
    "mean": lambda outputs, num_prefix_tokens: outputs.last_hidden_state[:, num_prefix_tokens:].mean(1),
    "class-and-mean": lambda outputs, num_prefix_tokens: torch.cat(
        [outputs.last_hidden_state[:, 0], outputs.last_hidden_state[:, num_prefix_tokens:].mean(1)], dim=1
    ),
}


class VisionTransformerPreTrainedModel(PreTrainedModel):
    """What the models of a `VisionTransformerConfig` share; see `PreTrainedModel`."""

    config_class: type[PretrainedConfig] = VisionTransformerConfig
    base_model_prefix = VisionTransformerConfig.base_model_prefix


class VisionTransformerModel(VisionTransformerPreTrainedModel, IntermediateLayers):
    """A Vision Transformer without a head.

    Args:
        config: its sizes and settings, and what it is made of.
        add_pooling_layer: whether to add the pooler; as its architecture has it unless given.
        use_mask_token: whether to have a mask token, which `bool_masked_pos` needs, where its architecture leaves that
            open.
    """

    task: ClassVar[Task | None] = "model"
    embeddings_class: ClassVar[Callable[..., nn.Module]] = ViTEmbeddings

    def __init__(
        self, config: PretrainedConfig, add_pooling_layer: bool | None = None, use_mask_token: bool = False
    ) -> None:
        super().__init__(config)
        architecture = config.architecture
        in_attention = (architecture.relative_positions, architecture.rotary_positions)
        self.attention_is_positioned = in_attention != (None, None)
        has_pooler = architecture.has_pooler if add_pooling_layer is None else add_pooling_layer
        with own_parts():
            self.embeddings: Any = type(self).embeddings_class(config, use_mask_token)
            self.encoder = ViTEncoder(config)
            self.layernorm = norm_of(config) if architecture.final_norm else nn.Identity()
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
        with_pooler: bool = True,
        prefix_only: bool = False,
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
            with_pooler: False leaves the pooler's output out, for those who do not read it.
            prefix_only: whether the last layer computes the tokens before the patches alone, which are all that some
                classifiers read; `last_hidden_state` is (batch, prefix tokens, hidden) then.

        Raises:
            ValueError: a shape does not fit the model.
        """
        pixel_values = self._images(pixel_values)
        interpolate = bool(interpolate_pos_encoding)
        hidden_states = self.embeddings(pixel_values, self._as_tensor(bool_masked_pos), interpolate)
        encoded = self._encoded(
            hidden_states, pixel_values, head_mask, output_attentions, output_hidden_states, interpolate, prefix_only
        )
        last_hidden_state = self.layernorm(encoded[0])
        output = BaseModelOutputWithPooling(
            last_hidden_state=last_hidden_state,
            pooler_output=self.pooler(last_hidden_state) if self.pooler is not None and with_pooler else None,
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
        prefix_only: bool = False,
    ) -> BaseModelOutput:
        """What the encoder makes of embedded tokens."""
        config = self.config
        if output_attentions is None:
            output_attentions = config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = config.output_hidden_states
        options: dict[str, Any] = self._resampled_grid(pixel_values, interpolate_pos_encoding)
        if prefix_only:  # encoders that scripts put here do not know it
            options["prefix_only"] = True
        encoded = self.encoder(
            hidden_states,
            head_mask=self._per_layer(self._as_tensor(head_mask)),
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            **options,
        )
        if isinstance(encoded, tuple):  # of an encoder that scripts put here
            rest = iter(encoded[1:])
            all_hidden_states = next(rest, None) if output_hidden_states else None
            encoded = BaseModelOutput(encoded[0], all_hidden_states, next(rest, None))
        return encoded

    def _resampled_grid(self, pixel_values: Tensor, interpolate_pos_encoding: bool) -> dict[str, tuple[int, int]]:
        """The grid for which an encoder with positions of its own has to make them anew, if it has to."""
        if self.attention_is_positioned and self.embeddings.interpolates(pixel_values, interpolate_pos_encoding):
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

    def add_base_model(self, add_pooling_layer: bool = False, **options: Any) -> None:
        """Make the base model.

        Args:
            add_pooling_layer: whether this model reads the pooler's output.
            **options: others of the base model's constructor.
        """
        architecture = self.config.architecture
        keeps_pooler = architecture.keeps_pooler and not add_pooling_layer
        if architecture.pooler is not None:
            options["add_pooling_layer"] = add_pooling_layer or keeps_pooler
        self.add_module(self.config.base_model_prefix, type(self).base_model_class(self.config, **options))
        #: What the base model is called with, besides: a pooler that is there and not read is left out.
        self.base_options: dict[str, Any] = {"with_pooler": False} if keeps_pooler else {}
        self.num_prefix_tokens = architecture.num_prefix_tokens
        self.first_masked = architecture.first_masked

    def sees_prefix_only(self, output_attentions: bool | None, output_hidden_states: bool | None) -> bool:
        """Whether nobody sees the patches after the last layer, so that it may leave them out."""
        config = self.config
        if config.output_attentions if output_attentions is None else output_attentions:
            return False
        if config.output_hidden_states if output_hidden_states is None else output_hidden_states:
            return False
        return may_compute_prefix_only(self.base_model)

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
        self.reads_prefix = config.architecture.summary_is_prefix
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
        options = self.base_options
        if self.reads_prefix and self.sees_prefix_only(output_attentions, output_hidden_states):
            options = options | {"prefix_only": True}
        outputs = self.base_model(
            pixel_values,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
            **options,
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
        self.places = config.architecture.teacher_places
        self.add_base_model()
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
        options = self.base_options
        if self.sees_prefix_only(output_attentions, output_hidden_states):
            options = options | {"prefix_only": True}
        outputs = self.base_model(
            pixel_values,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
            **options,
        )
        class_token, distillation_token = (outputs.last_hidden_state[:, place] for place in self.places)
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


def __getattr__(name: str) -> Any:
    """The models of ViT, which scripts import from here too; they are in `vit_torch.relatives`."""
    if name in ("ViTModel", "ViTForImageClassification", "ViTForMaskedImageModeling", "ViTPreTrainedModel"):
        from vit_torch import relatives

        return getattr(relatives, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
