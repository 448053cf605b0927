"""What every part of a model is: a Keras layer whose own parts can be replaced, also after it was built."""

from __future__ import annotations

from typing import Any

import keras


class Replaceable:
    """Takes another layer, or a list of layers, in the place of one that it has.

    Keras refuses that once a layer is built; scripts do it with a loaded model: `model.classifier = Dense(10)`.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        tracker = vars(self).get("_tracker")
        if tracker is None or not getattr(tracker, "locked", False) or not _layers(value):
            super().__setattr__(name, value)
            return
        tracker.unlock()
        try:
            for layer in _layers(vars(self).get(name)):  # whose variables are no longer the model's
                tracker.untrack(layer)
            super().__setattr__(name, value)
        finally:
            tracker.lock()


class Part(Replaceable, keras.layers.Layer):
    """A part of a model."""


def _layers(value: Any) -> list[keras.layers.Layer]:
    """A layer, or those of a list."""
    if isinstance(value, list | tuple):
        return [layer for each in value for layer in _layers(each)]
    return [value] if isinstance(value, keras.layers.Layer) else []
