"""Removing attention heads (Michel et al. 2019, "Are Sixteen Heads Really Better than One?", https://arxiv.org/abs/1905.10650)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vit_core import ViTConfig


def prune_heads(model: Any, heads_to_prune: Mapping[int, Iterable[int]]) -> None:
    """Remove attention heads from a model and record it in its config; see `ViTPreTrainedModel.prune_heads`."""
    config: ViTConfig = model.config
    pruned = {layer: set(heads) for layer, heads in config.pruned_heads.items()}
    for layer, heads in heads_to_prune.items():
        pruned[layer] = pruned.get(layer, set()) | set(heads)
    recorded = {layer: sorted(heads) for layer, heads in sorted(pruned.items()) if heads}
    config.replaced(pruned_heads=recorded)  # raises before anything is changed
    config.pruned_heads = recorded

    for layer in heads_to_prune:
        attention = model.base_model.encoder.layer[layer].attention
        kept = config.kept_heads(layer)
        places = torch.tensor([attention.attention.heads.index(head) for head in kept])
        head_dim = config.head_dim
        rows = (places[:, None] * head_dim + torch.arange(head_dim)).flatten()
        for name in ("query", "key", "value"):
            setattr(attention.attention, name, _selected(getattr(attention.attention, name), rows, axis=0))
        attention.output.dense = _selected(attention.output.dense, rows, axis=1)
        attention.attention.heads = kept


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
    return selected.train(linear.training)
