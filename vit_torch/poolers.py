"""Poolers: what makes one summary of an image from its tokens; see `vit_core.architecture.Pooler`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vit_core import PretrainedConfig
from vit_core.architecture import Pooler
from vit_core.parameters import INITIALIZERS
from vit_torch.activations import activation
from vit_torch.initialization import start
from vit_torch.norms import norm_of


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
        self.layernorm = norm_of(config)

    def forward(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch hidden"]:
        return self.layernorm(hidden_states[:, self.num_prefix_tokens :].mean(1))


class ClassTokenPooler(nn.Module):
    """A summary of the image: the class token as it is."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()

    def forward(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch hidden"]:
        return hidden_states[:, 0]


class ClassNormPooler(nn.Module):
    """A summary of the image: the class token, normed (CLIP, https://arxiv.org/abs/2103.00020)."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.layernorm = norm_of(config)

    def forward(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch hidden"]:
        return self.layernorm(hidden_states[:, 0])


class AttentionPooler(nn.Module):
    """A summary of the image: what a trained query gathers from all tokens, and an MLP makes of it.

    SigLIP (https://arxiv.org/abs/2303.15343), after Zhai et al. 2021 (https://arxiv.org/abs/2106.04560, section 3.2).
    """

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.config = config
        hidden, mlp = config.hidden_size, config.pooler_mlp_size
        self.probe = nn.Parameter(torch.empty(1, 1, hidden))
        output = nn.ModuleDict({"dense": nn.Linear(hidden, hidden)})
        self.attention: Any = nn.ModuleDict({"attention": ProbeAttention(config), "output": output})
        self.layernorm = norm_of(config)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(hidden, mlp)})
        self.intermediate_act_fn = activation(config.mlp_act)
        self.output = nn.ModuleDict({"dense": nn.Linear(mlp, hidden)})
        self.start_parameters()

    def start_parameters(self) -> None:
        """Give the query its start."""
        start(self.probe, INITIALIZERS["token"], self.config)

    def forward(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch hidden"]:
        gathered = self.attention["attention"](self.probe.expand(hidden_states.shape[0], -1, -1), hidden_states)
        token = self.attention["output"]["dense"](gathered)
        mlp = self.intermediate_act_fn(self.intermediate["dense"](self.layernorm(token)))
        return (token + self.output["dense"](mlp))[:, 0]


class PatchAttentionPooler(AttentionPooler):
    """A summary of the image: the same of the patches alone."""

    def forward(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch hidden"]:
        return super().forward(hidden_states[:, self.config.architecture.num_prefix_tokens :])


class ProbeAttention(nn.Module):
    """Multi-head attention from one token to all others, up to the output projection."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.attention_head_size = config.hidden_size // config.pooler_heads
        self.query, self.key, self.value = (nn.Linear(config.hidden_size, config.hidden_size) for _ in range(3))

    def forward(
        self, probe: Float[Tensor, "batch 1 hidden"], hidden_states: Float[Tensor, "batch tokens hidden"]
    ) -> Float[Tensor, "batch 1 hidden"]:
        projected = (self.query(probe), self.key(hidden_states), self.value(hidden_states))
        query, key, value = (each.unflatten(-1, (-1, self.attention_head_size)).transpose(1, 2) for each in projected)
        return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


POOLERS: dict[Pooler, Callable[[PretrainedConfig], nn.Module]] = {
    "dense": ViTPooler,
    "mean-norm": MeanNormPooler,
    "class-token": ClassTokenPooler,
    "class-norm": ClassNormPooler,
    "attention": AttentionPooler,
    "patch-attention": PatchAttentionPooler,
}
