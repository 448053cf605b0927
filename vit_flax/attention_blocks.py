"""Attention of large images in memory that grows with their tokens, not with the square of these.

Queries attend in blocks, and the scores of a block are gone when those of the next are computed; the backward pass
computes them again. Shares are formed last: what values sum to, weighed by exponentials, is divided by the sum of
these (Rabe and Staats 2021, https://arxiv.org/abs/2112.05682), which spares the scores a pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Shaped

from vit_flax.precision import product

BLOCK = 256  # queries that a CPU takes at a time
LARGEST_WHOLE = 2**18  # scores of one head that are kept whole: those of 512 tokens, or of 357 x 357 pixels by 16 x 16
LARGEST_TOGETHER = 2**23  # scores of all heads that an accelerator computes at a time: 32 MiB of an image

Queries = Float[Array, "batch queries heads head_dim"]
Heads = Float[Array, "batch tokens heads head_dim"]
Bias = Float[Array, "1 heads queries tokens"]


def is_large(query: Queries, key: Heads) -> bool:
    """Whether there are so many scores that blocks of them are less work for memory, and on a CPU faster, too."""
    return query.shape[1] * key.shape[1] > LARGEST_WHOLE


@partial(jax.jit, static_argnames="rate")
def attention_in_blocks(
    query: Queries,
    key: Heads,
    value: Heads,
    bias: Bias | None = None,
    head_mask: Shaped[Array, " heads"] | None = None,
    rng: Array | None = None,
    rate: float = 0.0,
) -> Queries:
    """Attend, a block of queries at a time.

    A CPU takes images and heads one at a time, too: XLA multiplies two matrices there several times as fast as a batch
    of them. Elsewhere a block is of all heads of all images.

    Args:
        query: (batch, queries, heads, head_dim).
        key: (batch, tokens, heads, head_dim).
        value: as `key`.
        bias: what to add to the scores, (1, heads, queries, tokens); or to those of all queries alike, of each image
            and head or of all, (batch or 1, heads or 1, 1, tokens).
        head_mask: factors for the heads.
        rng: decides which probabilities are dropped, for each block anew; without it none are.
        rate: how often one is dropped.
    """
    if head_mask is not None:
        value = value * head_mask.astype(value.dtype)[:, None]
    if bias is not None and bias.shape[2] == 1:
        query, key = _with_channel(query, key, bias)
        bias = None
    heads_first = [each.transpose(0, 2, 1, 3) for each in (query, key, value)]
    together = LARGEST_TOGETHER // (query.shape[2] * key.shape[1])
    context = jax.lax.platform_dependent(
        *heads_first,
        None if bias is None else bias[0],
        rng,
        cpu=partial(_attend, _map, BLOCK, rate),
        default=partial(_attend, _vmap, max(BLOCK, together), rate),
    )
    return context.transpose(0, 2, 1, 3)


def _with_channel(query: Queries, key: Heads, bias: Bias) -> tuple[Queries, Heads]:
    """Queries and keys with one channel more, by which their scores have a bias that is the same for all queries."""
    width = query.shape[-1]
    of_keys = jnp.broadcast_to(bias.transpose(0, 3, 1, 2), (*key.shape[:3], 1)).astype(key.dtype)
    query = query * ((width + 1) / width) ** 0.5  # since scores are divided by the root of the width
    query = jnp.pad(query, [(0, 0)] * 3 + [(0, 1)], constant_values=(width + 1) ** 0.5)
    return query, jnp.concatenate([key, of_keys], axis=-1)


def _attend(
    over: Callable[..., Array], largest: int, rate: float, query: Array, key: Array, value: Array, bias: Any, rng: Any
) -> Float[Array, "batch heads queries head_dim"]:
    """What queries gather, where heads come before tokens.

    Args:
        over: calls a function for each entry of the first axis, as `jax.vmap` does or one after the other.
        largest: how many queries a block may have.
        rate: see `attention_in_blocks`, as the others.
        query: (batch, heads, queries, head_dim).
        key: (batch, heads, tokens, head_dim).
        value: as `key`.
        bias: (heads, queries, tokens), or None.
        rng: a key of random numbers, or None.
    """
    batch, heads, queries, _ = query.shape
    blocks = -(-queries // largest)
    size = -(-queries // blocks)

    def in_blocks(array: Array) -> Array:
        padding = [(0, 0)] * (array.ndim - 2) + [(0, blocks * size - queries), (0, 0)]
        return jnp.pad(array, padding).reshape(*array.shape[:-2], blocks, size, array.shape[-1])

    biases = None if bias is None else in_blocks(bias)
    rngs = None if rng is None else jax.random.split(rng, (batch, heads, blocks))
    attend = jax.checkpoint(partial(_block, rate), prevent_cse=False)  # a scan keeps the two runs apart

    def image(query: Array, key: Array, value: Array, rngs: Any) -> Array:
        return over(head, query, key, value, biases, rngs)

    def head(query: Array, key: Array, value: Array, biases: Any, rngs: Any) -> Array:
        return _map(lambda query, bias, rng: attend(query, key, value, bias, rng), query, biases, rngs)

    context = over(image, in_blocks(query), key, value, rngs)
    return context.reshape(batch, heads, -1, value.shape[-1])[:, :, :queries]


def _block(rate: float, query: Array, key: Array, value: Array, bias: Any, rng: Any) -> Float[Array, "queries width"]:
    """What a block of one head's queries gathers."""
    dtype = query.dtype
    scores = product("qd,kd->qk", query, key, dtype) * query.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    total = weights.sum(axis=-1, keepdims=True)
    if rng is not None:
        weights = jnp.where(jax.random.bernoulli(rng, 1 - rate, weights.shape), weights / (1 - rate), 0)
    return (product("qk,kd->qd", weights, value, dtype) / total).astype(dtype)


def _map(function: Callable[..., Array], *arrays: Any) -> Array:
    return jax.lax.map(lambda each: function(*each), arrays)


def _vmap(function: Callable[..., Array], *arrays: Any) -> Array:
    return jax.vmap(function)(*arrays)
