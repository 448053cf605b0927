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
        named = {name: value for name, value in options.items() if tf.is_tensor(value)}
        # Only tensors have gradients, and only those that are handed over.
        given = [*inputs, *named.values()]
        places = [index for index, each in enumerate(given) if each is not None]
        weights, states = layer.trainable_variables, layer.non_trainable_variables
        before = [tf.identity(state.value) for state in states]
        after = []

        def run(*tensors: Any) -> Any:
            values, passed = tensors[: len(weights)], dict(zip(places, tensors[len(weights) :], strict=True))
            filled = [passed.get(index) for index in range(len(given))]
            tensors_by_name = dict(zip(named, filled[len(inputs) :], strict=True))
            with keras.StatelessScope([*zip([*weights, *states], [*values, *before], strict=True)]) as scope:
                outputs = layer(*filled[: len(inputs)], **{**options, **tensors_by_name}, training=True)
            after.append([scope.get_current_value(state) for state in states])
            return outputs

        passed_on = (given[index] for index in places)
        outputs = keras.remat(run)(*(tf.identity(weight.value) for weight in weights), *passed_on)
        for state, value in zip(states, after[0], strict=True):
            state.assign(value)
        return outputs

    return call
