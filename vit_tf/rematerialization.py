"""Gradient checkpointing: activations that are computed again rather than kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def recomputed(layer: keras.layers.Layer) -> Callable[..., Any]:
    """A layer's call in training that keeps no activations; the backward pass runs the layer again (`keras.remat`).

    Dropout's random state is a variable that each run moves on. So the layer is run as a function of its variables, and
    both runs drop the same.
    """

    def call(*inputs: Any, **options: Any) -> Any:
        weights, states = layer.trainable_variables, layer.non_trainable_variables
        before = [tf.identity(state.value) for state in states]
        after = []

        def run(*tensors: Any) -> Any:
            values, inputs = tensors[: len(weights)], tensors[len(weights) :]
            with keras.StatelessScope([*zip([*weights, *states], [*values, *before], strict=True)]) as scope:
                outputs = layer(*inputs, **options, training=True)
            after.append([scope.get_current_value(state) for state in states])
            return outputs

        given = [each for each in inputs if each is not None]  # only tensors have gradients
        outputs = keras.remat(run)(*(tf.identity(weight.value) for weight in weights), *given)
        for state, value in zip(states, after[0], strict=True):
            state.assign(value)
        return outputs

    return call
