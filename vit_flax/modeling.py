"""Vision Transformers in Flax, from top to bottom as the image travels: from embeddings to models with a head.

What a model is made of, its config's `architecture` says (`vit_core.architecture`): an option is chosen in `setup`, and
no class here knows a type of model. The layers are in `vit_flax.layers`, the classes that scripts know by name
(FlaxViTModel, FlaxDeiTModel, ...) in `vit_flax.relatives`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Shaped

from vit_core import PretrainedConfig, VisionTransformerConfig
from vit_core.architecture import RelativePositions, Summary
from vit_core.checks import check_head_mask
from vit_core.patches import grid_of
from vit_flax.embeddings import (
    FlaxViTEmbeddings,
    FlaxViTPatchEmbeddings,
    interpolates,
)
from vit_flax.intermediate_layers import IntermediateLayers
from vit_flax.layers import (
    FlaxViTAttention,
    FlaxViTIntermediate,
    FlaxViTLayer,
    FlaxViTLayerCollection,
    FlaxViTOutput,
    FlaxViTSelfAttention,
    FlaxViTSelfOutput,
    LayerStack,
    RelativePositionBias,
)
from vit_flax.losses import classification_loss
from vit_flax.outputs import (
    FlaxBaseModelOutput,
    FlaxBaseModelOutputWithPooling,
    FlaxDeiTForImageClassificationWithTeacherOutput,
    FlaxSequenceClassifierOutput,
)
from vit_flax.parts import Part, given
from vit_flax.poolers import POOLERS, FlaxViTPooler
from vit_flax.pretrained import FlaxPreTrainedModel
from vit_flax.rematerialization import Remat
from vit_flax.rotary import moves_positions, rotary_tables

__all__ = [
    "FlaxViTAttention",
    "FlaxViTEmbeddings",
    "FlaxViTEncoder",
    "FlaxViTIntermediate",
    "FlaxViTLayer",
    "FlaxViTLayerCollection",
    "FlaxViTOutput",
    "FlaxViTPatchEmbeddings",
    "FlaxViTPooler",
    "FlaxViTSelfAttention",
    "FlaxViTSelfOutput",
    "FlaxVisionTransformerForImageClassification",
    "FlaxVisionTransformerForImageClassificationModule",
    "FlaxVisionTransformerForImageClassificationWithTeacher",
    "FlaxVisionTransformerForImageClassificationWithTeacherModule",
    "FlaxVisionTransformerModel",
    "FlaxVisionTransformerModule",
    "FlaxVisionTransformerPreTrainedModel",
]


class FlaxViTEncoder(LayerStack):
    """The transformer layers: one after the other, or one compiled layer with the parameters of all in stacks."""

    def setup(self) -> None:
        if self.config.architecture.relative_positions == "shared":
            self.relative_position_bias = RelativePositionBias(**self.shared)
        self.layer: Any = self.stack(self.config)

    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        *,
        head_mask: Shaped[Array, "layers heads"] | None = None,
        prefix_only: bool = False,
        grid: tuple[int, int] | None = None,
    ) -> FlaxBaseModelOutput | tuple[Any, ...]:
        """Run the layers; see `LayerStack.run`.

        Args:
            hidden_states: the embedded tokens.
            deterministic: whether dropout and drop path are off.
            output_attentions: whether to return attention maps.
            output_hidden_states: whether to return hidden states.
            return_dict: whether to return an output object rather than a tuple.
            head_mask: factors for the heads of each layer.
            prefix_only: see `LayerStack.run`.
            grid: rows and columns of patches; those of the config's images unless given.
        """
        relative = RELATIVE[self.config.architecture.relative_positions](self, grid)
        if self.config.architecture.rotary_positions is not None:
            key = self.make_rng("dropout") if moves_positions(self.config) and not deterministic else None
            relative["rotary"] = rotary_tables(self.config, grid or self.config.grid, self.dtype, key)
        output = self.run(
            self.layer,
            hidden_states,
            deterministic,
            output_attentions,
            output_hidden_states,
            head_mask=head_mask,
            prefix_only=prefix_only,
            **relative,
        )
        return output if return_dict else output.to_tuple()


#: What the layers of an encoder are handed by name to place tokens relative to each other.
RELATIVE: dict[RelativePositions | None, Callable[[Any, tuple[int, int] | None], dict[str, Any]]] = {
    None: lambda encoder, grid: {},
    "layers": lambda encoder, grid: {"grid": grid},
    "shared": lambda encoder, grid: {"relative_position_bias": encoder.relative_position_bias(grid)},
}


#: What a classifier reads of a base model's output, which has so many tokens before the patches.
SUMMARIES: dict[Summary, Callable[[Any, int], Array]] = {
    "class-token": lambda outputs, num_prefix_tokens: outputs.last_hidden_state[:, 0],
    "pooler": lambda outputs, num_prefix_tokens: outputs.pooler_output,
    "mean": lambda outputs, num_prefix_tokens: outputs.last_hidden_state[:, num_prefix_tokens:].mean(1),
    "class-and-mean": lambda outputs, num_prefix_tokens: jnp.concatenate(
        [SUMMARIES[each](outputs, num_prefix_tokens) for each in ("class-token", "mean")], axis=-1
    ),
}


class FlaxVisionTransformerModule(Part):
    """A Vision Transformer without a head.

    Attributes:
        add_pooling_layer: whether to add the pooler; as its architecture has it unless given.
        use_mask_token: whether to have a mask token, which `bool_masked_pos` needs, where its architecture leaves that
            open.
        scan_layers: whether the layers are one compiled layer, with the parameters of all in stacks.
        remat: what the layers keep for the backward pass; see `vit_flax.rematerialization.rematerialized`.
        merged_tokens: how many tokens each layer merges, if any does; see `vit_flax.token_merging`.
    """

    add_pooling_layer: bool | None = None
    _: KW_ONLY
    use_mask_token: bool = False
    scan_layers: bool = False
    remat: Remat = False
    merged_tokens: tuple[int, ...] = ()

    def setup(self) -> None:
        architecture = self.config.architecture
        self.embeddings = FlaxViTEmbeddings(**self.shared, use_mask_token=self.use_mask_token)
        self.encoder = FlaxViTEncoder(
            **self.shared, scan_layers=self.scan_layers, remat=self.remat, merged_tokens=self.merged_tokens
        )
        self.layernorm = self.layer_norm() if architecture.final_norm else as_it_is
        has_pooler = architecture.has_pooler if self.add_pooling_layer is None else self.add_pooling_layer
        self.pooler = POOLERS[architecture.pooler](**self.shared) if has_pooler and architecture.pooler else None

    def __call__(
        self,
        pixel_values: Float[Array, "batch height width channels"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        *,
        interpolate_pos_encoding: bool = False,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
        prefix_only: bool = False,
        without_pooler: bool = False,
    ) -> FlaxBaseModelOutputWithPooling | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerModel.__call__`, but the channels of images come last here.

        With `prefix_only` the last layer computes the tokens before the patches alone, which are all that some poolers
        and classifiers see; `last_hidden_state` is (batch, prefix tokens, hidden) then. Scanned layers compute all
        tokens. With `without_pooler` there is no `pooler_output`, and its pooler computes nothing.
        """
        self._require_rng(deterministic)
        hidden_states = self.embeddings(
            pixel_values,
            deterministic=deterministic,
            **given(bool_masked_pos=bool_masked_pos, interpolate_pos_encoding=interpolate_pos_encoding),
        )
        encoded = self._encoded(
            hidden_states,
            deterministic,
            output_attentions,
            output_hidden_states,
            head_mask=head_mask,
            prefix_only=prefix_only,
            grid=self._resampled_grid(pixel_values, interpolate_pos_encoding),
        )
        last_hidden_state = self.layernorm(encoded[0])
        pooler = None if without_pooler and not self.is_initializing() else self.pooler
        output = FlaxBaseModelOutputWithPooling(
            last_hidden_state=last_hidden_state,
            pooler_output=None if pooler is None else pooler(last_hidden_state),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return output if return_dict else output.to_tuple()

    def _encoded(
        self,
        hidden_states: Array,
        deterministic: bool,
        output_attentions: bool,
        output_hidden_states: bool,
        head_mask: Array | None = None,
        **options: Any,
    ) -> Any:
        """What the encoder makes of embedded tokens."""
        return self.encoder(
            self.constrain(hidden_states, "batch", "tokens", "hidden"),
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            **given(head_mask=self._per_layer(head_mask), **options),
        )

    def _resampled_grid(self, pixel_values: Array, interpolate_pos_encoding: bool) -> tuple[int, int] | None:
        """The grid of the patches, if the encoder has to know it and it may be another than the config's."""
        architecture = self.config.architecture
        has_relative = architecture.relative_positions is not None or architecture.rotary_positions is not None
        if has_relative and interpolates(self.config, pixel_values, interpolate_pos_encoding):
            return grid_of(pixel_values.shape[1:3], self.config.patch_shape)
        return None

    def _per_layer(self, head_mask: Array | None) -> Array | None:
        """A head mask for each layer, (layers, heads)."""
        if head_mask is None:
            return None
        check_head_mask(head_mask, self.config)
        return jnp.broadcast_to(head_mask, (self.config.num_hidden_layers, self.config.num_attention_heads))

    def _require_rng(self, deterministic: bool) -> None:
        config = self.config
        drop_path_rate = config.architecture.drop_path_rates(config.num_hidden_layers)[-1:]  # of the last layer
        drops = config.hidden_dropout_prob or config.attention_probs_dropout_prob or any(drop_path_rate)
        moves = moves_positions(config)
        if (drops or moves) and not deterministic and not self.has_rng("dropout"):
            what = "dropout acts" if drops else "positions are moved at random"
            raise ValueError(
                f"{what} in training and needs random numbers; pass dropout_rng=jax.random.key(...), another one "
                "in each step (to a module: rngs={'dropout': ...})."
            )


def as_it_is(hidden_states: Array) -> Array:
    """What stands for the last LayerNorm of a model without one."""
    return hidden_states


class VisionTransformerWithHead(Part):
    """What models with a head share: the base model, under the name that its family has for it.

    Attributes:
        scan_layers: see `FlaxVisionTransformerModule`.
        remat: see `FlaxVisionTransformerModule`.
        merged_tokens: see `FlaxVisionTransformerModule`.
    """

    base_module_class: ClassVar[type[Part]] = FlaxVisionTransformerModule

    _: KW_ONLY
    scan_layers: bool = False
    remat: Remat = False
    merged_tokens: tuple[int, ...] = ()

    @nn.nowrap
    def add_base_model(self, *, reads_pooler: bool = False, **options: Any) -> None:
        """Make the base model; the options are its fields.

        Args:
            reads_pooler: whether the head reads its pooler's output. Some models have a pooler though none reads it.
            **options: its fields.
        """
        base_model: Any = self.base_module_class
        options["add_pooling_layer"] = reads_pooler or self.config.architecture.keeps_pooler
        options |= {"scan_layers": self.scan_layers, "remat": self.remat, "merged_tokens": self.merged_tokens}
        setattr(self, self.config.base_model_prefix, base_model(**self.shared, **options))

    @property
    def base_model(self) -> Any:
        """The model without its head."""
        return getattr(self, self.config.base_model_prefix)

    @nn.nowrap
    def sees_prefix_only(self, output_attentions: bool, output_hidden_states: bool) -> bool:
        """Whether nobody sees the patches after the last layer.

        What modules return on the way may be captured, and a base model of a script's own knows nothing of it.
        """
        is_seen = output_attentions or output_hidden_states or self.is_mutable_collection("intermediates")
        return type(self.base_model) is FlaxVisionTransformerModule and not is_seen

    @property
    def may_skip_pooler(self) -> bool:
        """Whether the base model has a pooler for keeping, and can be called without it."""
        return self.config.architecture.keeps_pooler and type(self.base_model) is FlaxVisionTransformerModule

    @nn.nowrap
    def patches_of(self, outputs: Any, grid: tuple[int, int]) -> Float[Array, "batch patches hidden"]:
        """The tokens that stand for the patches in masked image modeling."""
        first = self.config.architecture.first_masked
        return outputs.last_hidden_state[:, first : first + grid[0] * grid[1]]


class FlaxVisionTransformerForImageClassificationModule(VisionTransformerWithHead):
    """A Vision Transformer with a linear classifier on the summary of the image that its architecture names.

    Its fields are those of `VisionTransformerWithHead`.
    """

    def setup(self) -> None:
        config, architecture = self.config, self.config.architecture
        self.add_base_model(reads_pooler=architecture.classifier_reads == "pooler")
        self.summary = SUMMARIES[architecture.classifier_reads]
        reads_dense = architecture.classifier_reads == "pooler" and architecture.pooler == "dense"
        is_hidden = architecture.classifier_reads != "class-and-mean" and not reads_dense
        self.summary_axis = "hidden" if is_hidden else "pooled"
        if config.num_labels:  # without labels its input is passed on
            self.classifier = self.linear(config.num_labels, (self.summary_axis, "labels"))

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
        labels: Shaped[Array, "*shape"] | None = None,
    ) -> FlaxSequenceClassifierOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerForImageClassification.__call__`, but with channels last."""
        config, architecture = self.config, self.config.architecture
        sees_prefix_only = self.sees_prefix_only(output_attentions, output_hidden_states)
        outputs: Any = self.base_model(
            pixel_values,
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **given(
                interpolate_pos_encoding=interpolate_pos_encoding,
                head_mask=head_mask,
                prefix_only=architecture.summary_is_prefix and sees_prefix_only,
                without_pooler=architecture.classifier_reads != "pooler" and self.may_skip_pooler,
            ),
        )
        summary = self.summary(outputs, architecture.num_prefix_tokens)
        logits = self.constrain(summary, "batch", self.summary_axis)
        if config.num_labels:
            logits = self.classifier(logits)
        loss = None if labels is None else classification_loss(logits, jnp.asarray(labels), config)
        output = FlaxSequenceClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return self.returned(output, return_dict)


class FlaxVisionTransformerForImageClassificationWithTeacherModule(VisionTransformerWithHead):
    """A Vision Transformer with one classifier on the class token and one on the distillation token.

    Its fields are those of `VisionTransformerWithHead`.
    """

    def setup(self) -> None:
        self.places = self.config.architecture.teacher_places
        self.add_base_model()
        self.cls_classifier, self.distillation_classifier = self._classifier(), self._classifier()

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
    ) -> FlaxDeiTForImageClassificationWithTeacherOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerForImageClassificationWithTeacher.__call__`, with channels last."""
        outputs: Any = self.base_model(
            pixel_values,
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **given(
                interpolate_pos_encoding=interpolate_pos_encoding,
                head_mask=head_mask,
                prefix_only=self.sees_prefix_only(output_attentions, output_hidden_states),
                without_pooler=self.may_skip_pooler,
            ),
        )
        class_token, distillation_token = (
            self.constrain(outputs.last_hidden_state[:, place], "batch", "hidden") for place in self.places
        )
        cls_logits = self.cls_classifier(class_token)
        distillation_logits = self.distillation_classifier(distillation_token)
        output = FlaxDeiTForImageClassificationWithTeacherOutput(
            logits=(cls_logits + distillation_logits) / 2,
            cls_logits=cls_logits,
            distillation_logits=distillation_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
        return self.returned(output, return_dict)

    @nn.nowrap
    def _classifier(self) -> Any:
        """A classifier; without labels its input is passed on."""
        count = self.config.num_labels
        return self.linear(count, ("hidden", "labels")) if count else as_it_is


class FlaxVisionTransformerPreTrainedModel(FlaxPreTrainedModel):
    """What the models of a `VisionTransformerConfig` share; see `FlaxPreTrainedModel`."""

    config_class: type[PretrainedConfig] = VisionTransformerConfig
    base_model_prefix = VisionTransformerConfig.base_model_prefix


class FlaxVisionTransformerModel(FlaxVisionTransformerPreTrainedModel, IntermediateLayers):
    """A Vision Transformer without a head; see `FlaxPreTrainedModel` for its arguments."""

    task = "model"
    module_class = FlaxVisionTransformerModule

    def __call__(  # type: ignore[override]  # what the module takes is named here
        self,
        pixel_values: Float[Array, "batch channels height width"],
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
    ) -> FlaxBaseModelOutputWithPooling | tuple[Any, ...]:
        """Run the model.

        Args:
            pixel_values: images, (batch, channels, height, width).
            params: parameters to use instead of the model's, for functions that JAX transforms.
            dropout_rng: a key for dropout, which training with dropout needs.
            train: whether dropout acts.
            output_attentions: whether to return attention maps; the config's setting unless given.
            output_hidden_states: whether to return every layer's hidden states; likewise.
            return_dict: whether to return an output object rather than a tuple; likewise.
            interpolate_pos_encoding: whether to resample positions, so that images may have any size. Models whose
                architecture `resamples_unasked` do so anyway where the size is another.
            head_mask: (heads,) or (layers, heads), factors for attention heads: 1 keeps a head, 0 silences it. Heads
                count as before pruning.
            bool_masked_pos: (batch, patches), true or 1 where the mask token replaces the patch.

        Raises:
            TypeError: images or parameters are no arrays.
            ValueError: a shape does not fit the model, or the mesh; or `dropout_rng` is missing.
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


class FlaxVisionTransformerForImageClassification(FlaxVisionTransformerPreTrainedModel):
    """A Vision Transformer with a linear classifier on the summary of the image that its architecture names.

    See `FlaxPreTrainedModel` for its arguments. It has `config.num_labels` classes; with 0 what the classifier would
    read stands for logits.
    """

    task = "image-classification"
    module_class = FlaxVisionTransformerForImageClassificationModule

    def __call__(  # type: ignore[override]  # what the module takes is named here
        self,
        pixel_values: Float[Array, "batch channels height width"],
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
        labels: Shaped[Array, "*shape"] | None = None,
    ) -> FlaxSequenceClassifierOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerModel.__call__`.

        Args:
            pixel_values: see `FlaxVisionTransformerModel.__call__`.
            params: see `FlaxVisionTransformerModel.__call__`.
            dropout_rng: see `FlaxVisionTransformerModel.__call__`.
            train: see `FlaxVisionTransformerModel.__call__`.
            output_attentions: see `FlaxVisionTransformerModel.__call__`.
            output_hidden_states: see `FlaxVisionTransformerModel.__call__`.
            return_dict: see `FlaxVisionTransformerModel.__call__`.
            interpolate_pos_encoding: see `FlaxVisionTransformerModel.__call__`.
            head_mask: see `FlaxVisionTransformerModel.__call__`.
            labels: what `vit_flax.losses.classification_loss` takes; with them the output has a loss.

        Raises:
            TypeError: images or parameters are no arrays.
            ValueError: a shape does not fit the model, or the mesh; `dropout_rng` is missing; or a label is out of
                range, which under jit makes the loss NaN instead.
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
            labels=labels,
        )


class FlaxVisionTransformerForImageClassificationWithTeacher(FlaxVisionTransformerPreTrainedModel):
    """A Vision Transformer with one classifier on the class token and one on the distillation token.

    The first learns from labels and the second from a teacher (Touvron et al. 2020, https://arxiv.org/abs/2012.12877,
    section 4), with `vit_flax.distillation.distillation_loss`; the answer is the mean of both. See
    `FlaxPreTrainedModel` for its arguments; its architecture has both tokens.
    """

    task = "image-classification-with-teacher"
    module_class = FlaxVisionTransformerForImageClassificationWithTeacherModule

    def __call__(  # type: ignore[override]  # what the module takes is named here
        self,
        pixel_values: Float[Array, "batch channels height width"],
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
    ) -> FlaxDeiTForImageClassificationWithTeacherOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerModel.__call__`.

        Raises:
            TypeError: images or parameters are no arrays.
            ValueError: a shape does not fit the model, or the mesh; or `dropout_rng` is missing.
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
        )


def __getattr__(name: str) -> Any:
    """The models of ViT, which scripts import from here too; they are in `vit_flax.relatives`."""
    if name.removeprefix("Flax").startswith(("ViTModel", "ViTModule", "ViTFor")):
        from vit_flax import relatives

        return getattr(relatives, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
