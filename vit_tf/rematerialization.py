"""Gradient checkpointing: activations that are computed again rather than kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def recomputed(layer: keras.layers.Layer) -> Callable[..., Any]:
    """A layer's call that keeps no activations; the backward pass runs the layer again (`keras.remat`).

    Dropout's random state is a variable that each run moves on. So the layer is run as a function of its state, and
    both runs drop the same.
    """

    def call(*inputs: Any, **options: Any) -> Any:
        state = [ops.convert_to_tensor(variable) for variable in layer.non_trainable_variables]  # as it is now
        moved_on = []

        def run(weights: list[Any], *inputs: Any) -> Any:
            outputs, new_state = layer.stateless_call(weights, state, *inputs, **options)
            moved_on.append(new_state)
            return outputs

        weights = [ops.convert_to_tensor(variable) for variable in layer.trainable_variables]
        outputs = keras.remat(run)(weights, *(each for each in inputs if each is not None))
        for variable, value in zip(layer.non_trainable_variables, moved_on[0], strict=True):
            variable.assign(value)
        return outputs

    return call
