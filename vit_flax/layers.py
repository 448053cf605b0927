"""The layers of Vision Transformers in Flax, each once, with its options; see `vit_core.architecture`.

Modules are nested and named as transformers' Flax checkpoints name their parameters, which `vit_core.layouts` derives
from the canonical names. An option that is off has no module and costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Shaped

from vit_core import PretrainedConfig
from vit_core.architecture import Halves
from vit_core.relative_position import relative_position_index, table_length
from vit_flax.activations import activation
from vit_flax.attention import attention, attention_with_probabilities
from vit_flax.attention_blocks import attention_in_blocks, is_large
from vit_flax.outputs import FlaxBaseModelOutput
from vit_flax.parts import Part, given
from vit_flax.position import resample_table
from vit_flax.rematerialization import Remat, rematerialized
from vit_flax.rotary import MixedRotary, Rotating, rotated
from vit_flax.token_merging import run_merging

#: Makes fewer tokens of a layer's between its halves, given what attention returned; see `vit_flax.token_merging`.
Merge = Callable[..., tuple[Any, ...]]


class RelativePositionBias(Part):
    """What is added to attention scores for where two tokens stand, relative to each other.

    See `vit_core.relative_position`.

    Attributes:
        layer: the number of the layer that owns it, of whose heads it has those that are not pruned; all without one.
    """

    _: KW_ONLY
    layer: int | None = None

    def setup(self) -> None:
        self.num_prefix_tokens = self.config.architecture.num_prefix_tokens
        shape = (table_length(self.config.grid, self.num_prefix_tokens), len(self.config.kept_heads(self.layer)))
        self.relative_position_bias_table = self.parameter(
            "relative_position_bias_table", shape, ("distances", "head"), nn.initializers.zeros
        )

    def __call__(self, grid: tuple[int, int] | None = None) -> Float[Array, "1 heads tokens tokens"]:
        """What to add to the scores.

        Args:
            grid: rows and columns of patches, for which the table is resampled; the model's own unless given.
        """
        table = self.relative_position_bias_table
        if grid is not None:
            table = resample_table(table, self.config.grid, grid)
        index = relative_position_index(grid or self.config.grid, self.num_prefix_tokens)
        return table[index].transpose(2, 0, 1)[None]


class FlaxViTSelfAttention(Part):
    """Multi-head self-attention (equations 5 to 7 of ViT's paper), up to the output projection.

    Attributes:
        layer: the number of its layer, which tells the heads that are not pruned; all are kept unless given.
    """

    _: KW_ONLY
    layer: int | None = None

    def setup(self) -> None:
        config, architecture = self.config, self.config.architecture
        self.heads = config.kept_heads(self.layer)
        width = len(self.heads) * config.head_dim
        self.query = self.linear(width, ("hidden", "heads"), config.qkv_bias and architecture.query_bias)
        self.key = self.linear(width, ("hidden", "heads"), config.qkv_bias and architecture.key_bias)
        self.value = self.linear(width, ("hidden", "heads"), config.qkv_bias and architecture.value_bias)
        if architecture.query_key_norm:
            self.query_norm, self.key_norm = self.layer_norm("head_dim"), self.layer_norm("head_dim")
        if architecture.rotary_positions == "mixed":
            self.rope = MixedRotary(**self.shared, layer=self.layer)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
        output_attentions: bool = False,
        *,
        head_mask: Shaped[Array, " heads"] | None = None,
        prefix_only: bool = False,
        relative_position_bias: Float[Array, "#batch #all_heads #tokens tokens"] | None = None,
        rotary: Rotating | None = None,
        output_keys: bool = False,
    ) -> tuple[Float[Array, "batch queries width"], *tuple[Float[Array, "batch ..."], ...]]:
        """Return what each token gathered, and on request the attention; with `prefix_only` those before the patches.

        Args:
            hidden_states: the tokens.
            deterministic: whether dropout is off.
            output_attentions: whether to return the attention.
            head_mask: factors for the heads, counted as before pruning.
            prefix_only: whether the tokens before the patches alone ask.
            relative_position_bias: what to add to the scores; of all heads, or of those that are not pruned.
            rotary: by which queries and keys of the patches are turned; see `vit_flax.rotary`.
            output_keys: whether to return the keys, (batch, tokens, heads, head_dim), last.
        """
        config, queried, bias = self.config, hidden_states, relative_position_bias
        architecture = config.architecture
        if bias is not None and bias.shape[1] not in (1, len(self.heads)):
            bias = bias[:, np.array(self.heads)]
        if prefix_only:
            before = architecture.num_prefix_tokens
            queried = self.constrain(hidden_states[:, :before], "batch", "tokens", "hidden")
            bias = None if bias is None else bias[:, :, :before]
        query, key, value = (
            self._split(projected)
            for projected in (self.query(queried), self.key(hidden_states), self.value(hidden_states))
        )
        if architecture.query_key_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        if rotary is not None and architecture.rotary_positions is not None:
            handed: Any = rotary
            tables = self.rope(handed) if architecture.rotary_positions == "mixed" else handed
            query = query if prefix_only else rotated(architecture.rotary_positions, query, tables)
            key = rotated(architecture.rotary_positions, key, tables)
        drops = config.attention_probs_dropout_prob > 0 and not deterministic
        mask = None if head_mask is None else head_mask[jnp.array(self.heads)]
        keys = (key,) if output_keys else ()
        if config.attn_implementation == "sdpa" and not output_attentions:
            if is_large(query, key):
                rng = self.make_rng("dropout") if drops else None
                rate = config.attention_probs_dropout_prob
                return (self._joined(attention_in_blocks(query, key, value, bias, mask, rng, rate)), *keys)
            if not drops and mask is None:
                return (self._joined(attention(query, key, value, bias)), *keys)

        def change(probabilities: Array) -> Array:
            probabilities = self.dropout(probabilities, deterministic)
            return probabilities if mask is None else probabilities * mask.astype(probabilities.dtype)[:, None, None]

        context, probabilities = attention_with_probabilities(query, key, value, change, bias)
        attentions = (probabilities.astype(self.dtype),) if output_attentions else ()
        return (self._joined(context), *attentions, *keys)

    def _split(self, projected: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens heads head_dim"]:
        *batch, width = projected.shape
        split = projected.reshape(*batch, width // self.config.head_dim, self.config.head_dim)
        return self.constrain(split, "batch", "tokens", "heads", None)

    def _joined(self, context: Float[Array, "batch tokens heads head_dim"]) -> Float[Array, "batch tokens width"]:
        return context.reshape(*context.shape[:2], context.shape[2] * context.shape[3])


class RelativeSelfAttention(FlaxViTSelfAttention):
    """Self-attention with a table of relative positions of its own."""

    def setup(self) -> None:
        super().setup()
        self.relative_position_bias = RelativePositionBias(**self.shared, layer=self.layer)

    def __call__(  # type: ignore[override]
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
        output_attentions: bool = False,
        *,
        head_mask: Shaped[Array, " heads"] | None = None,
        prefix_only: bool = False,
        grid: tuple[int, int] | None = None,
        rotary: Rotating | None = None,
    ) -> tuple[Float[Array, "batch queries width"], *tuple[Float[Array, "batch heads queries tokens"], ...]]:
        """See `FlaxViTSelfAttention`; `grid` is that of the patches, where it is not the config's."""
        return super().__call__(
            hidden_states,
            deterministic,
            output_attentions,
            head_mask=head_mask,
            prefix_only=prefix_only,
            relative_position_bias=self.relative_position_bias(grid),
            rotary=rotary,
        )


class FlaxViTSelfOutput(Part):
    """The output projection of attention; the residual is added in FlaxViTLayer."""

    def setup(self) -> None:
        architecture = self.config.architecture
        if architecture.attention_norm:
            self.layernorm = self.layer_norm("heads")
        self.dense = self.linear(self.config.hidden_size, ("heads", "hidden"), architecture.output_bias)
        self.dropout = nn.Dropout(self.config.hidden_dropout_prob)

    def __call__(
        self,
        hidden_states: Float[Array, "batch queries width"],
        input_tensor: Float[Array, "batch tokens hidden"] | None = None,  # for parts that scripts put here
        deterministic: bool = True,
    ) -> Float[Array, "batch queries hidden"]:
        if self.config.architecture.attention_norm:
            hidden_states = self.layernorm(hidden_states)
        return self.dropout(self.dense(hidden_states), deterministic)


class FlaxViTAttention(Part):
    """Self-attention with its output projection.

    Attributes:
        layer: see `FlaxViTSelfAttention`.
    """

    _: KW_ONLY
    layer: int | None = None

    def setup(self) -> None:
        has_table = self.config.architecture.relative_positions == "layers"
        attention_class = RelativeSelfAttention if has_table else FlaxViTSelfAttention
        self.attention = attention_class(**self.shared, layer=self.layer)
        self.output = FlaxViTSelfOutput(**self.shared)

    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
        output_attentions: bool = False,
        *,
        head_mask: Shaped[Array, " heads"] | None = None,
        prefix_only: bool = False,
        **relative: Any,
    ) -> tuple[Float[Array, "batch queries hidden"], *tuple[Float[Array, "batch heads queries tokens"], ...]]:
        """Return the hidden states, and on request the attention."""
        options = given(head_mask=head_mask, prefix_only=prefix_only, **relative)
        context, *attentions = self.attention(hidden_states, deterministic, output_attentions, **options)
        return (self.output(context, hidden_states, deterministic=deterministic), *attentions)


class FlaxViTIntermediate(Part):
    """The first half of the MLP; if it is gated, what passes the activation weighs a second projection."""

    def setup(self) -> None:
        width, bias = self.config.intermediate_size, self.config.architecture.mlp_bias
        if self.config.architecture.gated_mlp:
            self.gate = self.linear(width, ("hidden", "mlp"), bias)
        self.dense = self.linear(width, ("hidden", "mlp"), bias)
        self.activation = activation(self.config.mlp_act)

    def __call__(self, hidden_states: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch tokens mlp"]:
        projected = self.constrain(self.dense(hidden_states), "batch", "tokens", "mlp")
        if not self.config.architecture.gated_mlp:
            return self.activation(projected)
        return self.activation(self.constrain(self.gate(hidden_states), "batch", "tokens", "mlp")) * projected


class FlaxViTOutput(Part):
    """The second half of the MLP, with the residual."""

    def setup(self) -> None:
        architecture = self.config.architecture
        if architecture.mlp_norm:
            self.layernorm = self.layer_norm("mlp")
        self.dense = self.linear(self.config.hidden_size, ("mlp", "hidden"), architecture.mlp_bias)
        self.dropout = nn.Dropout(self.config.hidden_dropout_prob if architecture.mlp_dropout else 0.0)

    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens mlp"],
        attention_output: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
    ) -> Float[Array, "batch tokens hidden"]:
        return self.added(hidden_states, deterministic) + attention_output

    def added(
        self, hidden_states: Float[Array, "batch tokens mlp"], deterministic: bool
    ) -> Float[Array, "batch tokens hidden"]:
        """What the MLP adds to the tokens."""
        if self.config.architecture.mlp_norm:
            hidden_states = self.layernorm(hidden_states)
        return self.dropout(self.dense(hidden_states), deterministic)


class ScaledOutput(FlaxViTOutput):
    """The second half of the MLP; the residual is added in ScaledLayer."""

    def __call__(  # type: ignore[override]
        self, hidden_states: Float[Array, "batch tokens mlp"], deterministic: bool = True
    ) -> Float[Array, "batch tokens hidden"]:
        return self.added(hidden_states, deterministic)


class FlaxViTLayer(Part):
    """One transformer layer, with LayerNorm before each half (equations 2 and 3 of ViT's paper).

    What it gets as `relative` it hands to attention: where tokens stand relative to each other; see `FlaxViTEncoder`.

    Attributes:
        layer: its number; see `FlaxViTSelfAttention`.
    """

    output_class: ClassVar[type[FlaxViTOutput]] = FlaxViTOutput

    _: KW_ONLY
    layer: int | None = None

    def setup(self) -> None:
        self.attention = FlaxViTAttention(**self.shared, layer=self.layer)
        self.intermediate = FlaxViTIntermediate(**self.shared)
        self.output = self.output_class(**self.shared)
        self.layernorm_before = self.layer_norm()
        if self.config.architecture.halves != "parallel":
            self.layernorm_after = self.layer_norm()

    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
        output_attentions: bool = False,
        *,
        head_mask: Shaped[Array, " heads"] | None = None,
        prefix_only: bool = False,
        merge: Merge | None = None,
        **relative: Any,
    ) -> tuple[Float[Array, "batch queries hidden"], *tuple[Any, ...]]:
        """Return the hidden states, and on request the attention; with `prefix_only` for tokens before the patches."""
        options = given(head_mask=head_mask, prefix_only=prefix_only, **relative)
        attended, *attentions = self.attention(
            self.layernorm_before(hidden_states), deterministic, output_attentions, **options
        )
        if prefix_only:
            hidden_states = hidden_states[:, : self.config.architecture.num_prefix_tokens]
        hidden_states = self.constrain(attended + hidden_states, "batch", "tokens", "hidden")
        if merge is not None:
            hidden_states, *attentions = merge(hidden_states, *attentions)
        mlp = self.intermediate(self.layernorm_after(hidden_states))
        hidden_states = self.output(mlp, hidden_states, deterministic=deterministic)
        return (self.constrain(hidden_states, "batch", "tokens", "hidden"), *attentions)


class DropPath(nn.Module):
    """Leaves out, in training, what a layer adds to an image's tokens (https://arxiv.org/abs/1603.09382).

    Its random numbers are those of dropout.
    """

    @nn.compact
    def __call__(
        self, hidden_states: Float[Array, "batch tokens hidden"], rate: float | Float[Array, ""]
    ) -> Float[Array, "batch tokens hidden"]:
        """Leave the tokens of some images out.

        Args:
            hidden_states: what a layer adds.
            rate: how often an image's are left out, in [0, 1). What stays is scaled by 1 / (1 - rate).
        """
        one_an_image = (hidden_states.shape[0],) + (1,) * (hidden_states.ndim - 1)
        is_kept = jax.random.uniform(self.make_rng("dropout"), one_an_image) >= rate
        return (hidden_states * (is_kept / (1 - rate))).astype(hidden_states.dtype)


#: Adds what a half makes, by its trained factors, to the hidden states.
Added = Callable[[Array | None, Array, Array], Array]


class ScaledLayer(FlaxViTLayer):
    """A transformer layer that scales what its halves add, channel by channel, and leaves them out now and then."""

    output_class = ScaledOutput

    def setup(self) -> None:
        super().setup()
        architecture = self.config.architecture
        self.lambda_1, self.lambda_2 = self._factors("lambda_1"), self._factors("lambda_2")
        rates = architecture.drop_path_rates(self.config.num_hidden_layers)
        self.rate = 0.0 if self.layer is None else rates[self.layer]
        self.drop_path = DropPath()

    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
        output_attentions: bool = False,
        *,
        head_mask: Shaped[Array, " heads"] | None = None,
        prefix_only: bool = False,
        drop_path_rate: Float[Array, ""] | None = None,
        merge: Merge | None = None,
        **relative: Any,
    ) -> tuple[Float[Array, "batch queries hidden"], *tuple[Any, ...]]:
        """See `FlaxViTLayer`; `drop_path_rate` is how often a layer without a number is skipped for an image."""
        options = given(head_mask=head_mask, prefix_only=prefix_only, **relative)
        read = self._read(hidden_states)
        attended, *attentions = self.attention(read, deterministic, output_attentions, **options)
        if prefix_only:
            hidden_states = hidden_states[:, : self.config.architecture.num_prefix_tokens]
        added = partial(self._added, deterministic, drop_path_rate)
        if merge is None:
            return (self._halves(hidden_states, attended, read, deterministic, added), *attentions)
        hidden_states, *attentions = merge(self._first_half(hidden_states, attended, added), *attentions)
        return (self._second_half(hidden_states, deterministic, added), *attentions)

    @nn.nowrap
    def _read(self, hidden_states: Array) -> Array:
        """What attention reads."""
        return self.layernorm_before(hidden_states)

    @nn.nowrap
    def _halves(self, hidden_states: Array, attended: Array, read: Array, deterministic: bool, added: Added) -> Array:
        """The hidden states with what attention adds to them, and then with what the MLP adds."""
        return self._second_half(self._first_half(hidden_states, attended, added), deterministic, added)

    @nn.nowrap
    def _first_half(self, hidden_states: Array, attended: Array, added: Added) -> Array:
        return added(self.lambda_1, attended, hidden_states)

    @nn.nowrap
    def _second_half(self, hidden_states: Array, deterministic: bool, added: Added) -> Array:
        mlp = self.intermediate(self.layernorm_after(hidden_states))
        mlp = self.output(mlp, deterministic=deterministic)  # type: ignore[call-arg]
        return added(self.lambda_2, mlp, hidden_states)

    @nn.nowrap
    def _added(
        self, deterministic: bool, drop_path_rate: Array | None, factors: Array | None, branch: Array, to: Array
    ) -> Array:
        rate = self.rate if drop_path_rate is None else drop_path_rate
        drops = not deterministic and (drop_path_rate is not None or self.rate > 0)
        branch = branch if factors is None else factors.astype(self.dtype) * branch
        return self.constrain(self.drop_path(branch, rate) + to if drops else branch + to, *TOKEN_AXES)

    @nn.nowrap
    def _factors(self, name: str) -> Array | None:
        architecture = self.config.architecture
        if name not in architecture.factors:
            return None
        start = nn.initializers.constant(architecture.layer_scale or 0.0)
        return self.parameter(name, (self.config.hidden_size,), ("hidden",), start)


class PostNormLayer(ScaledLayer):
    """A transformer layer that norms what its halves make, rather than what they read.

    Liu et al. 2021, https://arxiv.org/abs/2111.09883, section 3.2.
    """

    @nn.nowrap
    def _read(self, hidden_states: Array) -> Array:
        return hidden_states

    @nn.nowrap
    def _first_half(self, hidden_states: Array, attended: Array, added: Added) -> Array:
        return added(self.lambda_1, self.layernorm_before(attended), hidden_states)

    @nn.nowrap
    def _second_half(self, hidden_states: Array, deterministic: bool, added: Added) -> Array:
        mlp = self.output(self.intermediate(hidden_states), deterministic=deterministic)  # type: ignore[call-arg]
        return added(self.lambda_2, self.layernorm_after(mlp), hidden_states)


class ParallelLayer(ScaledLayer):
    """A transformer layer whose halves read the same, and add what they make together.

    Dehghani et al. 2023, https://arxiv.org/abs/2302.05442, section 2.
    """

    @nn.nowrap
    def _halves(self, hidden_states: Array, attended: Array, read: Array, deterministic: bool, added: Added) -> Array:
        read = read[:, : hidden_states.shape[1]]
        mlp = self.output(self.intermediate(read), deterministic=deterministic)  # type: ignore[call-arg]
        return added(self.lambda_1, attended + mlp, hidden_states)


#: The layers of which FlaxViTLayer is the plainest.
LAYERS: dict[Halves, type[ScaledLayer]] = {
    "pre-norm": ScaledLayer,
    "post-norm": PostNormLayer,
    "parallel": ParallelLayer,
}
TOKEN_AXES = ("batch", "tokens", "hidden")


def layer_class(config: PretrainedConfig) -> type[FlaxViTLayer]:
    """The class of the transformer layers that a config describes."""
    architecture = config.architecture
    is_scaled = architecture.layer_scale is not None or architecture.drop_path_rate > 0
    return LAYERS[architecture.halves] if is_scaled or architecture.halves != "pre-norm" else FlaxViTLayer


class FlaxViTLayerCollection(Part):
    """The transformer layers, one after the other, each by its number."""

    _: KW_ONLY
    remat: Remat = False
    merged_tokens: tuple[int, ...] = ()

    def setup(self) -> None:
        one = layer_class(self.config)
        self.layers = [
            one(**self.shared, layer=index, name=str(index)) for index in range(self.config.num_hidden_layers)
        ]

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
        relative_position_bias: Float[Array, "1 heads tokens tokens"] | None = None,
        rotary: Rotating | None = None,
        **relative: Any,
    ) -> FlaxBaseModelOutput | tuple[Any, ...]:
        """Run the layers; see `LayerStack.run`."""
        if self.merged_tokens:
            output = run_merging(
                self, hidden_states, deterministic, output_attentions, output_hidden_states, head_mask, prefix_only
            )
            return output if return_dict else output.to_tuple()
        relative, arrays = given(**relative), given(relative_position_bias=relative_position_bias, rotary=rotary)
        all_hidden_states, all_attentions = [hidden_states], []
        for index, layer in enumerate(self.layers):
            is_narrow = prefix_only and index == self.config.num_hidden_layers - 1

            def run(
                layer: Any, x: Array, mask: Array | None, arrays: dict[str, Any], is_narrow: bool = is_narrow
            ) -> tuple[Array, ...]:
                options = given(head_mask=mask, prefix_only=is_narrow, **arrays, **relative)
                return layer(x, deterministic, output_attentions, **options)

            run = rematerialized(run, self.remat, is_scanned=False)
            mask = None if head_mask is None else head_mask[index]
            hidden_states, *attentions = run(layer, hidden_states, mask, arrays)
            all_hidden_states.append(hidden_states)
            all_attentions.extend(attentions)
        output = FlaxBaseModelOutput(
            last_hidden_state=hidden_states,
            hidden_states=tuple(all_hidden_states) if output_hidden_states else None,
            attentions=tuple(all_attentions) or None,
        )
        return output if return_dict else output.to_tuple()


class LayerStack(Part):
    """What modules with transformer layers have in common: how these are made, and how they are run.

    Attributes:
        scan_layers: whether they are one compiled layer, with the parameters of all in stacks.
        remat: what the layers keep for the backward pass; see `vit_flax.rematerialization.rematerialized`.
        merged_tokens: how many tokens each layer merges, if any does; see `vit_flax.token_merging`.
    """

    _: KW_ONLY
    scan_layers: bool = False
    remat: Remat = False
    merged_tokens: tuple[int, ...] = ()

    @nn.nowrap
    def stack(self, config: PretrainedConfig) -> Any:
        """The layers that a config describes: one after the other, or a single one that stands for all."""
        shared = {**self.shared, "config": config}
        if self.is_scanned(config):
            return layer_class(config)(**shared)
        return FlaxViTLayerCollection(**shared, remat=self.remat, merged_tokens=self.merged_tokens)

    @nn.nowrap
    def is_scanned(self, config: PretrainedConfig) -> bool:
        """Whether the layers that a config describes are one compiled layer."""
        return self.scan_layers and config.num_hidden_layers > 0

    @nn.nowrap
    def run(
        self,
        stack: Any,
        hidden_states: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        *,
        head_mask: Shaped[Array, "layers heads"] | None = None,
        prefix_only: bool = False,
        relative_position_bias: Float[Array, "1 heads tokens tokens"] | None = None,
        rotary: Rotating | None = None,
        **relative: Any,
    ) -> Any:
        """Run layers; on request with the hidden states before each and after the last, and the attention.

        Args:
            stack: what the method `stack` made.
            hidden_states: the tokens.
            deterministic: whether dropout and drop path are off.
            output_attentions: whether to return the attention.
            output_hidden_states: whether to return hidden states.
            head_mask: factors for the heads of each layer.
            prefix_only: whether the last layer computes the tokens before the patches alone, unless layers are scanned.
            relative_position_bias: what every layer adds to its scores.
            rotary: by which every layer turns queries and keys of the patches; see `vit_flax.rotary`.
            **relative: what else attention is handed to place tokens relative to each other.
        """
        arrays = given(relative_position_bias=relative_position_bias, rotary=rotary)
        if isinstance(stack, FlaxViTLayerCollection):
            relative |= given(head_mask=head_mask, prefix_only=prefix_only, **arrays)
            return stack(hidden_states, deterministic, output_attentions, output_hidden_states, True, **relative)

        def run(
            layer: FlaxViTLayer, x: Array, mask: Array | None, rate: Array | None, arrays: dict[str, Any]
        ) -> tuple[Array, tuple[Array | None, list[Array]]]:
            options = given(head_mask=mask, drop_path_rate=rate, **arrays, **relative)
            x, *attentions = layer(x, deterministic, output_attentions, **options)
            return x, (x if output_hidden_states else None, attentions)

        config, embeddings = stack.config, hidden_states
        architecture, rates = config.architecture, None
        if architecture.drop_path_rate and not deterministic:
            rates = jnp.array(architecture.drop_path_rates(config.num_hidden_layers))
        scan = nn.scan(
            rematerialized(run, self.remat, is_scanned=True),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, 0, nn.broadcast),
            length=config.num_hidden_layers,
            metadata_params={nn.PARTITION_NAME: None},  # on a mesh, stacks are not split between layers
        )
        hidden_states, (all_hidden_states, all_attentions) = scan(stack, hidden_states, head_mask, rates, arrays)
        return FlaxBaseModelOutput(
            last_hidden_state=hidden_states,
            hidden_states=(embeddings, *all_hidden_states) if output_hidden_states else None,
            attentions=tuple(all_attentions[0]) if output_attentions else None,
        )
