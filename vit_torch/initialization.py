"""How parameters start: what the table of parameters says of each kind, by the modules that hold them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vit_core.parameters import INITIALIZER_CUT, INITIALIZERS, Initializer, Kind, Parameter

#: The kinds of the parameters of torch's modules.
KINDS: dict[type[nn.Module], dict[str, Kind]] = {
    nn.Linear: {"weight": "linear", "bias": "bias"},
    nn.Conv2d: {"weight": "conv", "bias": "bias"},
    nn.LayerNorm: {"weight": "scale", "bias": "shift"},
}


def start_module(module: nn.Module, initializer_range: float) -> None:
    """Give the parameters of a linear layer, a convolution or a LayerNorm their start; leave other modules be."""
    for module_class, kinds in KINDS.items():
        if isinstance(module, module_class):
            for name, kind in kinds.items():
                if isinstance(parameter := getattr(module, name, None), nn.Parameter):
                    start(parameter, INITIALIZERS[kind], initializer_range)


def start_rows(model: nn.Module, rows: Iterable[Parameter], initializer_range: float) -> None:
    """Give parameters of a model the random start that the table names."""
    for row in rows:
        start(model.get_parameter(row.name), row.initializer, initializer_range)


@torch.no_grad()
def start(parameter: Tensor, initializer: Initializer, initializer_range: float) -> None:
    """Give one parameter its start, unless it is on `meta` and has no values."""
    if parameter.is_meta:
        return
    if initializer == "normal":
        # float32, whatever the parameter's dtype
        values = torch.empty(parameter.shape, dtype=torch.float32, device=parameter.device)
        nn.init.trunc_normal_(values, std=initializer_range, a=-INITIALIZER_CUT, b=INITIALIZER_CUT)
        parameter.copy_(values)
    else:
        parameter.fill_(1.0 if initializer == "ones" else 0.0)
