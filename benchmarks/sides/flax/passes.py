"""Compiled forward passes and training steps of any model in JAX."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import pixels
from benchmarks.models import IMAGE
from benchmarks.worker import Prepared

LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.01
DTYPES = {"float32": jnp.float32, "tf32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
#: What XLA may do with float32 on a card.
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32"}

Call = Callable[[Any, Any], Any]  # from parameters and images to logits or hidden states


def forward(
    call: Call, params: Any, batch: int, dtype: str, image: int = IMAGE, channels_last: bool = False
) -> Prepared:
    """Forward passes."""
    images = jnp.asarray(pixels.images(batch, image, channels_last))
    function = jax.jit(call)

    def run() -> Any:
        with jax.default_matmul_precision(PRECISIONS.get(dtype)):
            return jax.block_until_ready(function(params, images))

    return Prepared(run, lambda: pixels.answer(np.asarray(run(), np.float32)))


def training(call: Call) -> tuple[optax.GradientTransformation, Any]:
    """An optimizer, and a compiled step that is given its memory: from a state and a batch to the next and the loss."""
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, images: Any, labels: Any) -> tuple[Any, Any, Any]:
        def loss(params: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(call(params, images), labels).mean()

        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    return optimizer, step


def step(call: Call, params: Any, batch: int, dtype: str, image: int = IMAGE, channels_last: bool = False) -> Prepared:
    """Training steps, one after the other."""
    optimizer, advance = training(call)
    images, labels = jnp.asarray(pixels.images(batch, image, channels_last)), jnp.asarray(pixels.labels(batch))
    state = (jax.tree.map(jnp.array, params), optimizer.init(params))

    def run() -> None:
        nonlocal state
        *state, _ = jax.block_until_ready(advance(*state, images, labels))

    return Prepared(run)


KINDS: dict[str, Callable[..., Prepared]] = {"forward": forward, "training step": step}
