"""The activations that a config names, as modules, so that they show in a model's description and take hooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vit_core.activations import ACTIVATION_NAMES, canonical
from vit_core.checks import require_choice
from vit_torch.packing import PackedLinear
from vit_torch.watching import is_traced, is_watched


class QuickGELU(nn.Module):
    """GELU approximated by a sigmoid (Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415, section 2)."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return x * torch.sigmoid(1.702 * x)


class ClippedGELU(nn.Module):
    """Exact GELU, cut at -10 and 10 for quantization (Wu et al. 2020, https://arxiv.org/abs/2004.09602)."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return functional.gelu(x).clamp(-10.0, 10.0)


class SquaredReLU(nn.Module):
    """The square of ReLU (So et al. 2021, https://arxiv.org/abs/2109.08668)."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return functional.relu(x).square()


class Laplace(nn.Module):
    """The normal distribution function that comes near the squared ReLU (Ma et al. 2022, https://arxiv.org/abs/2209.10655).

    Mean and deviation are sqrt(1/2) and sqrt(1/(4 pi)), to the six digits that the authors' code has.
    """

    mean, deviation = 0.707107, 0.282095

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return (1 + torch.erf((x - self.mean) / (self.deviation * math.sqrt(2)))) / 2


#: What makes the module of each activation.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_new": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
    "gelu_10": ClippedGELU,
    "relu": nn.ReLU,
    "relu2": SquaredReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "laplace": Laplace,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "linear": nn.Identity,
}


def activation(name_or_function: str | Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The activation of a config, which names it or holds it.

    Args:
        name_or_function: one of `vit_core.activations.ACTIVATION_NAMES`, or what is to be called.

    Raises:
        ValueError: there is none of that name.
    """
    if not isinstance(name_or_function, str):
        return name_or_function
    require_choice("activation", name_or_function, ACTIVATION_NAMES)
    return ACTIVATIONS[canonical(name_or_function)]()


#: The same functions, writing into the memory of what they are given.
IN_PLACE: dict[type, Callable[[Any, Tensor], Tensor]] = {
    nn.GELU: lambda gelu, x: torch.ops.aten.gelu_(x, approximate=gelu.approximate),
    nn.SiLU: lambda silu, x: functional.silu(x, inplace=True),
    QuickGELU: lambda quick_gelu, x: x.mul_((1.702 * x).sigmoid_()),
}


def activated(linear: nn.Module, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What an activation makes of a projection.

    It is written over the projection, the largest tensor of a layer, if neither a gradient nor anybody else needs that:
    memory that is taken anew for each layer costs up to a tenth of the time.

    Args:
        linear: the projection.
        function: the activation; a module where it is one of a config.
        x: what is projected.
    """
    projected: Tensor = linear(x)
    if isinstance(function, nn.Module) and not projected.requires_grad and not is_traced():
        in_place = IN_PLACE.get(type(function))
        if in_place is not None and type(linear) in (nn.Linear, PackedLinear) and not is_watched((linear, function)):
            return in_place(function, projected)
    return function(projected)


class ActivationsByName(Mapping[str, Callable[[Tensor], Tensor]]):
    """Makes a module for each name that is looked up, as `ACT2FN` of transformers does."""

    def __getitem__(self, name: str) -> Callable[[Tensor], Tensor]:
        if name not in ACTIVATION_NAMES:
            raise KeyError(name)
        return activation(name)

    def __iter__(self) -> Iterator[str]:
        return iter(ACTIVATION_NAMES)

    def __len__(self) -> int:
        return len(ACTIVATION_NAMES)


#: The names under which scripts for transformers look activations up.
ACT2FN = ActivationsByName()
get_activation = activation
