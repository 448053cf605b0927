"""Scaled dot-product attention, with softmax in float32 at least."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jaxtyping import Float

from vit_flax.precision import is_half, product

Heads = Float[Array, "batch tokens heads head_dim"]
Probabilities = Float[Array, "batch heads tokens tokens"]


def attention_with_probabilities(
    query: Heads, key: Heads, value: Heads, change: Callable[[Probabilities], Probabilities] = lambda x: x
) -> tuple[Heads, Probabilities]:
    """Attend, step by step (equations 5 to 7 of the paper).

    Args:
        query: (batch, tokens, heads, head_dim).
        key: likewise.
        value: likewise.
        change: what to do with the probabilities before they weigh the values, such as dropout.

    Returns:
        What each query gathered, and the changed probabilities, (batch, heads, tokens, tokens), in float32 at least.
    """
    dtype = query.dtype
    scores = product("bqhd,bkhd->bhqk", query, key, dtype) * query.shape[-1] ** -0.5
    probabilities = change(jax.nn.softmax(scores))
    return product("bhqk,bkhd->bqhd", probabilities, value, dtype).astype(dtype), probabilities


def attention(query: Heads, key: Heads, value: Heads) -> Heads:
    """Attend by JAX's own implementation, which keeps no probabilities.

    Args:
        query: (batch, tokens, heads, head_dim).
        key: likewise.
        value: likewise.
    """
    return (_half_attention if is_half(query.dtype) else jax.nn.dot_product_attention)(query, key, value)


@jax.custom_vjp
def _half_attention(query: Heads, key: Heads, value: Heads) -> Heads:
    return jax.nn.dot_product_attention(query, key, value)


def _half_attention_forward(query: Heads, key: Heads, value: Heads) -> tuple[Heads, Any]:
    return _half_attention(query, key, value), (query, key, value)


def _half_attention_backward(kept: Any, gradient: Heads) -> tuple[Heads, Heads, Heads]:
    """Compute the probabilities again, and multiply half-precision operands only; see `precision.product`."""
    _, backward = jax.vjp(lambda *heads: attention_with_probabilities(*heads)[0], *kept)
    return backward(gradient)


_half_attention.defvjp(_half_attention_forward, _half_attention_backward)
