"""Scaled dot-product attention, with softmax in float32 at least."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jaxtyping import Float

from vit_flax.precision import is_half, product

Queries = Float[Array, "batch queries heads head_dim"]
Heads = Float[Array, "batch tokens heads head_dim"]
Bias = Float[Array, "1 heads queries tokens"]
Probabilities = Float[Array, "batch heads queries tokens"]


def attention(query: Queries, key: Heads, value: Heads, bias: Bias | None = None) -> Queries:
    """Attend by what the platform does best.

    That is JAX's own attention. Only on a CPU it takes twice the time of the same steps taken here, since XLA
    multiplies batches of matrices slowly there unless heads come before tokens; docs/speed.md has figures.

    Args:
        query: (batch, queries, heads, head_dim).
        key: (batch, tokens, heads, head_dim).
        value: as `key`.
        bias: what to add to the scores, (1, heads, queries, tokens).
    """
    return (_half_attention if is_half(query.dtype) else _attention)(query, key, value, bias)


def attention_with_probabilities(
    query: Queries,
    key: Heads,
    value: Heads,
    change: Callable[[Probabilities], Probabilities] = lambda x: x,
    bias: Bias | None = None,
) -> tuple[Queries, Probabilities]:
    """Attend, step by step (equations 5 to 7 of the paper).

    Args:
        query: (batch, queries, heads, head_dim).
        key: (batch, tokens, heads, head_dim).
        value: as `key`.
        change: what to do with the probabilities before they weigh the values, such as dropout.
        bias: what to add to the scores, (1, heads, queries, tokens).

    Returns:
        What each query gathered, and the changed probabilities, (batch, heads, queries, tokens), in float32 at least.
    """
    dtype = query.dtype
    query, key, value = (heads.transpose(0, 2, 1, 3) for heads in (query, key, value))
    scores = product("bhqd,bhkd->bhqk", query, key, dtype) * query.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    probabilities = change(jax.nn.softmax(scores))
    context = product("bhqk,bhkd->bhqd", probabilities, value, dtype).astype(dtype)
    return context.transpose(0, 2, 1, 3), probabilities


def _attention(query: Queries, key: Heads, value: Heads, bias: Bias | None) -> Queries:
    return jax.lax.platform_dependent(
        query, key, value, bias, cpu=_attention_by_steps, default=jax.nn.dot_product_attention
    )


def _attention_by_steps(query: Queries, key: Heads, value: Heads, bias: Bias | None) -> Queries:
    return attention_with_probabilities(query, key, value, bias=bias)[0]


_half_attention = jax.custom_vjp(_attention)


def _half_attention_forward(query: Queries, key: Heads, value: Heads, bias: Bias | None) -> tuple[Queries, Any]:
    return _attention(query, key, value, bias), (query, key, value, bias)


def _half_attention_backward(kept: Any, gradient: Queries) -> tuple[Queries, Heads, Heads, Bias | None]:
    """Compute the probabilities again, and multiply half-precision operands only; see `precision.product`."""
    _, backward = jax.vjp(_attention_by_steps, *kept)
    return backward(gradient)


_half_attention.defvjp(_half_attention_forward, _half_attention_backward)
