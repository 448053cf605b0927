"""The activations that a config names."""

from __future__ import annotations

import math
from collections.abc import Callable

from keras import ops
from tensorflow import Tensor

from vit_core.activations import ACTIVATION_NAMES, canonical
from vit_core.checks import require_choice


def gelu(x: Tensor) -> Tensor:
    """GELU (Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415); by itself `ops.gelu` approximates it."""
    return ops.gelu(x, approximate=False)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU approximated by a hyperbolic tangent (same paper, section 2)."""
    return ops.gelu(x, approximate=True)


def quick_gelu(x: Tensor) -> Tensor:
    """GELU approximated by a sigmoid (same paper, section 2)."""
    return x * ops.sigmoid(1.702 * x)


def clipped_gelu(x: Tensor) -> Tensor:
    """Exact GELU, cut at -10 and 10 for quantization (Wu et al. 2020, https://arxiv.org/abs/2004.09602)."""
    return ops.clip(gelu(x), -10.0, 10.0)


def squared_relu(x: Tensor) -> Tensor:
    """The square of ReLU (So et al. 2021, https://arxiv.org/abs/2109.08668)."""
    return ops.square(ops.relu(x))


def leaky_relu(x: Tensor) -> Tensor:
    """ReLU with slope 0.01 below 0; TensorFlow's rounds the slope to float32, whatever it computes in."""
    return ops.where(x > 0, x, 0.01 * x)


def mish(x: Tensor) -> Tensor:
    """The input times the hyperbolic tangent of its softplus (Misra 2019, https://arxiv.org/abs/1908.08681)."""
    return x * ops.tanh(ops.softplus(x))


def laplace(x: Tensor) -> Tensor:
    """The normal distribution function that comes near the squared ReLU (Ma et al. 2022, https://arxiv.org/abs/2209.10655).

    Mean and deviation are sqrt(1/2) and sqrt(1/(4 pi)), to the six digits that the authors' code has.
    """
    return (1 + ops.erf((x - 0.707107) / (0.282095 * math.sqrt(2)))) / 2


def linear(x: Tensor) -> Tensor:
    """The input."""
    return x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "quick_gelu": quick_gelu,
    "gelu_10": clipped_gelu,
    "relu": ops.relu,
    "relu2": squared_relu,
    "relu6": ops.relu6,
    "leaky_relu": leaky_relu,
    "selu": ops.selu,
    "silu": ops.silu,
    "mish": mish,
    "laplace": laplace,
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "linear": linear,
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
    return ACTIVATIONS[canonical(name_or_function)]


get_tf_activation = activation  # the name under which scripts for transformers look activations up
