"""Rows become a batch: the default data collator of transformers 4, which in transformers 5 knows no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

#: return_tensors -> what makes a tensor of an array, and the dtypes of Python's numbers: those of the framework.
BATCH_TYPES: dict[str, tuple[tuple[str, str], dict[str, str]]] = {
    "np": (("numpy", "asarray"), {}),
    "tf": (("tensorflow", "constant"), {"float64": "float32", "int64": "int32"}),
    "pt": (("torch", "from_numpy"), {"float64": "float32"}),
}
LABELS = ("label", "label_ids", "labels")  # the first that a row has is the batch's "labels"


@dataclass
class DefaultDataCollator:
    """Collates rows into a batch; see `default_data_collator`.

    Args:
        return_tensors: "tf", "np" or "pt".
    """

    return_tensors: str = "pt"

    def __call__(self, features: Sequence[Any], return_tensors: str | None = None) -> dict[str, Any]:
        """Collate rows; see `default_data_collator`."""
        return default_data_collator(features, return_tensors or self.return_tensors)


def default_data_collator(features: Sequence[Any], return_tensors: str = "pt") -> dict[str, Any]:
    """Collate rows into a batch.

    The label of a row, "label", "label_ids" or "labels", is called "labels" in the batch: int64 if it is a whole number
    and else float32. Strings and None are left out.

    Args:
        features: the rows, dicts or objects with attributes; all have what the first has.
        return_tensors: "tf", "np" or "pt".

    Returns:
        A dict of tensors whose first axis counts the rows.

    Raises:
        ValueError: there is no row, a row lacks something, the shapes of two rows differ, or there is no such
            `return_tensors`.
        ImportError: the framework is not installed.
    """
    to_tensor, dtypes = _framework(return_tensors)
    if not len(features):
        raise ValueError("there are no rows to collate; give at least one.")
    rows = [row if isinstance(row, Mapping) else vars(row) for row in features]
    label = next((name for name in LABELS if rows[0].get(name) is not None), None)
    batch = {}
    if label is not None:
        array, is_python = _stacked(rows, label)
        if label == "label" or is_python or return_tensors == "tf":
            array = array.astype("int64" if array.dtype.kind in "iub" else "float32")
        batch["labels"] = to_tensor(array)
    for name, value in rows[0].items():
        if name in LABELS or value is None or isinstance(value, str):
            continue
        array, is_python = _stacked(rows, name)
        if is_python:
            array = array.astype(dtypes.get(array.dtype.name, array.dtype.name))
        batch[name] = to_tensor(array)
    return batch


def _framework(return_tensors: str) -> tuple[Callable[[np.ndarray], Any], dict[str, str]]:
    if return_tensors not in BATCH_TYPES:
        raise ValueError(f'return_tensors is {return_tensors!r}; it must be "tf", "np" or "pt".')
    (module, function), dtypes = BATCH_TYPES[return_tensors]
    try:
        return getattr(import_module(module), function), dtypes
    except ImportError as error:
        raise ImportError(
            f'return_tensors="{return_tensors}" needs {module}, which is not installed; return_tensors="tf" does not.'
        ) from error


def _stacked(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, bool]:
    """What the rows have under a name as one array, and whether it was made of Python's numbers."""
    for index, row in enumerate(rows):
        if row.get(name) is None:
            raise ValueError(f"rows[0] has {name} and rows[{index}] has not; give every row the same items.")
    arrays = [np.asarray(row[name]) for row in rows]
    for index, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"{name} cannot be one tensor: it has shape {arrays[0].shape} in rows[0] and {array.shape} in "
                f"rows[{index}]. Give every row the same size, or pass a collate function of your own."
            )
    return np.stack(arrays), not hasattr(rows[0][name], "dtype")
