"""When the last layer of a classifier computes the tokens before the patches alone, since nobody sees the others."""

from __future__ import annotations

from typing import Any

from torch import nn

from vit_torch.activations import ACTIVATIONS
from vit_torch.watching import is_own, is_watched

#: PyTorch's modules that make of each token something without the others.
TOKENWISE = {nn.Dropout, nn.Identity, nn.LayerNorm, nn.Linear, *(type(make()) for make in ACTIVATIONS.values())}


def may_compute_prefix_only(model: Any) -> bool:
    """Whether the last layer of a base model may leave out the patches, which the model's head does not read.

    It may if every part on the way knows of it, none of the layer's parts needs all tokens, and nobody sees them.
    """
    if not (is_own(model) and is_own(model.encoder) and len(model.encoder.layer)):
        return False
    last = model.encoder.layer[-1]
    takes_it = is_own(last) and is_own(last.attention) and is_own(last.attention.attention)
    after = [module for module in (*last.modules(), model.layernorm, model.pooler) if module is not None]
    return takes_it and all(map(is_tokenwise, after)) and not is_watched((model, model.encoder, *after))


def is_tokenwise(module: nn.Module) -> bool:
    """Whether a module is known to be right without the tokens that nobody reads."""
    return is_own(module) or type(module) in TOKENWISE
