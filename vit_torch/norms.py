"""The norm that a config's architecture names: LayerNorm, or the root mean square alone."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vit_core import PretrainedConfig
from vit_core.architecture import Norm


class RMSNorm(nn.RMSNorm):
    """Divides by the root mean square of all channels; there is no bias (https://arxiv.org/abs/1910.07467)."""

    def forward(self, x: Float[Tensor, "*batch channels"]) -> Float[Tensor, "*batch channels"]:
        """Norm in the weight's dtype, as LayerNorm does it under autocast."""
        return functional.rms_norm(x.to(self.weight.dtype), self.normalized_shape, self.weight, self.eps)


NORMS: dict[Norm, Callable[..., nn.Module]] = {"layer": nn.LayerNorm, "rms": RMSNorm}


def norm_of(config: PretrainedConfig, size: int | None = None) -> nn.Module:
    """A norm as a model has it.

    Args:
        config: the model's.
        size: how many channels are normed together; those of a token unless given.
    """
    return NORMS[config.architecture.norm](config.hidden_size if size is None else size, eps=config.layer_norm_eps)
