"""Weights that a caller of `from_pretrained` gives instead of a checkpoint's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from vit_core.array_bytes import contiguous
from vit_core.stored_tensor import FLOAT_CODES, StoredTensor


def stored_arrays(arrays: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """Arrays as tensors of a checkpoint.

    Args:
        arrays: by canonical name: numpy's, TensorFlow's, Keras' or PyTorch's.

    Raises:
        TypeError: something is no array.
        ValueError: one is of a dtype that checkpoints do not hold.
    """
    if not isinstance(arrays, Mapping):
        raise TypeError(f"state_dict is a {type(arrays).__name__}; pass arrays by canonical name.")
    stored = {}
    for name, value in arrays.items():
        if not hasattr(value, "shape") or not hasattr(value, "dtype"):
            raise TypeError(f"state_dict holds {name!r}, a {type(value).__name__}; pass arrays by canonical name.")
        array = _copied(value)
        if array.dtype.name not in FLOAT_CODES:
            raise ValueError(
                f"state_dict holds {name!r} of {array.dtype}; weights are of {', '.join(sorted(FLOAT_CODES))}."
            )
        stored[name] = StoredTensor(FLOAT_CODES[array.dtype.name], array.shape, partial(_read, array))
    return stored


def _copied(value: Any) -> np.ndarray:
    """A numpy array that no longer is the caller's."""
    if hasattr(value, "detach"):  # a torch.Tensor, which may be of bfloat16
        value = tf.experimental.dlpack.from_dlpack(value.detach().cpu().contiguous().__dlpack__())
    return np.array(value.numpy() if hasattr(value, "numpy") else value)


def _read(array: np.ndarray) -> np.ndarray:
    array = contiguous(array)
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array
