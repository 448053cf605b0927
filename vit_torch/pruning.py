"""Removing attention heads (Michel et al. 2019, "Are Sixteen Heads Really Better than One?", https://arxiv.org/abs/1905.10650)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vit_core import PretrainedConfig
from vit_torch.packing import PackedLinear


def prune_heads(model: Any, heads_to_prune: Mapping[int, Iterable[int]]) -> None:
    """Remove attention heads from a model and record it in its config; see `PreTrainedModel.prune_heads`."""
    config: PretrainedConfig = model.config
    layers = model.base_model.encoder.layer
    pruned = {layer: set(heads) for layer, heads in config.pruned_heads.items()}
    for layer, heads in heads_to_prune.items():
        place = layer + len(layers) if layer < 0 else layer
        pruned[place] = pruned.get(place, set()) | set(heads)
    recorded = {layer: sorted(heads) for layer, heads in sorted(pruned.items()) if heads}
    config.replaced(pruned_heads=recorded)  # raises before anything is changed
    config.pruned_heads = recorded
    for layer, heads in recorded.items():
        layers[layer].attention.prune_heads(heads)


def prune_attention(attention: Any, heads: Iterable[int]) -> None:
    """Remove heads of one attention, a `vit_torch.layers.ViTAttention`; those that are gone already do not matter.

    Raises:
        ValueError: there is no such head, or none would stay.
    """
    inner = attention.attention
    removed, count = set(heads), inner.config.num_attention_heads
    if bad := sorted(head for head in removed if not 0 <= head < count):
        raise ValueError(f"there is no head {bad[0]} to prune; a layer has {count} heads.")
    kept = [head for head in inner.heads if head not in removed]
    if not kept:
        raise ValueError("every head of the layer would be pruned; at least one must stay.")
    if kept == inner.heads:
        return
    places = torch.tensor([inner.heads.index(head) for head in kept])
    width = inner.attention_head_size
    rows = (places[:, None] * width + torch.arange(width)).flatten()
    for name in ("query", "key", "value"):
        setattr(inner, name, _selected(getattr(inner, name), rows, axis=0))
    attention.output.dense = _selected(attention.output.dense, rows, axis=1)
    if (norm := getattr(attention.output, "layernorm", None)) is not None:
        attention.output.layernorm = _selected_norm(norm, rows)
    if (positions := getattr(inner, "relative_position_bias", None)) is not None:
        table = positions.relative_position_bias_table
        columns = table.detach().index_select(1, places.to(table.device))
        positions.relative_position_bias_table = nn.Parameter(columns, requires_grad=table.requires_grad)
    if (rope := getattr(inner, "rope", None)) is not None:
        frequencies = rope.frequencies
        of_kept = frequencies.detach().index_select(1, places.to(frequencies.device))
        rope.frequencies = nn.Parameter(of_kept, requires_grad=frequencies.requires_grad)
    inner.heads = kept


def pruned_as_built(base_model: Any, config: PretrainedConfig) -> dict[int, list[int]]:
    """The heads that the layers of a model lack, wherever they were moved; the config's where they do not tell."""
    layers = getattr(getattr(base_model, "encoder", None), "layer", ())
    inner: list[Any] = [getattr(getattr(layer, "attention", None), "attention", None) for layer in layers]
    if not all(isinstance(getattr(attention, "heads", None), list) for attention in inner) or not inner:
        return config.pruned_heads
    every_head = range(config.num_attention_heads)
    lacking = {
        layer: [head for head in every_head if head not in attention.heads]
        for layer, attention in enumerate(inner[: config.num_hidden_layers])
    }
    return {layer: heads for layer, heads in lacking.items() if heads}


def _selected(linear: nn.Linear, indices: Tensor, axis: int) -> nn.Linear:
    """A linear layer with some of the outputs (axis 0) or inputs (axis 1) of another, on the same device."""
    indices = indices.to(linear.weight.device)
    weight = linear.weight.detach().index_select(axis, indices)
    selected = nn.Linear(weight.shape[1], weight.shape[0], bias=linear.bias is not None, device="meta")
    selected.weight = nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
    if linear.bias is not None:
        bias = linear.bias.detach()
        bias = bias.index_select(0, indices) if axis == 0 else bias.clone()
        selected.bias = nn.Parameter(bias, requires_grad=linear.bias.requires_grad)
    if isinstance(linear, PackedLinear):
        PackedLinear.take_over(selected, type(linear.packed_weights)())  # with a layout of its own
    return selected.train(linear.training)


def _selected_norm(norm: Any, indices: Tensor) -> nn.Module:
    """A norm of some of the channels of another, on the same device."""
    selected: nn.Module = type(norm)(len(indices), eps=norm.eps, device="meta")
    for name, parameter in norm.named_parameters():
        values = parameter.detach().index_select(0, indices.to(parameter.device))
        setattr(selected, name, nn.Parameter(values, requires_grad=parameter.requires_grad))
    return selected.train(norm.training)
