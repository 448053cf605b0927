"""The norm that a config's architecture names: LayerNorm, or the root mean square alone."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from vit_core import PretrainedConfig
from vit_core.architecture import Norm

#: LayerNorm: https://arxiv.org/abs/1607.06450; RMSNorm, which has no bias: https://arxiv.org/abs/1910.07467.
NORMS: dict[Norm, Callable[..., nn.Module]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}


def norm_of(config: PretrainedConfig, size: int | None = None) -> nn.Module:
    """A norm as a model has it.

    Args:
        config: the model's.
        size: how many channels are normed together; those of a token unless given.
    """
    return NORMS[config.architecture.norm](config.hidden_size if size is None else size, eps=config.layer_norm_eps)
