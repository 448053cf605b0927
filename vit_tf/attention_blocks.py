"""Large images in little memory.

Queries attend in blocks, one after the other, and the scores of a block are gone when those of the next are computed;
the backward pass computes them again. So memory grows with the number of tokens, not with its square. For inference the
MLP, too, computes a block of tokens at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from jaxtyping import Float, Shaped
from keras import ops
from tensorflow import Tensor

BLOCK = 128  # queries, whose scores of six heads and 7,000 tokens stay in a cache of 32 MB
LARGEST_WHOLE = 2**20  # scores of one head that are kept whole: those of 1,024 tokens, or of 512 x 512 pixels by 16

TOKENS = 1024  # that the MLP computes at a time

Queries = Float[Tensor, "batch queries heads head_dim"]
Heads = Float[Tensor, "batch tokens heads head_dim"]


def may_be_large(query: Queries, key: Heads) -> bool:
    """Whether there are too many scores to be kept whole, as far as a graph knows the number of tokens."""
    queries, tokens = query.shape[1], key.shape[1]
    return queries is None or tokens is None or queries * tokens > LARGEST_WHOLE


def attention_in_blocks(
    query: Queries,
    key: Heads,
    value: Heads,
    bias: Float[Tensor, "#batch #heads #queries tokens"] | None = None,
    head_mask: Shaped[Tensor, " heads"] | None = None,
    seed: Shaped[Tensor, " pair"] | None = None,
    rate: float = 0.0,
) -> Queries:
    """Attend, a block of queries at a time, with all heads of all images.

    Args:
        query: (batch, queries, heads, head_dim).
        key: (batch, tokens, heads, head_dim).
        value: as `key`.
        bias: what to add to the scores, of each query or of all alike.
        head_mask: factors for the heads.
        seed: decides which probabilities are dropped, for each block anew; without it none are.
        rate: how often one is dropped.
    """
    if head_mask is not None:
        value = value * ops.cast(head_mask, value.dtype)[:, None]
    _, queries, heads, width = ops.shape(query)
    blocks, size, padding = _sizes(queries, BLOCK)

    def in_blocks(array: Tensor) -> Tensor:
        """From (images, queries, heads, width) to (blocks, images, heads, queries of a block, width)."""
        array = tf.pad(array, [(0, 0), (0, padding), (0, 0), (0, 0)])
        array = ops.reshape(array, (-1, blocks, size, *ops.shape(array)[2:]))
        return ops.transpose(array, (1, 0, 3, 2, 4))

    shared = {"columns": ops.transpose(key, (0, 2, 3, 1)), "rows": ops.transpose(value, (0, 2, 1, 3))}
    blocked = {"query": in_blocks(query * width**-0.5)}
    if bias is not None and bias.shape[2] == 1:
        shared["bias"] = ops.cast(bias, query.dtype)
    elif bias is not None:
        blocked["bias"] = in_blocks(ops.transpose(ops.cast(bias, query.dtype), (0, 2, 1, 3)))
    if seed is not None:
        blocked["seed"] = tf.random.split(seed, blocks)

    @keras.remat  # of which only arguments have gradients
    def attend(shared: dict[str, Tensor], block: dict[str, Tensor]) -> Tensor:
        given = shared | block
        scores = ops.matmul(given["query"], given["columns"])
        probabilities = ops.softmax(scores + given["bias"] if "bias" in given else scores)
        if "seed" in given:
            probabilities = tf.nn.experimental.stateless_dropout(probabilities, rate, given["seed"])
        return ops.matmul(probabilities, given["rows"])

    context = tf.map_fn(partial(attend, shared), blocked, parallel_iterations=1, fn_output_signature=query.dtype)
    context = ops.reshape(ops.transpose(context, (1, 0, 3, 2, 4)), (-1, blocks * size, heads, value.shape[-1]))
    return context[:, :queries]


def in_blocks_of_tokens(
    function: Callable[[Tensor], Tensor], hidden_states: Float[Tensor, "batch tokens hidden"]
) -> Float[Tensor, "batch tokens hidden"]:
    """What a function makes of each token by itself, a block of tokens at a time if a graph knows that there are many.

    Args:
        function: takes and returns hidden states.
        hidden_states: (batch, tokens, hidden).
    """
    _, tokens, hidden = hidden_states.shape
    if tokens is None or tokens <= TOKENS:
        return function(hidden_states)
    blocks, size, padding = _sizes(tokens, TOKENS)
    padded = tf.pad(hidden_states, [(0, 0), (0, padding), (0, 0)])
    blocked = ops.transpose(ops.reshape(padded, (-1, blocks, size, hidden)), (1, 0, 2, 3))
    computed = tf.map_fn(function, blocked, parallel_iterations=1)
    return ops.reshape(ops.transpose(computed, (1, 0, 2, 3)), (-1, blocks * size, hidden))[:, :tokens]


def _sizes(count: Any, largest: int) -> tuple[Any, Any, Any]:
    """How many blocks there are, of how many each, and how many are missing in the last."""
    blocks = -(-count // largest)
    size = -(-count // blocks)
    return blocks, size, blocks * size - count
