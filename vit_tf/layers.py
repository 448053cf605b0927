"""The layers of the transformer, each once, with its options; see `vit_core.architecture`.

Attention, the MLP, and the layers made of them, in the order in which they use each other. Layers are nested and named
as the canonical names of `vit_core.parameters` say; `vit_core.layouts` has the few exceptions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from jaxtyping import Float, Shaped
from keras import layers, ops
from tensorflow import Tensor

from vit_core import PretrainedConfig
from vit_core.architecture import Halves
from vit_core.relative_position import table_length
from vit_tf.activations import activation
from vit_tf.attention_blocks import attention_in_blocks, in_blocks_of_tokens, may_be_large
from vit_tf.initialization import Start
from vit_tf.norms import norm_of
from vit_tf.outputs import TFBaseModelOutput
from vit_tf.parts import Linear, Part, run_part, size
from vit_tf.position import is_same_grid
from vit_tf.relative_position import relative_position_index, resample_table
from vit_tf.rematerialization import recomputed
from vit_tf.rotary import MixedRotary, turned

Shape = tuple[int | None, ...]
Grid = tuple[int | Tensor, int | Tensor]
#: Makes fewer tokens of a layer's between its halves, given what attention returned; see `vit_tf.token_merging`.
Merge = Callable[..., tuple[Any, ...]]


def linear(config: PretrainedConfig, units: int, name: str, dtype: Any, use_bias: bool = True) -> Linear:
    """A linear layer."""
    return Linear(units, use_bias=use_bias, kernel_initializer=Start(config), name=name, dtype=dtype)


class RelativePositionBias(Part):
    """What attention adds to the scores of two tokens for the way from one to the other; see
    `vit_core.relative_position`.
    """

    def __init__(self, config: PretrainedConfig, layer: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid, self.num_prefix_tokens = config.grid, config.architecture.num_prefix_tokens
        self.num_heads = len(config.kept_heads(layer))

    def build(self, input_shape: Shape | None = None) -> None:
        self.relative_position_bias_table = self.add_weight(
            name="relative_position_bias_table",
            shape=(table_length(self.grid, self.num_prefix_tokens), self.num_heads),
            initializer="zeros",
        )

    def call(self, grid: Grid | None = None) -> Float[Tensor, "1 heads tokens tokens"]:
        """The bias for a grid of patches, the config's unless given; for another the table is resampled."""
        grid = self.grid if grid is None else grid
        table = ops.convert_to_tensor(self.relative_position_bias_table)
        if not is_same_grid(self.grid, grid):
            table = resample_table(table, self.grid, grid)
        index = relative_position_index(grid, self.num_prefix_tokens)
        return ops.transpose(ops.take(table, index, axis=0), (2, 0, 1))[None]


class ViTSelfAttention(Part):
    """Multi-head self-attention (equations 5 to 7 of the paper), up to the output projection."""

    def __init__(self, config: PretrainedConfig, layer: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        architecture = config.architecture
        self.num_prefix_tokens = architecture.num_prefix_tokens
        self.heads = config.kept_heads(layer)
        self.is_pruned = len(self.heads) < config.num_attention_heads
        self.head_dim = config.head_dim
        self.width = len(self.heads) * self.head_dim
        self.num_attention_heads, self.attention_head_size, self.all_head_size = (
            len(self.heads),
            self.head_dim,
            self.width,
        )
        self.query, self.key, self.value = (
            linear(config, self.width, name, self.dtype_policy, config.qkv_bias and has_bias)
            for name, has_bias in (
                ("query", architecture.query_bias),
                ("key", architecture.key_bias),
                ("value", architecture.value_bias),
            )
        )
        self.query_norm, self.key_norm = (
            norm_of(config, name, self.dtype_policy) if architecture.query_key_norm else None
            for name in ("query_norm", "key_norm")
        )
        self.rotary_positions: Any = architecture.rotary_positions
        is_mixed = self.rotary_positions == "mixed"
        self.rope = MixedRotary(config, layer, name="rope", dtype=self.dtype_policy) if is_mixed else None
        self.dropout = layers.Dropout(config.attention_probs_dropout_prob, dtype=self.dtype_policy)
        self.relative_position_bias = (
            RelativePositionBias(config, layer, name="relative_position_bias", dtype=self.dtype_policy)
            if architecture.relative_positions == "layers"
            else None
        )

    def build(self, input_shape: Shape) -> None:
        for projection in (self.query, self.key, self.value):
            projection.build(input_shape)
        if self.query_norm is not None and self.key_norm is not None:
            self.query_norm.build((None, self.head_dim))
            self.key_norm.build((None, self.head_dim))
        if self.relative_position_bias is not None:
            self.relative_position_bias.build()
        if self.rope is not None:
            self.rope.build()

    def call(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, " heads"] | None = None,
        output_attentions: bool = False,
        prefix_only: bool = False,
        relative_position_bias: Float[Tensor, "#batch #heads #tokens tokens"] | None = None,
        grid: Grid | None = None,
        rotary: Float[Tensor, "2 tokens head_dim"] | None = None,
        output_keys: bool = False,
        training: bool = False,
    ) -> tuple[Float[Tensor, "batch queries width"], *tuple[Float[Tensor, "batch ..."] | None, ...]]:
        """Attend.

        Args:
            hidden_states: (batch, tokens, hidden).
            head_mask: (heads,), factors for attention heads.
            output_attentions: whether to return attention maps as well.
            prefix_only: whether to compute the tokens before the patches alone.
            relative_position_bias: what to add to the scores, for all heads, where one table is for all layers.
            grid: rows and columns of patches, where the layer has positions of its own; the config's unless given.
            rotary: by what queries and keys are turned; see `vit_tf.rotary`.
            output_keys: whether to return the keys, (batch, tokens, heads, head_dim), third.
            training: whether dropout acts.
        """
        queried = hidden_states[:, : self.num_prefix_tokens] if prefix_only else hidden_states
        query, key, value = (
            self._split(projected)
            for projected in (self.query(queried), self.key(hidden_states), self.value(hidden_states))
        )
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        if self.rope is not None:
            rotary = self.rope(grid=grid)
        if rotary is not None:
            key = turned(self.rotary_positions, key, rotary)
            query = query if prefix_only else turned(self.rotary_positions, query, rotary)  # only patches are turned
        bias = self._bias(relative_position_bias, grid)
        if bias is not None:
            bias = bias[:, :, : size(queried, 1)]
        if head_mask is not None and self.is_pruned:
            head_mask = ops.take(head_mask, self.heads)
        if not output_attentions and isinstance(self.dropout, layers.Dropout) and may_be_large(query, key):
            drops = training and self.dropout.rate > 0
            seed = self.dropout.seed_generator.next() if drops else None
            context = attention_in_blocks(query, key, value, bias, head_mask, seed, self.dropout.rate)
            context = ops.reshape(context, (-1, size(queried, 1), self.width))
            return (context, None, key) if output_keys else (context,)
        scores = ops.einsum("bqhd,bkhd->bhqk", query * self.head_dim**-0.5, key)
        if bias is not None:
            scores = scores + ops.cast(bias, scores.dtype)
        probabilities = self.dropout(ops.softmax(scores))
        if head_mask is not None:
            probabilities = probabilities * ops.cast(head_mask, probabilities.dtype)[:, None, None]
        context = ops.einsum("bhqk,bkhd->bqhd", probabilities, value)
        context = ops.reshape(context, (-1, size(queried, 1), self.width))
        if output_keys:
            return context, probabilities if output_attentions else None, key
        return (context, probabilities) if output_attentions else (context,)

    def _bias(self, shared: Tensor | None, grid: Grid | None) -> Float[Tensor, "1 heads tokens tokens"] | None:
        """What the way from one token to another adds to their scores."""
        if self.relative_position_bias is not None:
            return self.relative_position_bias(grid=grid)
        is_of_heads = shared is not None and shared.shape[1] != 1
        return ops.take(shared, self.heads, axis=1) if is_of_heads and self.is_pruned else shared

    def _split(self, projected: Tensor) -> Float[Tensor, "batch tokens heads head_dim"]:
        return ops.reshape(projected, (-1, size(projected, 1), len(self.heads), self.head_dim))

    def transpose_for_scores(
        self, tensor: Tensor, batch_size: Any = None
    ) -> Float[Tensor, "batch heads tokens head_dim"]:
        """A projection of hidden states (batch, tokens, hidden), with the heads as an axis of their own."""
        return ops.transpose(self._split(tensor), (0, 2, 1, 3))


class ViTSelfOutput(Part):
    """The output projection of attention; the residual is added in ViTLayer."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        architecture = config.architecture
        self.layernorm = norm_of(config, "layernorm", self.dtype_policy) if architecture.attention_norm else None
        self.dense = linear(config, config.hidden_size, "dense", self.dtype_policy, architecture.output_bias)
        self.dropout = layers.Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        if self.layernorm is not None:
            self.layernorm.build(input_shape)
        self.dense.build(input_shape)

    def call(
        self, context: Float[Tensor, "batch tokens width"], input_tensor: Tensor | None = None
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Project; `input_tensor` is not looked at, as in transformers, whose layers pass it on."""
        return self.dropout(self.dense(context if self.layernorm is None else self.layernorm(context)))


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
        prefix_only: bool = False,
        relative_position_bias: Float[Tensor, "#batch #heads #tokens tokens"] | None = None,
        grid: Grid | None = None,
        rotary: Float[Tensor, "2 tokens head_dim"] | None = None,
        output_keys: bool = False,
    ) -> tuple[Float[Tensor, "batch queries hidden"], *tuple[Float[Tensor, "batch ..."] | None, ...]]:
        """Attend and project; the arguments are those of `ViTSelfAttention.call`."""
        context, probabilities, *keys = run_part(
            self.attention,
            input_tensor,
            head_mask,
            output_attentions,
            own=ViTSelfAttention,
            prefix_only=prefix_only,
            relative_position_bias=relative_position_bias,
            grid=grid,
            rotary=rotary,
            output_keys=output_keys,
        )
        attended = self.output_(context, input_tensor)
        return (attended, probabilities, *keys) if output_attentions or keys else (attended,)


class ViTIntermediate(Part):
    """The first half of the MLP, through the activation; or weighed by a gate that goes through it."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        architecture = config.architecture
        sizes = (config, config.intermediate_size)
        self.gate = linear(*sizes, "gate", self.dtype_policy, architecture.mlp_bias) if architecture.gated_mlp else None
        self.dense = linear(*sizes, "dense", self.dtype_policy, architecture.mlp_bias)
        self.intermediate_act_fn = activation(config.mlp_act)

    def build(self, input_shape: Shape) -> None:
        if self.gate is not None:
            self.gate.build(input_shape)
        self.dense.build(input_shape)

    def call(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens mlp"]:
        if self.gate is None:
            return self.intermediate_act_fn(self.dense(hidden_states))
        return self.intermediate_act_fn(self.gate(hidden_states)) * self.dense(hidden_states)


class ViTOutput(Part):
    """The second half of the MLP; the residual is added in ViTLayer."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        architecture = config.architecture
        self.layernorm = norm_of(config, "layernorm", self.dtype_policy) if architecture.mlp_norm else None
        self.dense = linear(config, config.hidden_size, "dense", self.dtype_policy, architecture.mlp_bias)
        dropout = config.hidden_dropout_prob if architecture.mlp_dropout else 0.0
        self.dropout = layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        if self.layernorm is not None:
            self.layernorm.build(input_shape)
        self.dense.build(input_shape)

    def call(
        self, hidden_states: Float[Tensor, "batch tokens mlp"], input_tensor: Tensor | None = None
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Project, and add `input_tensor` if it is given."""
        if self.layernorm is not None:
            hidden_states = self.layernorm(hidden_states)
        hidden_states = self.dropout(self.dense(hidden_states))
        return hidden_states if input_tensor is None else hidden_states + input_tensor


class ViTLayer(Part):
    """One transformer layer, with LayerNorm before each half (equations 2 and 3)."""

    names_in_scripts: ClassVar[dict[str, str]] = {"vit_output": "output_"}

    def __init__(self, config: PretrainedConfig, layer: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_prefix_tokens = config.architecture.num_prefix_tokens
        self.attention = ViTAttention(config, layer, name="attention", dtype=self.dtype_policy)
        self.intermediate = ViTIntermediate(config, name="intermediate", dtype=self.dtype_policy)
        self.output_ = ViTOutput(config, name="output", dtype=self.dtype_policy)
        self.layernorm_before = norm_of(config, "layernorm_before", self.dtype_policy)
        has_second = config.architecture.halves != "parallel"
        self.layernorm_after: Any = norm_of(config, "layernorm_after", self.dtype_policy) if has_second else None

    def build(self, input_shape: Shape) -> None:
        self.attention.build(input_shape)
        self.intermediate.build(input_shape)
        self.output_.build((None, self.intermediate.dense.units))
        self.layernorm_before.build(input_shape)
        if self.layernorm_after is not None:
            self.layernorm_after.build(input_shape)

    def call(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, " heads"] | None = None,
        output_attentions: bool = False,
        prefix_only: bool = False,
        relative_position_bias: Float[Tensor, "#batch #heads #tokens tokens"] | None = None,
        grid: Grid | None = None,
        rotary: Float[Tensor, "2 tokens head_dim"] | None = None,
        merge: Merge | None = None,
        training: bool = False,
    ) -> tuple[Float[Tensor, "batch queries hidden"], *tuple[Any, ...]]:
        """Run the layer; the arguments are those of `ViTSelfAttention.call`."""
        read = self._read(hidden_states)
        attended, probabilities, *keys = run_part(
            self.attention,
            read,
            head_mask,
            output_attentions,
            own=ViTAttention,
            prefix_only=prefix_only,
            relative_position_bias=relative_position_bias,
            grid=grid,
            rotary=rotary,
            output_keys=merge is not None,
        )
        if merge is not None:
            attentions = (probabilities,) if output_attentions else ()
            hidden_states, *others = merge(self._first_half(hidden_states, attended), *attentions, *keys)
            return self._second_half(hidden_states), *others
        kept = hidden_states[:, : self.num_prefix_tokens] if prefix_only else hidden_states
        hidden_states = self._halves(kept, attended, read, training)
        return (hidden_states, probabilities) if output_attentions else (hidden_states,)

    def _read(self, hidden_states: Tensor) -> Tensor:
        """What attention reads."""
        return self.layernorm_before(hidden_states)

    def _halves(self, hidden_states: Tensor, attended: Tensor, read: Tensor, training: bool) -> Tensor:
        """The hidden states with what attention adds to them, and then with what the MLP adds."""
        hidden_states = self._first_half(hidden_states, attended)
        if training:  # in which images are dropped from the MLP whole
            return self._second_half(hidden_states)
        return in_blocks_of_tokens(self._second_half, hidden_states)

    def _first_half(self, hidden_states: Tensor, attended: Tensor) -> Tensor:
        return attended + hidden_states

    def _second_half(self, hidden_states: Tensor) -> Tensor:
        mlp = self.intermediate(self.layernorm_after(hidden_states))
        return self.output_(mlp, hidden_states)


class DropPath(layers.Dropout):
    """Leaves out what a branch adds to whole images of a batch, at random and in training only, and makes the rest as
    much larger (stochastic depth, Huang et al. 2016, https://arxiv.org/abs/1603.09382).
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(rate, **{"noise_shape": (None, 1, 1), **kwargs})


class ScaledLayer(ViTLayer):
    """A transformer layer whose halves are scaled channel by channel (Touvron et al. 2021,
    https://arxiv.org/abs/2103.17239) and skipped at random in training.
    """

    def __init__(self, config: PretrainedConfig, layer: int | None = None, **kwargs: Any) -> None:
        super().__init__(config, layer, **kwargs)
        self.start, self.factors = config.architecture.layer_scale, config.architecture.factors
        rates = config.architecture.drop_path_rates(config.num_hidden_layers)
        self.drop_path = DropPath(0.0 if layer is None else rates[layer], dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.lambda_1, self.lambda_2 = (
            self._gain(name, input_shape[-1]) if name in self.factors else None for name in ("lambda_1", "lambda_2")
        )

    def _gain(self, name: str, width: int | None) -> keras.Variable:
        start = keras.initializers.Constant(self.start)
        return self.add_weight(name=name, shape=(width,), initializer=start)

    def _first_half(self, hidden_states: Tensor, attended: Tensor) -> Tensor:
        return hidden_states + self._branch(self.lambda_1, attended)

    def _second_half(self, hidden_states: Tensor) -> Tensor:
        mlp = self.output_(self.intermediate(self.layernorm_after(hidden_states)))
        return hidden_states + self._branch(self.lambda_2, mlp)

    def _branch(self, gain: keras.Variable | None, added: Tensor) -> Tensor:
        return self.drop_path(added if gain is None else gain * added)


class PostNormLayer(ScaledLayer):
    """A transformer layer that norms what its halves make, rather than what they read (Liu et al. 2021,
    https://arxiv.org/abs/2111.09883, section 3.2).
    """

    def _read(self, hidden_states: Tensor) -> Tensor:
        return hidden_states

    def _first_half(self, hidden_states: Tensor, attended: Tensor) -> Tensor:
        return hidden_states + self._branch(self.lambda_1, self.layernorm_before(attended))

    def _second_half(self, hidden_states: Tensor) -> Tensor:
        mlp = self.layernorm_after(self.output_(self.intermediate(hidden_states)))
        return hidden_states + self._branch(self.lambda_2, mlp)


class ParallelLayer(ScaledLayer):
    """A transformer layer whose halves read the same, and add what they make together (Dehghani et al. 2023,
    https://arxiv.org/abs/2302.05442, section 2).
    """

    def _halves(self, hidden_states: Tensor, attended: Tensor, read: Tensor, training: bool) -> Tensor:
        mlp = self.output_(self.intermediate(read[:, : size(hidden_states, 1)]))
        return hidden_states + self._branch(self.lambda_1, attended + mlp)


#: The layers of which ViTLayer is the plainest.
LAYERS: dict[Halves, type[ScaledLayer]] = {
    "pre-norm": ScaledLayer,
    "post-norm": PostNormLayer,
    "parallel": ParallelLayer,
}


def layer_class(config: PretrainedConfig) -> type[ViTLayer]:
    """The class of the transformer layers that a config describes."""
    architecture = config.architecture
    is_scaled = architecture.layer_scale is not None or architecture.drop_path_rate > 0
    return LAYERS[architecture.halves] if is_scaled or architecture.halves != "pre-norm" else ViTLayer


class LayerStack(Part):
    """What runs transformer layers one after the other."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gradient_checkpointing = False

    def run_layers(
        self,
        stack: Sequence[Any],
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, "layers heads"] | Sequence[Tensor | None] | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        prefix_only: bool = False,
        training: bool = False,
        **options: Any,
    ) -> TFBaseModelOutput:
        """Run layers, ours or what scripts have put in their place.

        Args:
            stack: the layers.
            hidden_states: (batch, tokens, hidden).
            head_mask: for each layer.
            output_attentions: whether to return attention maps.
            output_hidden_states: whether to return hidden states before each layer and after the last.
            prefix_only: whether the last layer computes the tokens before the patches alone.
            training: whether gradient checkpointing acts, where it is on.
            **options: see `ViTSelfAttention.call`.
        """
        all_hidden_states, all_attentions = [], []
        is_narrow = prefix_only and bool(stack) and _computes_prefix_alone(stack[-1])
        for index, layer in enumerate(stack):
            if output_hidden_states:
                all_hidden_states.append(hidden_states)
            hidden_states, attentions = run_part(
                layer,
                hidden_states,
                None if head_mask is None else head_mask[index],
                output_attentions,
                own=ViTLayer,
                wrapper=recomputed if self.gradient_checkpointing and training else None,
                prefix_only=is_narrow and index == len(stack) - 1,
                **options,
            )
            if output_attentions:
                all_attentions.append(attentions)
        if output_hidden_states:
            all_hidden_states.append(hidden_states)
        return TFBaseModelOutput(
            last_hidden_state=hidden_states,
            hidden_states=tuple(all_hidden_states) or None,
            attentions=tuple(all_attentions) or None,
        )


def _computes_prefix_alone(layer: Any) -> bool:
    """Whether neither the layer nor its attention was replaced by one that computes all tokens."""
    return (
        isinstance(layer, ViTLayer)
        and isinstance(layer.attention, ViTAttention)
        and isinstance(layer.attention.attention, ViTSelfAttention)
    )
