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
        if tracker is None or not getattr(tracker, "locked", False) or not _holds_layers(value):
            super().__setattr__(name, value)
            return
        tracker.unlock()
        try:
            if name in vars(self):
                delattr(self, name)  # so that its variables are no longer the model's
            super().__setattr__(name, value)
        finally:
            tracker.lock()


class Part(Replaceable, keras.layers.Layer):
    """A part of a model."""


def _holds_layers(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_layers, value))
    return isinstance(value, keras.layers.Layer)
