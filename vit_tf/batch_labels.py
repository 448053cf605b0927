"""Where a batch has its labels: among the inputs, as scripts for transformers have them, or as Keras' targets."""

from __future__ import annotations

from collections.abc import Mapping
from types import GeneratorType
from typing import Any

import keras


def with_labels_as_targets(data: Any) -> Any:
    """A batch whose labels, if they are among the inputs, are its targets."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    return keras.utils.pack_x_y_sample_weight(*with_labels_apart(x, y), sample_weight)


def with_labels_apart(x: Any, y: Any) -> tuple[Any, Any]:
    """Inputs without labels and, unless there are targets, the labels as targets; what processors return is a dict."""
    y = _bare(y)
    if isinstance(x, GeneratorType):  # Keras takes tuples from them, also of a dict alone
        return (batch if isinstance(batch, tuple) else (batch,) for batch in x), y
    if not isinstance(x, Mapping):
        return x, y
    inputs = {name: value for name, value in x.items() if name != "labels"}
    return inputs, x.get("labels") if y is None else y


def _bare(y: Any) -> Any:
    """The labels of targets that are a dict of them alone."""
    return y["labels"] if isinstance(y, Mapping) and set(y) == {"labels"} else of_logits(y)


def of_logits(value: Any) -> Any:
    """What a script says of the output's logits by their name, which here are the only ones that have targets."""
    return value["logits"] if isinstance(value, Mapping) and set(value) == {"logits"} else value
