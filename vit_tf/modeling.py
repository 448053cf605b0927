"""Vision Transformers in Keras, from top to bottom as the image travels.

Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", https://arxiv.org/abs/2010.11929, with the options of
`vit_core.architecture` and the heads for classification, with and without a teacher; the others are in
`vit_tf.masked_image_modeling` and `vit_tf.image_projection`. The layers of the transformer are in `vit_tf.layers`, the
poolers in `vit_tf.poolers`, the published classes in `vit_tf.relatives`. Layers are nested and named as the canonical
names of `vit_core.parameters` say; `vit_core.layouts` has the few exceptions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from jaxtyping import Float, Shaped
from keras import layers, ops
from tensorflow import Tensor

from vit_core import PretrainedConfig
from vit_core.architecture import Summary
from vit_core.outputs import ModelOutput
from vit_core.parameters import Parameter, Task, parameters
from vit_tf.embeddings import ViTEmbeddings, ViTPatchEmbeddings, tokens_shape
from vit_tf.intermediate_layers import IntermediateLayers
from vit_tf.layers import (
    Grid,
    LayerStack,
    RelativePositionBias,
    Shape,
    ViTAttention,
    ViTIntermediate,
    ViTLayer,
    ViTOutput,
    ViTSelfAttention,
    ViTSelfOutput,
    layer_class,
    linear,
)
from vit_tf.loss_mixins import TFSequenceClassificationLoss
from vit_tf.losses import mean_loss
from vit_tf.norms import norm_of
from vit_tf.outputs import (
    TFBaseModelOutput,
    TFBaseModelOutputWithPooling,
    TFDeiTForImageClassificationWithTeacherOutput,
    TFSequenceClassifierOutput,
)
from vit_tf.poolers import POOLERS, ViTPooler
from vit_tf.pretrained import PreTrainedModel
from vit_tf.rotary import RotaryTables
from vit_tf.token_merging import run_merging


class ViTEncoder(LayerStack):
    """The transformer layers, one after the other."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        architecture = config.architecture
        self.output_shape = tokens_shape(config)  # for `summary`
        self.num_prefix_tokens = architecture.num_prefix_tokens
        self.merged_tokens: tuple[int, ...] = ()  # by each layer; see `vit_tf.token_merging`
        one = layer_class(config)
        self.layer = [
            one(config, layer, name=f"layer_{layer}", dtype=self.dtype_policy)
            for layer in range(config.num_hidden_layers)
        ]
        self.relative_position_bias = (
            RelativePositionBias(config, name="relative_position_bias", dtype=self.dtype_policy)
            if architecture.relative_positions == "shared"
            else None
        )
        self.rotary_tables = (
            RotaryTables(config, name="rotary_tables", dtype=self.dtype_policy)
            if architecture.rotary_positions not in (None, "mixed")
            else None
        )

    def build(self, input_shape: Shape) -> None:
        for layer in self.layer:
            layer.build(input_shape)
        if self.relative_position_bias is not None:
            self.relative_position_bias.build()

    def call(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, "layers heads"] | Sequence[Tensor | None] | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        prefix_only: bool = False,
        grid: Grid | None = None,
        training: bool = False,
    ) -> TFBaseModelOutput | tuple[Any, ...]:
        """Run the layers; see `LayerStack.run_layers`.

        With relative or rotary positions, `grid` is the rows and columns of patches, the config's unless given.
        """
        shared, tables = self.relative_position_bias, self.rotary_tables
        asked = (hidden_states, head_mask, output_attentions, output_hidden_states, prefix_only, training)
        if self.merged_tokens:
            output = run_merging(self, *asked)
            return output if return_dict else output.to_tuple()
        output = self.run_layers(
            self.layer,
            *asked,
            relative_position_bias=None if shared is None else shared(grid=grid),
            grid=grid,
            rotary=None if tables is None else tables(grid=grid, training=training),
        )
        return output if return_dict else output.to_tuple()


#: The models of ViT that used to be here.
OF_VIT = ("ViTModel", "ViTMainLayer", "ViTForMaskedImageModeling", "ViTForImageClassification")

#: What a classifier reads of the base model's output, given how many tokens stand before the patches; see
#: `vit_core.architecture.Summary`.
SUMMARIES: dict[Summary, Callable[[TFBaseModelOutputWithPooling, int], Tensor]] = {
    "class-token": lambda output, before: output.last_hidden_state[:, 0],
    "pooler": lambda output, before: output.pooler_output,
    "mean": lambda output, before: ops.mean(output.last_hidden_state[:, before:], axis=1),
    "class-and-mean": lambda output, before: ops.concatenate(
        [output.last_hidden_state[:, 0], ops.mean(output.last_hidden_state[:, before:], axis=1)], axis=-1
    ),
}


@keras.saving.register_keras_serializable("trivit")
class TFVisionTransformerModel(PreTrainedModel, IntermediateLayers):
    """A Vision Transformer without a head.

    Args:
        config: its sizes and settings.
        add_pooling_layer: whether to add the pooler; as the config's architecture has it unless given.
        use_mask_token: whether to have a mask token, which `bool_masked_pos` needs, where the architecture leaves it
            open.
        data_format: "channels_first" or "channels_last", the order of the axes of images.
        **kwargs: what every `keras.Model` takes: `name`, `dtype` (a policy such as "mixed_bfloat16") and `trainable`.
    """

    task: ClassVar[Task | None] = "model"
    output_class: ClassVar[type[ModelOutput] | None] = TFBaseModelOutputWithPooling

    def __init__(
        self,
        config: PretrainedConfig,
        add_pooling_layer: bool | None = None,
        use_mask_token: bool = False,
        data_format: str = "channels_first",
        **kwargs: Any,
    ) -> None:
        super().__init__(config, data_format, **kwargs)
        architecture = config.architecture
        self.output_shape = tokens_shape(config)  # for `summary`
        self.add_pooling_layer = architecture.has_pooler if add_pooling_layer is None else add_pooling_layer
        self.use_mask_token = use_mask_token
        self.embeddings = ViTEmbeddings(config, use_mask_token, data_format, name="embeddings", dtype=self.dtype_policy)
        self.encoder = ViTEncoder(config, name="encoder", dtype=self.dtype_policy)
        self.layernorm = (
            norm_of(config, "layernorm", self.dtype_policy)
            if architecture.final_norm
            else layers.Identity(name="layernorm", dtype=self.dtype_policy)
        )
        pooler_class = POOLERS[architecture.pooler] if self.add_pooling_layer and architecture.pooler else None
        self.pooler = None if pooler_class is None else pooler_class(config, name="pooler", dtype=self.dtype_policy)
        self.main_output_name = "last_hidden_state" if self.pooler is None else "pooler_output"
        self.main_output_shape = self.output_shape if self.pooler is None else self.pooler.output_shape
        self.knows_grid = (architecture.relative_positions or architecture.rotary_positions) is not None
        self.build(self.image_batch_shape)

    def build(self, input_shape: Shape) -> None:
        self.embeddings.build(self.image_batch_shape)
        self.encoder.build(self.output_shape)
        self.layernorm.build(self.output_shape)
        if self.pooler is not None:
            self.pooler.build(self.output_shape)

    def parameter_table(self, config: PretrainedConfig | None = None) -> tuple[Parameter, ...]:
        """The rows of `vit_core.parameters` that describe this model, with its own config unless another is given."""
        return parameters(
            config or self.config,
            "model",
            add_pooling_layer=self.add_pooling_layer,
            use_mask_token=self.use_mask_token,
        )

    def __getattr__(self, name: str) -> Any:
        # transformers' model has one layer, such as `vit`, that does all its work; here that is the model itself. Keras
        # looks for parts among attributes and properties, and so does not find the model in itself.
        if name == self.base_model_prefix:
            return self
        return super().__getattr__(name)

    def call(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
        bool_masked_pos: Shaped[Tensor, "batch patches"] | None = None,
        prefix_only: bool = False,
        pools: bool = True,
    ) -> TFBaseModelOutputWithPooling | tuple[Tensor, ...]:
        """Run the model.

        The first argument may also be a list or tuple of arguments in this order, or a dict of them by name.

        Args:
            pixel_values: images, (batch, channels, height, width), or (batch, height, width, channels) if the model's
                `data_format` is "channels_last".
            head_mask: (heads,) or (layers, heads), factors for attention heads: 1 keeps a head, 0 silences it. Heads
                count as before pruning.
            output_attentions: whether to return attention maps; the config's setting unless given.
            output_hidden_states: whether to return every layer's hidden states; likewise.
            interpolate_pos_encoding: whether to resample the position embeddings, so that images may have any size.
            return_dict: whether to return an output object rather than a tuple; the config's setting unless given.
            training: whether dropout acts.
            bool_masked_pos: (batch, patches), true or 1 where the mask token replaces the patch.
            prefix_only: whether the last layer computes the tokens before the patches alone, which are all that the
                class token's readers see. `last_hidden_state` is (batch, tokens before the patches, hidden) then.
            pools: whether to compute the pooler's output, if there is a pooler.

        Raises:
            ValueError: a shape does not fit the model; see `vit_tf.checks.require` for graphs.
        """
        config = self.config
        if output_attentions is None:
            output_attentions = config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = config.output_hidden_states

        hidden_states = self.embeddings(
            ops.cast(pixel_values, self.compute_dtype),
            interpolate_pos_encoding=bool(interpolate_pos_encoding),
            bool_masked_pos=bool_masked_pos,
        )
        encoded = self.encoder(
            hidden_states,
            self._per_layer(head_mask),
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            prefix_only=prefix_only,
            grid=self.embeddings.patch_embeddings.grid(pixel_values) if self.knows_grid else None,
            training=training,
        )
        last_hidden_state = self.layernorm(encoded.last_hidden_state)
        output = TFBaseModelOutputWithPooling(
            last_hidden_state=last_hidden_state,
            pooler_output=self.pooler(last_hidden_state) if pools and self.pooler is not None else None,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._returned(output, return_dict)

    def _per_layer(self, head_mask: Tensor | None) -> Tensor | None:
        if head_mask is None:
            return None
        return ops.broadcast_to(head_mask, (self.config.num_hidden_layers, self.config.num_attention_heads))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for `.keras` files."""
        arguments = {"add_pooling_layer": self.add_pooling_layer, "use_mask_token": self.use_mask_token}
        return {**super().get_config(), **arguments}


class VisionTransformerWithHead(PreTrainedModel):
    """What the models with a head share: how they hold the base model, under the name that checkpoints give it, and run
    it.
    """

    base_model_class: ClassVar[type[TFVisionTransformerModel]] = TFVisionTransformerModel
    summary_is_prefix = False  # whether the head reads tokens before the patches alone

    def _hold_base(self, reads_pooler: bool = False, **parts: bool) -> None:
        self.reads_pooler = reads_pooler
        name, has_pooler = self.base_model_prefix, reads_pooler or self.config.architecture.keeps_pooler
        options: dict[str, Any] = {"data_format": self.data_format, "name": name, "dtype": self.dtype_policy, **parts}
        base = self.base_model_class(self.config, add_pooling_layer=has_pooler, **options)
        setattr(self, name, base)

    def _classifier(self, name: str) -> layers.Layer:
        if not self.config.num_labels:
            return layers.Identity(name=name, dtype=self.dtype_policy)
        return linear(self.config, self.config.num_labels, name, self.dtype_policy)

    def _encoded(
        self,
        pixel_values: Tensor,
        head_mask: Tensor | None,
        output_attentions: bool | None,
        output_hidden_states: bool | None,
        interpolate_pos_encoding: bool | None,
        training: bool,
        **options: Any,
    ) -> Any:
        """What the base model returns, of the last layer no more than the head reads."""
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if self.summary_is_prefix:
            # Nobody sees the other tokens then; in PyTorch, hooks might.
            options["prefix_only"] = not (output_attentions or output_hidden_states)
        if self.config.architecture.keeps_pooler and not self.reads_pooler:
            options["pools"] = False
        return self._base_model()(
            pixel_values,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
            training=training,
            **options,
        )


@keras.saving.register_keras_serializable("trivit")
class TFVisionTransformerForImageClassification(VisionTransformerWithHead, TFSequenceClassificationLoss):
    """A Vision Transformer with a linear classifier on what its architecture says: the class token, the pooler's
    output, the mean of the patches, or class token and mean.

    Args:
        config: its sizes and settings; `num_labels` classes, and with 0 what the classifier would read instead of
            logits.
        data_format: see `TFVisionTransformerModel`.
        **kwargs: see `TFVisionTransformerModel`.
    """

    task = "image-classification"
    output_class = TFSequenceClassifierOutput
    main_output_name = "logits"

    def __init__(self, config: PretrainedConfig, data_format: str = "channels_first", **kwargs: Any) -> None:
        super().__init__(config, data_format, **kwargs)
        architecture = config.architecture
        self.main_output_shape = (None, config.num_labels or config.classifier_input_size)
        self._hold_base(reads_pooler=architecture.classifier_reads == "pooler")
        self.classifier = self._classifier("classifier")
        self.summarize = SUMMARIES[architecture.classifier_reads]
        self.num_prefix_tokens, self.summary_is_prefix = architecture.num_prefix_tokens, architecture.summary_is_prefix
        self.build(self.image_batch_shape)

    def build(self, input_shape: Shape) -> None:
        self.classifier.build((None, self.config.classifier_input_size))

    def call(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        return_dict: bool | None = None,
        labels: Shaped[Tensor, "*shape"] | None = None,
        training: bool = False,
    ) -> TFSequenceClassifierOutput | tuple[Tensor, ...]:
        """Run the model; see `TFVisionTransformerModel.call`.

        Args:
            pixel_values: see `TFVisionTransformerModel.call`.
            head_mask: see `TFVisionTransformerModel.call`.
            output_attentions: see `TFVisionTransformerModel.call`.
            output_hidden_states: see `TFVisionTransformerModel.call`.
            interpolate_pos_encoding: see `TFVisionTransformerModel.call`.
            return_dict: see `TFVisionTransformerModel.call`.
            labels: what `vit_tf.losses.classification_loss` takes; with them the output has a loss, the mean of what
                `hf_compute_loss` returns.
            training: see `TFVisionTransformerModel.call`.

        Raises:
            ValueError: a shape does not fit the model, or a label is out of range; see `vit_tf.checks.require` for
                graphs.
        """
        outputs = self._encoded(
            pixel_values, head_mask, output_attentions, output_hidden_states, interpolate_pos_encoding, training
        )
        logits = self.classifier(self.summarize(outputs, self.num_prefix_tokens))
        loss = None if labels is None else self.mean_of(self.hf_compute_loss(labels, logits))
        output = TFSequenceClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return self._returned(output, return_dict)

    def own_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Tensor:
        """The loss that the config or the labels name, which `fit` minimises when `compile` names none."""
        if y is None:
            raise ValueError(
                "there are no labels; call fit(x, y), or use batches {'pixel_values': ..., 'labels': ...}."
            )
        return mean_loss(self.hf_compute_loss(y, self.main_output(y_pred)), sample_weight)


@keras.saving.register_keras_serializable("trivit")
class TFVisionTransformerForImageClassificationWithTeacher(VisionTransformerWithHead):
    """A Vision Transformer with a classifier on the class token and one on the distillation token, whose mean counts
    (DeiT, https://arxiv.org/abs/2012.12877, section 4). It is trained with `vit_tf.distillation`.

    Args:
        config: see `TFVisionTransformerForImageClassification`.
        data_format: see `TFVisionTransformerModel`.
        **kwargs: see `TFVisionTransformerModel`.

    Raises:
        ValueError: the config's model has no two tokens before the patches.
    """

    task = "image-classification-with-teacher"
    output_class = TFDeiTForImageClassificationWithTeacherOutput
    main_output_name = "logits"

    def __init__(self, config: PretrainedConfig, data_format: str = "channels_first", **kwargs: Any) -> None:
        super().__init__(config, data_format, **kwargs)
        self.places = config.architecture.teacher_places
        self.main_output_shape = (None, config.num_labels or config.hidden_size)
        self._hold_base()
        self.cls_classifier = self._classifier("cls_classifier")
        self.distillation_classifier = self._classifier("distillation_classifier")
        self.summary_is_prefix = True
        self.build(self.image_batch_shape)

    def build(self, input_shape: Shape) -> None:
        self.cls_classifier.build((None, self.config.hidden_size))
        self.distillation_classifier.build((None, self.config.hidden_size))

    def call(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        training: bool = False,
    ) -> TFDeiTForImageClassificationWithTeacherOutput | tuple[Tensor, ...]:
        """Run the model; see `TFVisionTransformerModel.call`."""
        outputs = self._encoded(
            pixel_values, head_mask, output_attentions, output_hidden_states, interpolate_pos_encoding, training
        )
        class_token, distillation_token = (outputs.last_hidden_state[:, place] for place in self.places)
        cls_logits = self.cls_classifier(class_token)
        distillation_logits = self.distillation_classifier(distillation_token)
        output = TFDeiTForImageClassificationWithTeacherOutput(
            (cls_logits + distillation_logits) / 2,
            cls_logits,
            distillation_logits,
            outputs.hidden_states,
            outputs.attentions,
        )
        return self._returned(output, return_dict)


VisionTransformerModel = TFVisionTransformerModel
VisionTransformerForImageClassification = TFVisionTransformerForImageClassification
VisionTransformerForImageClassificationWithTeacher = TFVisionTransformerForImageClassificationWithTeacher

# The names of parts in scripts for transformers
TFViTPatchEmbeddings = ViTPatchEmbeddings
TFViTEmbeddings = ViTEmbeddings
TFViTSelfAttention = ViTSelfAttention
TFViTSelfOutput = ViTSelfOutput
TFViTAttention = ViTAttention
TFViTIntermediate = ViTIntermediate
TFViTOutput = ViTOutput
TFViTLayer = ViTLayer
TFViTEncoder = ViTEncoder
TFViTPooler = ViTPooler


def __getattr__(name: str) -> Any:
    """The classes of ViT, which older scripts import from here; see `vit_tf.relatives`."""
    if name.removeprefix("TF") not in OF_VIT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vit_tf import relatives

    return getattr(relatives, name)
