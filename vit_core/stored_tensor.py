"""Tensors of a checkpoint, wherever they are stored: shape and dtype are known, values are read when asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: dtype name -> numpy's type of its bytes. In this order of dtypes, from the last to the first, safetensors files hold
#: their tensors; within one dtype they are sorted by name. Numpy has no bfloat16: its bits travel as uint16.
DTYPES: dict[str, str] = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "I16": "<i2",
    "U16": "<u2",
    "F16": "<f2",
    "BF16": "<u2",
    "I32": "<i4",
    "U32": "<u4",
    "F32": "<f4",
    "F64": "<f8",
    "I64": "<i8",
    "U64": "<u8",
}
#: dtype name -> the name that configs and frameworks use, for the dtypes of weights.
FLOAT_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
FLOAT_CODES = {name: code for code, name in FLOAT_NAMES.items()}

LARGEST_RANK = 32  # of arrays before numpy 2
LARGEST_OFFSET = 2**63 - 1


@dataclass(frozen=True)
class StoredTensor:
    """A tensor whose shape is known and whose values are read when asked for.

    Attributes:
        dtype: a name of `DTYPES`.
        shape: its shape.
        read: returns its bits as an array of that shape and of the numpy type in `DTYPES`. From a file it is a mapped
            view: writing to it changes this process's memory, never the file.
    """

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * np.dtype(DTYPES[self.dtype]).itemsize

    def numpy(self) -> np.ndarray:
        """Its values; bfloat16 as float32, which holds each of them exactly."""
        bits = self.read()
        if self.dtype != "BF16":
            return bits
        widened = bits.astype(np.uint32)
        widened <<= np.uint32(16)  # in place, since an operator would make a scalar of an array without axes
        return widened.view(np.float32)


def is_size(number: Any) -> bool:
    """Whether a number can be a size or an offset."""
    return type(number) is int and 0 <= number <= LARGEST_OFFSET  # True is an int, too


def is_shape(sizes: Sequence[Any]) -> bool:
    """Whether there can be an array of that shape: numpy counts an empty one without its axes of length zero."""
    if len(sizes) > LARGEST_RANK or not all(map(is_size, sizes)):
        return False
    return math.prod(size or 1 for size in sizes) <= LARGEST_OFFSET // 8  # of the largest dtype


def first_float_name(tensors: Mapping[str, StoredTensor]) -> str | None:
    """The name of the first floating-point dtype among tensors, such as "bfloat16"; None if there is none."""
    return next((FLOAT_NAMES[tensor.dtype] for tensor in tensors.values() if tensor.dtype in FLOAT_NAMES), None)


def from_numpy(array: np.ndarray) -> StoredTensor:
    """A tensor that is in memory."""
    return StoredTensor(dtype_name(array.dtype), array.shape, lambda: array)


def dtype_name(dtype: np.dtype) -> str:
    """The name of `DTYPES` for a numpy dtype.

    Raises:
        TypeError: files have no such dtype.
    """
    names = {np.dtype(code): name for name, code in DTYPES.items() if name != "BF16"}
    if dtype not in names:
        raise TypeError(f"tensors of dtype {dtype} have no place in a checkpoint; convert them to float32.")
    return names[dtype]
