"""Vision Transformer in Keras, from top to bottom as the image travels.

Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", https://arxiv.org/abs/2010.11929. Layers are nested and named
as the canonical names of `vit_core.parameters` say; `vit_core.layouts` has the few exceptions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from jaxtyping import Float, Shaped
from keras import layers, ops
from tensorflow import Tensor

from vit_core import PretrainedConfig
from vit_core.parameters import Parameter, parameters
from vit_tf.activations import activation
from vit_tf.checks import check_bool_masked_pos
from vit_tf.initialization import Start
from vit_tf.loss_mixins import TFSequenceClassificationLoss
from vit_tf.losses import masked_reconstruction_loss, mean_loss
from vit_tf.outputs import (
    TFBaseModelOutput,
    TFBaseModelOutputWithPooling,
    TFMaskedImageModelingOutput,
    TFSequenceClassifierOutput,
)
from vit_tf.parts import Linear, Part, run_part
from vit_tf.position import resample_grid
from vit_tf.pretrained import ViTPreTrainedModel
from vit_tf.rematerialization import recomputed

Shape = tuple[int | None, ...]


def linear(config: PretrainedConfig, units: int, name: str, dtype: Any, use_bias: bool = True) -> Linear:
    """A linear layer."""
    return Linear(units, use_bias=use_bias, kernel_initializer=Start(config), name=name, dtype=dtype)


def layer_norm(config: PretrainedConfig, name: str, dtype: Any) -> layers.LayerNormalization:
    """A LayerNorm; under half-precision policies it still computes in float32."""
    return layers.LayerNormalization(epsilon=config.layer_norm_eps, name=name, dtype=dtype)


class ViTPatchEmbeddings(Part):
    """Cuts an image into patches and projects each to a token."""

    def __init__(self, config: PretrainedConfig, data_format: str = "channels_first", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.data_format = data_format
        self.image_size, self.patch_size, self.num_channels = (
            config.image_shape,
            config.patch_shape,
            config.num_channels,
        )
        self.num_patches = math.prod(config.grid)
        self.projection = layers.Conv2D(
            config.hidden_size,
            kernel_size=config.patch_shape,
            strides=config.patch_shape,
            data_format="channels_last",  # the only one that TensorFlow has on a CPU
            kernel_initializer=Start(config),
            name="projection",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: Shape) -> None:
        self.projection.build((None, None, None, self.config.num_channels))

    def call(
        self, pixel_values: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch rows columns hidden"]:
        if self.data_format == "channels_first":
            pixel_values = ops.transpose(pixel_values, (0, 2, 3, 1))
        return self.projection(pixel_values)

    def grid(self, pixel_values: Float[Tensor, "batch channels height width"]) -> tuple[int | Tensor, int | Tensor]:
        """Rows and columns of patches."""
        _, *sizes = ops.shape(pixel_values)
        height, width = sizes[1:] if self.data_format == "channels_first" else sizes[:2]
        return height // self.config.patch_shape[0], width // self.config.patch_shape[1]


class ViTEmbeddings(Part):
    """Turns an image into tokens: the class token, then the patches, each with its position added."""

    def __init__(
        self,
        config: PretrainedConfig,
        use_mask_token: bool = False,
        data_format: str = "channels_first",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.output_shape = (None, 1 + math.prod(config.grid), config.hidden_size)  # for `summary`
        self.use_mask_token = use_mask_token
        self.patch_embeddings = ViTPatchEmbeddings(
            config, data_format, name="patch_embeddings", dtype=self.dtype_policy
        )
        self.dropout = layers.Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        hidden, (rows, columns), start = self.config.hidden_size, self.config.grid, Start(self.config)
        self.cls_token = self.add_weight(name="cls_token", shape=(1, 1, hidden), initializer=start)
        self.mask_token = None
        if self.use_mask_token:
            self.mask_token = self.add_weight(name="mask_token", shape=(1, 1, hidden), initializer="zeros")
        self.position_embeddings = self.add_weight(
            name="position_embeddings", shape=(1, 1 + rows * columns, hidden), initializer=start
        )
        self.patch_embeddings.build(input_shape)

    def call(
        self,
        pixel_values: Float[Tensor, "batch channels height width"],
        interpolate_pos_encoding: bool = False,
        bool_masked_pos: Shaped[Tensor, "batch patches"] | None = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        patches = self.patch_embeddings(pixel_values)
        batch, rows, columns, hidden = ops.shape(patches)
        patches = ops.reshape(patches, (-1, rows * columns, hidden))
        if bool_masked_pos is not None:
            patches = self._mask(patches, ops.convert_to_tensor(bool_masked_pos))
        tokens = ops.concatenate([ops.broadcast_to(self.cls_token, (batch, 1, hidden)), patches], axis=1)
        positions = self.position_embeddings
        if interpolate_pos_encoding:
            positions = self._positions((rows, columns))
        return self.dropout(tokens + positions)

    def interpolate_pos_encoding(
        self, embeddings: Any, height: int | Tensor, width: int | Tensor
    ) -> Float[Tensor, "1 tokens hidden"]:
        """The position embeddings for images of another size in pixels.

        Args:
            embeddings: accepted for scripts that give them; the size says everything.
            height: of the images.
            width: of the images.
        """
        patch_height, patch_width = self.config.patch_shape
        return self._positions((height // patch_height, width // patch_width))

    def _positions(self, grid: tuple[Any, Any]) -> Float[Tensor, "1 tokens hidden"]:
        """The position embeddings for another grid of patches, resampled as `vit_core.position` defines it."""
        positions = ops.convert_to_tensor(self.position_embeddings)
        resampled = resample_grid(ops.reshape(positions[0, 1:], (*self.config.grid, -1)), grid)
        patches = ops.reshape(resampled, (1, -1, self.config.hidden_size))
        return ops.concatenate([positions[:, :1], patches], axis=1)

    def _mask(self, patches: Tensor, bool_masked_pos: Tensor) -> Tensor:
        if self.mask_token is None:
            raise ValueError("bool_masked_pos needs a mask token; build the model with use_mask_token=True.")
        check_bool_masked_pos(bool_masked_pos, patches)
        return ops.where(ops.cast(bool_masked_pos, "bool")[..., None], self.mask_token, patches)


class ViTSelfAttention(Part):
    """Multi-head self-attention (equations 5 to 7 of the paper), up to the output projection."""

    def __init__(self, config: PretrainedConfig, layer: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = config.kept_heads(layer)
        self.is_pruned = len(self.heads) < config.num_attention_heads
        self.head_dim = config.head_dim
        self.width = len(self.heads) * self.head_dim
        self.num_attention_heads, self.attention_head_size, self.all_head_size = (
            len(self.heads),
            self.head_dim,
            self.width,
        )
        self.query = linear(config, self.width, "query", self.dtype_policy, config.qkv_bias)
        self.key = linear(config, self.width, "key", self.dtype_policy, config.qkv_bias)
        self.value = linear(config, self.width, "value", self.dtype_policy, config.qkv_bias)
        self.dropout = layers.Dropout(config.attention_probs_dropout_prob, dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        for projection in (self.query, self.key, self.value):
            projection.build(input_shape)

    def call(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, " heads"] | None = None,
        output_attentions: bool = False,
        class_token_only: bool = False,
    ) -> tuple[Float[Tensor, "batch queries width"], *tuple[Float[Tensor, "batch heads queries tokens"], ...]]:
        queried = hidden_states[:, :1] if class_token_only else hidden_states
        query = self._split(self.query(queried) * self.head_dim**-0.5)
        key, value = self._split(self.key(hidden_states)), self._split(self.value(hidden_states))
        scores = ops.matmul(ops.transpose(query, (0, 2, 1, 3)), ops.transpose(key, (0, 2, 3, 1)))
        probabilities = self.dropout(ops.softmax(scores))
        if head_mask is not None:
            if self.is_pruned:
                head_mask = ops.take(head_mask, self.heads)
            probabilities = probabilities * ops.cast(head_mask, probabilities.dtype)[:, None, None]
        context = ops.matmul(probabilities, ops.transpose(value, (0, 2, 1, 3)))
        context = ops.reshape(ops.transpose(context, (0, 2, 1, 3)), (-1, ops.shape(queried)[1], self.width))
        return (context, probabilities) if output_attentions else (context,)

    def _split(self, projected: Tensor) -> Float[Tensor, "batch tokens heads head_dim"]:
        return ops.reshape(projected, (-1, ops.shape(projected)[1], len(self.heads), self.head_dim))

    def transpose_for_scores(
        self, tensor: Tensor, batch_size: Any = None
    ) -> Float[Tensor, "batch heads tokens head_dim"]:
        """A projection of hidden states (batch, tokens, hidden), with the heads as an axis of their own."""
        return ops.transpose(self._split(tensor), (0, 2, 1, 3))


class ViTSelfOutput(Part):
    """The output projection of attention; the residual is added in ViTLayer."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = linear(config, config.hidden_size, "dense", self.dtype_policy)
        self.dropout = layers.Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        self.dense.build(input_shape)

    def call(
        self, context: Float[Tensor, "batch tokens width"], input_tensor: Tensor | None = None
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Project; `input_tensor` is not looked at, as in transformers, whose layers pass it on."""
        return self.dropout(self.dense(context))


class ViTAttention(Part):
    """Self-attention with its output projection."""

    names_in_scripts: ClassVar[dict[str, str]] = {"self_attention": "attention", "dense_output": "output_"}

    def __init__(self, config: PretrainedConfig, layer: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attention = ViTSelfAttention(config, layer, name="attention", dtype=self.dtype_policy)
        self.output_ = ViTSelfOutput(config, name="output", dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        self.attention.build(input_shape)
        self.output_.build((None, self.attention.width))

    def call(
        self,
        input_tensor: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, " heads"] | None = None,
        output_attentions: bool = False,
        class_token_only: bool = False,
    ) -> tuple[Float[Tensor, "batch queries hidden"], *tuple[Float[Tensor, "batch heads queries tokens"], ...]]:
        context, probabilities = run_part(
            self.attention,
            input_tensor,
            head_mask,
            output_attentions,
            own=ViTSelfAttention,
            class_token_only=class_token_only,
        )
        attended = self.output_(context, input_tensor)
        return (attended, probabilities) if output_attentions else (attended,)


class ViTIntermediate(Part):
    """The first half of the MLP."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = linear(config, config.intermediate_size, "dense", self.dtype_policy)
        self.intermediate_act_fn = activation(config.hidden_act)

    def build(self, input_shape: Shape) -> None:
        self.dense.build(input_shape)

    def call(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens mlp"]:
        return self.intermediate_act_fn(self.dense(hidden_states))


class ViTOutput(Part):
    """The second half of the MLP; the residual is added in ViTLayer."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = linear(config, config.hidden_size, "dense", self.dtype_policy)
        self.dropout = layers.Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        self.dense.build(input_shape)

    def call(
        self, hidden_states: Float[Tensor, "batch tokens mlp"], input_tensor: Tensor | None = None
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Project, and add `input_tensor` if it is given."""
        hidden_states = self.dropout(self.dense(hidden_states))
        return hidden_states if input_tensor is None else hidden_states + input_tensor


class ViTLayer(Part):
    """One transformer layer, with LayerNorm before each half (equations 2 and 3)."""

    names_in_scripts: ClassVar[dict[str, str]] = {"vit_output": "output_"}

    def __init__(self, config: PretrainedConfig, layer: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attention = ViTAttention(config, layer, name="attention", dtype=self.dtype_policy)
        self.intermediate = ViTIntermediate(config, name="intermediate", dtype=self.dtype_policy)
        self.output_ = ViTOutput(config, name="output", dtype=self.dtype_policy)
        self.layernorm_before = layer_norm(config, "layernorm_before", self.dtype_policy)
        self.layernorm_after = layer_norm(config, "layernorm_after", self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        self.attention.build(input_shape)
        self.intermediate.build(input_shape)
        self.output_.build((None, self.intermediate.dense.units))
        self.layernorm_before.build(input_shape)
        self.layernorm_after.build(input_shape)

    def call(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, " heads"] | None = None,
        output_attentions: bool = False,
        class_token_only: bool = False,
    ) -> tuple[Float[Tensor, "batch queries hidden"], *tuple[Float[Tensor, "batch heads queries tokens"] | None, ...]]:
        attended, probabilities = run_part(
            self.attention,
            self.layernorm_before(hidden_states),
            head_mask,
            output_attentions,
            own=ViTAttention,
            class_token_only=class_token_only,
        )
        hidden_states = attended + (hidden_states[:, :1] if class_token_only else hidden_states)
        mlp = self.intermediate(self.layernorm_after(hidden_states))
        hidden_states = self.output_(mlp, hidden_states)
        return (hidden_states, probabilities) if output_attentions else (hidden_states,)


class ViTEncoder(Part):
    """The transformer layers, one after the other."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_shape = (None, 1 + math.prod(config.grid), config.hidden_size)  # for `summary`
        self.layer = [
            ViTLayer(config, layer, name=f"layer_{layer}", dtype=self.dtype_policy)
            for layer in range(config.num_hidden_layers)
        ]
        self.gradient_checkpointing = False

    def build(self, input_shape: Shape) -> None:
        for layer in self.layer:
            layer.build(input_shape)

    def call(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, "layers heads"] | Sequence[Tensor | None] | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        class_token_only: bool = False,
        training: bool = False,
    ) -> TFBaseModelOutput | tuple[Any, ...]:
        """Run the layers; hidden states are those before each layer and after the last."""
        all_hidden_states, all_attentions = [], []
        is_narrow = class_token_only and bool(self.layer) and self._computes_class_token_alone(self.layer[-1])
        for index, layer in enumerate(self.layer):
            if output_hidden_states:
                all_hidden_states.append(hidden_states)
            hidden_states, attentions = run_part(
                layer,
                hidden_states,
                None if head_mask is None else head_mask[index],
                output_attentions,
                own=ViTLayer,
                wrapper=recomputed if self.gradient_checkpointing and training else None,
                class_token_only=is_narrow and index == len(self.layer) - 1,
            )
            if output_attentions:
                all_attentions.append(attentions)
        if output_hidden_states:
            all_hidden_states.append(hidden_states)
        output = TFBaseModelOutput(
            last_hidden_state=hidden_states,
            hidden_states=tuple(all_hidden_states) or None,
            attentions=tuple(all_attentions) or None,
        )
        return output if return_dict else output.to_tuple()

    @staticmethod
    def _computes_class_token_alone(layer: Any) -> bool:
        """Whether neither the layer nor its attention was replaced by one that computes all tokens."""
        return (
            isinstance(layer, ViTLayer)
            and isinstance(layer.attention, ViTAttention)
            and isinstance(layer.attention.attention, ViTSelfAttention)
        )


class ViTPooler(Part):
    """A summary of the image from the class token."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_shape = (None, config.pooler_size)  # for `summary`
        self.dense = linear(config, config.pooler_size, "dense", self.dtype_policy)
        self.activation = activation(config.pooler_act)

    def build(self, input_shape: Shape) -> None:
        self.dense.build((None, input_shape[-1]))

    def call(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch pooled"]:
        return self.activation(self.dense(hidden_states[:, 0]))


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
class TFViTModel(ViTPreTrainedModel):
    """The Vision Transformer without a head.

    Args:
        config: its sizes and settings.
        add_pooling_layer: whether to add the pooler.
        use_mask_token: whether to have a mask token, which `bool_masked_pos` needs.
        data_format: "channels_first" or "channels_last", the order of the axes of images.
        **kwargs: what every `keras.Model` takes: `name`, `dtype` (a policy such as "mixed_bfloat16") and `trainable`.
    """

    task = "model"
    output_class = TFBaseModelOutputWithPooling

    def __init__(
        self,
        config: PretrainedConfig,
        add_pooling_layer: bool = True,
        use_mask_token: bool = False,
        data_format: str = "channels_first",
        **kwargs: Any,
    ) -> None:
        super().__init__(config, data_format, **kwargs)
        self.output_shape = (None, 1 + math.prod(config.grid), config.hidden_size)  # for `summary`
        self.main_output_name = "pooler_output" if add_pooling_layer else "last_hidden_state"
        self.main_output_shape = (None, config.pooler_size) if add_pooling_layer else self.output_shape
        self.add_pooling_layer = add_pooling_layer
        self.use_mask_token = use_mask_token
        self.embeddings = ViTEmbeddings(config, use_mask_token, data_format, name="embeddings", dtype=self.dtype_policy)
        self.encoder = ViTEncoder(config, name="encoder", dtype=self.dtype_policy)
        self.layernorm = layer_norm(config, "layernorm", self.dtype_policy)
        self.pooler = ViTPooler(config, name="pooler", dtype=self.dtype_policy) if add_pooling_layer else None
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
        # transformers' model has one layer, `vit`, that does all its work; here that is the model itself. Keras looks
        # for parts among attributes and properties, and so does not find the model in itself.
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
        class_token_only: bool = False,
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
            class_token_only: whether the last layer computes the class token alone, which is all that the pooler and
                a classifier see. `last_hidden_state` is (batch, 1, hidden) then.

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
            class_token_only=class_token_only,
            training=training,
        )
        last_hidden_state = self.layernorm(encoded.last_hidden_state)
        output = TFBaseModelOutputWithPooling(
            last_hidden_state=last_hidden_state,
            pooler_output=None if self.pooler is None else self.pooler(last_hidden_state),
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


@keras.saving.register_keras_serializable("trivit")
class TFViTForMaskedImageModeling(ViTPreTrainedModel):
    """The Vision Transformer with a decoder that reconstructs masked patches (SimMIM, https://arxiv.org/abs/2111.09886).

    Args:
        config: its sizes and settings; a patch is `encoder_stride` pixels high and wide.
        data_format: see `TFViTModel`.
        **kwargs: see `TFViTModel`.
    """

    task = "masked-image-modeling"
    output_class = TFMaskedImageModelingOutput
    main_output_name = "reconstruction"

    def __init__(self, config: PretrainedConfig, data_format: str = "channels_first", **kwargs: Any) -> None:
        super().__init__(config, data_format, **kwargs)
        self.main_output_shape = self.image_batch_shape
        self.vit = TFViTModel(
            config,
            add_pooling_layer=False,
            use_mask_token=True,
            data_format=data_format,
            name="vit",
            dtype=self.dtype_policy,
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
        """Run the model; see `TFViTModel.call`. With `bool_masked_pos` the output has a loss.

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
        outputs = self.vit(
            pixel_values,
            bool_masked_pos=bool_masked_pos,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
            training=training,
        )
        patches = outputs.last_hidden_state[:, 1:]
        rows, columns = self.vit.embeddings.patch_embeddings.grid(pixel_values)
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
class TFViTForImageClassification(ViTPreTrainedModel, TFSequenceClassificationLoss):
    """The Vision Transformer with a linear classifier on the class token or on the pooler's output.

    Args:
        config: its sizes and settings; `num_labels` classes, and with 0 what the classifier would read instead of
            logits. With `classifier_uses_pooler` that is the pooler's output.
        data_format: see `TFViTModel`.
        **kwargs: see `TFViTModel`.
    """

    task = "image-classification"
    output_class = TFSequenceClassifierOutput
    main_output_name = "logits"

    def __init__(self, config: PretrainedConfig, data_format: str = "channels_first", **kwargs: Any) -> None:
        super().__init__(config, data_format, **kwargs)
        self.main_output_shape = (None, config.num_labels or config.classifier_input_size)
        self.vit = TFViTModel(
            config,
            add_pooling_layer=config.classifier_uses_pooler,
            data_format=data_format,
            name="vit",
            dtype=self.dtype_policy,
        )
        self.classifier = (
            linear(config, config.num_labels, "classifier", self.dtype_policy)
            if config.num_labels
            else layers.Identity(name="classifier", dtype=self.dtype_policy)
        )
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
        """Run the model; see `TFViTModel.call`.

        Args:
            pixel_values: see `TFViTModel.call`.
            head_mask: see `TFViTModel.call`.
            output_attentions: see `TFViTModel.call`.
            output_hidden_states: see `TFViTModel.call`.
            interpolate_pos_encoding: see `TFViTModel.call`.
            return_dict: see `TFViTModel.call`.
            labels: what `vit_tf.losses.classification_loss` takes; with them the output has a loss, the mean of what
                `hf_compute_loss` returns.
            training: see `TFViTModel.call`.

        Raises:
            ValueError: a shape does not fit the model, or a label is out of range; see `vit_tf.checks.require` for
                graphs.
        """
        config = self.config
        if output_attentions is None:
            output_attentions = config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = config.output_hidden_states
        outputs = self.vit(
            pixel_values,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
            training=training,
            # Nobody sees the other tokens then; in PyTorch, hooks might.
            class_token_only=not (output_attentions or output_hidden_states),
        )
        summary = outputs.pooler_output if config.classifier_uses_pooler else outputs.last_hidden_state[:, 0]
        logits = self.classifier(summary)
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


ViTModel = TFViTModel
ViTForMaskedImageModeling = TFViTForMaskedImageModeling
ViTForImageClassification = TFViTForImageClassification

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
TFViTMainLayer = TFViTModel
