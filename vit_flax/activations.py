"""The activations of `vit_core.activations` in JAX; see there for what each is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from vit_core.activations import canonical

Activation = Callable[[Array], Array]


def gelu(x: Array) -> Array:
    """GELU, in float32 at least. `jax.nn.gelu` computes the same by erfc, which takes twice the time on a CPU."""
    return _widened(x, lambda x: 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5)))


def gelu_10(x: Array) -> Array:
    """GELU, cut at -10 and 10."""
    return jnp.clip(gelu(x), -10, 10)


def quick_gelu(x: Array) -> Array:
    """GELU approximated by a sigmoid."""
    return x * jax.nn.sigmoid(1.702 * x)


def relu2(x: Array) -> Array:
    """The square of ReLU."""
    return jnp.square(jax.nn.relu(x))


def laplace(x: Array) -> Array:
    """The normal distribution function that comes near the squared ReLU, with the digits that its authors' code has."""
    mean, deviation = 0.707107, 0.282095
    return _widened(x, lambda x: 0.5 * (1 + jax.lax.erf((x - mean) / (deviation * 2**0.5))))


def linear(x: Array) -> Array:
    """The input."""
    return x


def _widened(x: Array, function: Activation) -> Array:
    return function(x.astype(jnp.promote_types(x.dtype, jnp.float32))).astype(x.dtype)


ACTIVATIONS: dict[str, Activation] = {
    "gelu": gelu,
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "quick_gelu": quick_gelu,
    "gelu_10": gelu_10,
    "relu": jax.nn.relu,
    "relu2": relu2,
    "relu6": jax.nn.relu6,
    "leaky_relu": partial(jax.nn.leaky_relu, negative_slope=0.01),
    "selu": jax.nn.selu,
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
    "laplace": laplace,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "linear": linear,
}


def activation(name_or_function: str | Activation) -> Activation:
    """The activation of a config, which names it or holds it."""
    return ACTIVATIONS[canonical(name_or_function)] if isinstance(name_or_function, str) else name_or_function
