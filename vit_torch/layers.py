"""The layers of Vision Transformers in PyTorch, each once, with its options; see `vit_core.architecture`.

Modules are nested and named so that `state_dict()` has the canonical names of `vit_core.parameters`, which are those of
transformers. An option that is off has no module and costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vit_core import PretrainedConfig
from vit_core.architecture import Halves
from vit_core.parameters import INITIALIZERS
from vit_core.relative_position import table_length
from vit_torch.activations import activated, activation
from vit_torch.initialization import start
from vit_torch.norms import norm_of
from vit_torch.outputs import BaseModelOutput
from vit_torch.packing import PackedLinear, PackedWeights
from vit_torch.position import relative_position_index, resample_table
from vit_torch.pruning import prune_attention
from vit_torch.rotary import MixedRotary, Rotating, rotated
from vit_torch.watching import is_watched

#: Makes fewer tokens of a layer's between its halves, given what attention returned; see `vit_torch.token_merging`.
Merge = Callable[..., tuple[Any, ...]]


class RelativePositionBias(nn.Module):
    """What is added to attention scores for where two tokens stand, relative to each other.

    See `vit_core.relative_position`.

    Args:
        config: the model's.
        layer: the number of the layer that owns it, of whose heads it has those that are not pruned; all without one.
    """

    def __init__(self, config: PretrainedConfig, layer: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.grid = config.grid
        self.num_prefix_tokens = config.architecture.num_prefix_tokens
        rows = table_length(self.grid, self.num_prefix_tokens)
        self.relative_position_bias_table = nn.Parameter(torch.empty(rows, len(config.kept_heads(layer))))
        self.start_parameters()

    def start_parameters(self) -> None:
        """Have no place differ from any other."""
        start(self.relative_position_bias_table, INITIALIZERS["table"], self.config)

    def forward(self, grid: tuple[int, int] | None = None) -> Float[Tensor, "1 heads tokens tokens"]:
        """What to add to the scores.

        Args:
            grid: rows and columns of patches, for which the table is resampled; the model's own unless given.
        """
        table: Tensor = self.relative_position_bias_table
        if grid is not None:
            table = resample_table(table, self.grid, grid)
        index = relative_position_index(grid or self.grid, self.num_prefix_tokens, table.device)
        return table[index].permute(2, 0, 1)[None]


class ViTSelfAttention(nn.Module):
    """Multi-head self-attention (equations 5 to 7 of ViT's paper), up to the output projection."""

    def __init__(self, config: PretrainedConfig, layer: int | None = None) -> None:
        super().__init__()
        self.config = config  # attn_implementation is read at each call, so that it can be changed
        self.heads = config.kept_heads(layer)
        self.attention_head_size = config.head_dim
        architecture, hidden, width = config.architecture, config.hidden_size, self.all_head_size
        self.query = nn.Linear(hidden, width, bias=config.qkv_bias and architecture.query_bias)
        self.key = nn.Linear(hidden, width, bias=config.qkv_bias and architecture.key_bias)
        self.value = nn.Linear(hidden, width, bias=config.qkv_bias and architecture.value_bias)
        self.query_norm = norm_of(config, self.attention_head_size) if architecture.query_key_norm else None
        self.key_norm = norm_of(config, self.attention_head_size) if architecture.query_key_norm else None
        self.rotary_positions = architecture.rotary_positions
        self.rope = MixedRotary(config, layer) if self.rotary_positions == "mixed" else None
        self.changes_queries = architecture.query_key_norm or self.rotary_positions is not None
        self.num_prefix_tokens = architecture.num_prefix_tokens
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.packed_weights: PackedWeights | None = None  # see `vit_torch.inference`

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
        relative_position_bias: Float[Tensor, "#batch #all_heads #tokens tokens"] | None = None,
        rotary: Rotating | None = None,
        prefix_only: bool = False,
        output_keys: bool = False,
    ) -> tuple[Float[Tensor, "batch queries width"] | Float[Tensor, "batch heads queries tokens"] | None, ...]:
        queried, bias = hidden_states, relative_position_bias
        if prefix_only:
            queried = hidden_states[:, : self.num_prefix_tokens]
            bias = None if bias is None else bias[:, :, : self.num_prefix_tokens]
        projected = self._projected(queried, hidden_states)
        query, key, value = (self.transpose_for_scores(each) for each in projected)
        if self.changes_queries:
            query, key = self._changed(query, key, rotary, prefix_only)
        dropout = self.dropout
        bias = None if bias is None else self._kept(bias).to(query)
        is_usual = self.config.attn_implementation == "sdpa" and isinstance(dropout, nn.Dropout)
        if is_usual and head_mask is None and not output_attentions:
            dropout_prob = dropout.p if dropout.training else 0.0
            context = functional.scaled_dot_product_attention(query, key, value, bias, dropout_p=dropout_prob)
            context = context.transpose(1, 2).flatten(2)
            return (context, None, key) if output_keys else (context, None)
        scores = query @ key.transpose(-1, -2) * self.attention_head_size**-0.5
        if bias is not None:
            scores = scores + bias
        probabilities = dropout(scores.softmax(dim=-1))
        if head_mask is not None:
            probabilities = probabilities * self._kept(head_mask).to(probabilities)
        context = (probabilities @ value).transpose(1, 2).flatten(2)
        attentions = (probabilities,) if output_attentions else ()
        return (context, *attentions, key) if output_keys else (context, *attentions)

    def _projected(self, queried: Tensor, hidden_states: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values, (batch, tokens, width)."""
        if self.packed_weights is not None and queried is hidden_states:
            linears = (self.query, self.key, self.value)
            if all(type(linear) in (nn.Linear, PackedLinear) for linear in linears) and not is_watched(linears):
                product = self.packed_weights.product(linears, hidden_states)
                if product is not None:
                    return product.chunk(3, dim=-1)
        return self.query(queried), self.key(hidden_states), self.value(hidden_states)

    def _changed(self, query: Tensor, key: Tensor, rotary: Rotating | None, prefix_only: bool) -> tuple[Tensor, Tensor]:
        """Queries and keys, (batch, heads, tokens, head width), normed and turned; the prefix is not turned."""
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        if rotary is not None and self.rotary_positions is not None:
            tables: Any = rotary if self.rope is None else self.rope(rotary)
            query = query if prefix_only else rotated(self.rotary_positions, query, tables)
            key = rotated(self.rotary_positions, key, tables)
        return query, key

    def _kept(self, of_heads: Tensor) -> Tensor:
        """The entries for the heads that are not pruned, of a mask (heads,) or of anything (1, heads, ...)."""
        entries = of_heads[None, :, None, None] if of_heads.ndim == 1 else of_heads
        return entries if entries.shape[1] in (1, self.num_attention_heads) else entries[:, self.heads]


class RelativeSelfAttention(ViTSelfAttention):
    """Self-attention with a table of relative positions of its own."""

    def __init__(self, config: PretrainedConfig, layer: int | None = None) -> None:
        super().__init__(config, layer)
        self.relative_position_bias = RelativePositionBias(config, layer)

    def forward(  # type: ignore[override]
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, "*head"] | None = None,
        output_attentions: bool = False,
        grid: tuple[int, int] | None = None,
        rotary: Rotating | None = None,
        prefix_only: bool = False,
    ) -> tuple[Float[Tensor, "batch queries width"] | Float[Tensor, "batch heads queries tokens"] | None, ...]:
        bias = self.relative_position_bias(grid)
        return super().forward(hidden_states, head_mask, output_attentions, bias, rotary, prefix_only)


class ViTSelfOutput(nn.Module):
    """The output projection of attention; the residual is added in ViTLayer."""

    def __init__(self, config: PretrainedConfig, layer: int | None = None) -> None:
        super().__init__()
        architecture, width = config.architecture, len(config.kept_heads(layer)) * config.head_dim
        self.layernorm = norm_of(config, width) if architecture.attention_norm else None
        self.dense = nn.Linear(width, config.hidden_size, bias=architecture.output_bias)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch tokens width"],
        input_tensor: Float[Tensor, "batch all_tokens hidden"] | None = None,  # for parts that scripts put here
    ) -> Float[Tensor, "batch tokens hidden"]:
        if self.layernorm is not None:
            hidden_states = self.layernorm(hidden_states)
        return self.dropout(self.dense(hidden_states))


class ViTAttention(nn.Module):
    """Self-attention with its output projection."""

    def __init__(self, config: PretrainedConfig, layer: int | None = None) -> None:
        super().__init__()
        has_table = config.architecture.relative_positions == "layers"
        self.attention = (RelativeSelfAttention if has_table else ViTSelfAttention)(config, layer)
        self.output = ViTSelfOutput(config, layer)

    @property
    def pruned_heads(self) -> set[int]:
        """The heads that are gone, in the numbering before any pruning."""
        return set(range(self.attention.config.num_attention_heads)) - set(self.attention.heads)

    def prune_heads(self, heads: Iterable[int]) -> None:
        """Remove attention heads for good, in the numbering before any pruning; see `PreTrainedModel.prune_heads`."""
        prune_attention(self, heads)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, "*head"] | None = None,
        output_attentions: bool = False,
        **options: Any,
    ) -> tuple[Float[Tensor, "batch queries hidden"] | Float[Tensor, "batch heads queries tokens"] | None, ...]:
        context, *probabilities = items_of(self.attention(hidden_states, head_mask, output_attentions, **options))
        return self.output(context, hidden_states), *probabilities


# The names that transformers 4 has for these with scaled dot product attention.
ViTSdpaSelfAttention = ViTSelfAttention
ViTSdpaAttention = ViTAttention


class ViTIntermediate(nn.Module):
    """The first half of the MLP."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        architecture, hidden, mlp = config.architecture, config.hidden_size, config.intermediate_size
        self.gate = nn.Linear(hidden, mlp, bias=architecture.mlp_bias) if architecture.gated_mlp else None
        self.dense = nn.Linear(hidden, mlp, bias=architecture.mlp_bias)
        self.intermediate_act_fn = activation(config.mlp_act)

    def forward(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens mlp"]:
        if self.gate is not None:
            return activated(self.gate, self.intermediate_act_fn, hidden_states) * self.dense(hidden_states)
        return activated(self.dense, self.intermediate_act_fn, hidden_states)


class ViTOutput(nn.Module):
    """The second half of the MLP, with the residual."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        architecture, mlp = config.architecture, config.intermediate_size
        self.layernorm = norm_of(config, mlp) if architecture.mlp_norm else None
        self.dense = nn.Linear(mlp, config.hidden_size, bias=architecture.mlp_bias)
        self.dropout = nn.Dropout(config.hidden_dropout_prob if architecture.mlp_dropout else 0.0)

    def forward(
        self, hidden_states: Float[Tensor, "batch tokens mlp"], input_tensor: Float[Tensor, "batch tokens hidden"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        return self.projected(hidden_states) + input_tensor

    def projected(self, hidden_states: Float[Tensor, "batch tokens mlp"]) -> Float[Tensor, "batch tokens hidden"]:
        """What the MLP adds."""
        if self.layernorm is not None:
            hidden_states = self.layernorm(hidden_states)
        return self.dropout(self.dense(hidden_states))


class ScaledOutput(ViTOutput):
    """The second half of the MLP; the residual is added in ScaledLayer."""

    def forward(  # type: ignore[override]
        self, hidden_states: Float[Tensor, "batch tokens mlp"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        return self.projected(hidden_states)


class ViTLayer(nn.Module):
    """One transformer layer, with a norm before each half (equations 2 and 3 of ViT's paper).

    What its `forward` gets by name, it hands to attention: where tokens stand relative to each other, see ViTEncoder,
    and `prefix_only`, with which only the tokens before the patches are computed.
    """

    output_class = ViTOutput

    def __init__(self, config: PretrainedConfig, layer: int | None = None) -> None:
        super().__init__()
        self.attention = ViTAttention(config, layer)
        self.intermediate = ViTIntermediate(config)
        self.output = self.output_class(config)
        self.layernorm_before = norm_of(config)
        has_second = config.architecture.halves != "parallel"
        self.layernorm_after: Any = norm_of(config) if has_second else None

    def forward(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, "*head"] | None = None,
        output_attentions: bool = False,
        merge: Merge | None = None,
        **options: Any,
    ) -> tuple[Any, ...]:
        returned = self.attention(self.layernorm_before(hidden_states), head_mask, output_attentions, **options)
        attended, *others = items_of(returned)
        if options.get("prefix_only"):
            hidden_states = hidden_states[:, : attended.shape[1]]
        hidden_states = attended + hidden_states
        if merge is not None:
            hidden_states, *others = merge(hidden_states, *others)
        mlp = self.intermediate(self.layernorm_after(hidden_states))
        return self.output(mlp, hidden_states), *others


class DropPath(nn.Module):
    """Leaves out, in training, what a layer adds to an image's tokens (https://arxiv.org/abs/1603.09382).

    Args:
        rate: how often, in [0, 1). What stays is scaled by 1 / (1 - rate).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens hidden"]:
        if not self.training or not self.rate:
            return hidden_states
        one_an_image = (hidden_states.shape[0],) + (1,) * (hidden_states.ndim - 1)
        is_kept = torch.rand(one_an_image, device=hidden_states.device) >= self.rate
        return hidden_states * is_kept / (1 - self.rate)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"rate={self.rate}"


class ScaledLayer(ViTLayer):
    """A transformer layer that scales what its halves add, channel by channel, and leaves them out now and then."""

    output_class = ScaledOutput

    def __init__(self, config: PretrainedConfig, layer: int | None = None) -> None:
        super().__init__(config, layer)
        self.config = config
        self.lambda_1, self.lambda_2 = self._factors("lambda_1"), self._factors("lambda_2")
        rates = config.architecture.drop_path_rates(config.num_hidden_layers)
        self.drop_path = DropPath(0.0 if layer is None else rates[layer])
        self.start_parameters()

    def start_parameters(self) -> None:
        """Give the factors their start."""
        for factors in (self.lambda_1, self.lambda_2):
            if factors is not None:
                start(factors, self.config.architecture.layer_scale or 0.0, self.config)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, "*head"] | None = None,
        output_attentions: bool = False,
        merge: Merge | None = None,
        **options: Any,
    ) -> tuple[Any, ...]:
        read = self._read(hidden_states)
        attended, *others = items_of(self.attention(read, head_mask, output_attentions, **options))
        if options.get("prefix_only"):
            hidden_states, read = hidden_states[:, : attended.shape[1]], read[:, : attended.shape[1]]
        if merge is None:
            return self._halves(hidden_states, attended, read), *others
        hidden_states, *others = merge(self._first_half(hidden_states, attended), *others)
        return self._second_half(hidden_states), *others

    def _read(self, hidden_states: Tensor) -> Tensor:
        """What attention reads."""
        return self.layernorm_before(hidden_states)

    def _halves(self, hidden_states: Tensor, attended: Tensor, read: Tensor) -> Tensor:
        """The hidden states with what attention adds to them, and then with what the MLP adds."""
        return self._second_half(self._first_half(hidden_states, attended))

    def _first_half(self, hidden_states: Tensor, attended: Tensor) -> Tensor:
        return self._added(self.lambda_1, attended, hidden_states)

    def _second_half(self, hidden_states: Tensor) -> Tensor:
        mlp = self.output(self.intermediate(self.layernorm_after(hidden_states)))
        return self._added(self.lambda_2, mlp, hidden_states)

    def _factors(self, name: str) -> nn.Parameter | None:
        has_factors = name in self.config.architecture.factors
        return nn.Parameter(torch.empty(self.config.hidden_size)) if has_factors else None

    def _added(self, factors: Tensor | None, branch: Tensor, hidden_states: Tensor) -> Tensor:
        kept = self.drop_path(branch)
        return kept + hidden_states if factors is None else torch.addcmul(hidden_states, factors, kept)


class PostNormLayer(ScaledLayer):
    """A transformer layer that norms what its halves make, rather than what they read.

    Liu et al. 2021, https://arxiv.org/abs/2111.09883, section 3.2.
    """

    def _read(self, hidden_states: Tensor) -> Tensor:
        return hidden_states

    def _first_half(self, hidden_states: Tensor, attended: Tensor) -> Tensor:
        return self._added(self.lambda_1, self.layernorm_before(attended), hidden_states)

    def _second_half(self, hidden_states: Tensor) -> Tensor:
        mlp = self.layernorm_after(self.output(self.intermediate(hidden_states)))
        return self._added(self.lambda_2, mlp, hidden_states)


class ParallelLayer(ScaledLayer):
    """A transformer layer whose halves read the same, and add what they make together.

    Dehghani et al. 2023, https://arxiv.org/abs/2302.05442, section 2.
    """

    def _halves(self, hidden_states: Tensor, attended: Tensor, read: Tensor) -> Tensor:
        mlp = self.output(self.intermediate(read))
        return self._added(self.lambda_1, attended + mlp, hidden_states)


class LayerStack(nn.Module):
    """What modules that have transformer layers have in common: how these are run, one after the other."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)

    def run(
        self,
        layers: Sequence[nn.Module] | nn.ModuleList,
        hidden_states: Float[Tensor, "batch tokens hidden"],
        head_mask: Shaped[Tensor, "layers ..."] | Sequence[Any] | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        prefix_only: bool = False,
        **options: Any,
    ) -> BaseModelOutput:
        """Run layers; on request with the hidden states before each layer and after the last, and the attention.

        With `prefix_only` the last one computes the tokens before the patches alone.
        """
        all_hidden_states, all_attentions = [], []
        for index, layer in enumerate(layers):
            if prefix_only and index == len(layers) - 1:
                options["prefix_only"] = True
            if output_hidden_states:
                all_hidden_states.append(hidden_states)
            arguments = (hidden_states, None if head_mask is None else head_mask[index], output_attentions)
            if self.gradient_checkpointing and self.training:
                returned = self._gradient_checkpointing_func(layer, *arguments, **options)
            else:
                returned = layer(*arguments, **options)
            hidden_states, *attentions = items_of(returned)
            if output_attentions:
                all_attentions.append(attentions[0] if attentions else None)
        if output_hidden_states:
            all_hidden_states.append(hidden_states)
        return BaseModelOutput(hidden_states, tuple(all_hidden_states) or None, tuple(all_attentions) or None)


#: The layers of which ViTLayer is the plainest.
LAYERS: dict[Halves, type[ScaledLayer]] = {
    "pre-norm": ScaledLayer,
    "post-norm": PostNormLayer,
    "parallel": ParallelLayer,
}


def layers_of(config: PretrainedConfig) -> nn.ModuleList:
    """The transformer layers that a config describes."""
    architecture = config.architecture
    is_scaled = architecture.layer_scale is not None or architecture.drop_path_rate > 0
    layer_class = LAYERS[architecture.halves] if is_scaled or architecture.halves != "pre-norm" else ViTLayer
    return nn.ModuleList(layer_class(config, layer) for layer in range(config.num_hidden_layers))


def items_of(returned: Any) -> Sequence[Any]:
    """What a layer or an attention returns, which may be someone else's and return a tensor alone."""
    return (returned,) if isinstance(returned, Tensor) else returned
