"""How parameters start: what the table of parameters says of each kind, by the modules that hold them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vit_core import PretrainedConfig
from vit_core.parameters import INITIALIZER_CUT, INITIALIZERS, Initializer, Kind, Parameter
from vit_core.position import sincos_positions
from vit_core.rotary import Rotary

#: The kinds of the parameters of torch's modules.
KINDS: dict[type[nn.Module], dict[str, Kind]] = {
    nn.Linear: {"weight": "linear", "bias": "bias"},
    nn.Conv2d: {"weight": "conv", "bias": "bias"},
    nn.LayerNorm: {"weight": "scale", "bias": "shift"},
    nn.RMSNorm: {"weight": "scale"},
}
#: The numbers that are named.
CONSTANTS = {"zeros": 0.0, "ones": 1.0}


def start_module(module: nn.Module, config: PretrainedConfig) -> None:
    """Give the parameters of a linear layer, a convolution or a norm their start; leave other modules be."""
    for module_class, kinds in KINDS.items():
        if isinstance(module, module_class):
            for name, kind in kinds.items():
                parameter = getattr(module, name, None)
                if isinstance(parameter, nn.Parameter) and not parameter.is_meta:
                    start(parameter, INITIALIZERS[kind], config)


def start_rows(model: nn.Module, rows: Iterable[Parameter], config: PretrainedConfig) -> None:
    """Give parameters of a model the start that the table names."""
    for row in rows:
        start(model.get_parameter(row.name), row.initializer, config)


@torch.no_grad()
def start(parameter: Tensor, initializer: Initializer, config: PretrainedConfig) -> None:
    """Give one parameter its start, unless it is on `meta` and has no values."""
    if parameter.is_meta:
        return
    if initializer == "normal":
        # float32, whatever the parameter's dtype
        values = torch.empty(parameter.shape, dtype=torch.float32, device=parameter.device)
        nn.init.trunc_normal_(values, std=config.initializer_range, a=-INITIALIZER_CUT, b=INITIALIZER_CUT)
        parameter.copy_(values)
    elif initializer == "sincos":
        prefix_tokens = config.architecture.num_positioned_prefix_tokens
        parameter.copy_(torch.from_numpy(sincos_positions(config.grid, parameter.shape[-1], prefix_tokens)))
    elif initializer == "rotary":
        parameter.copy_(torch.from_numpy(Rotary.of(config).starting_frequencies(parameter.shape[1])))
    else:
        parameter.fill_(CONSTANTS[initializer] if isinstance(initializer, str) else initializer)
