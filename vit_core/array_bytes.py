"""The bytes of arrays: in row order, and to a file; large arrays in small steps, which is several times as fast."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

CACHE_LINE = 64  # bytes
#: Bytes given to a file at once. Given a whole tensor, a file system may look for as much memory in one piece.
STEP = 2**18


def steps_of(array: np.ndarray) -> Iterator[memoryview]:
    """The array's bytes in row order, in pieces to be written one after the other."""
    content = contiguous(array).reshape(-1).view(np.uint8).data
    return (content[start : start + STEP] for start in range(0, len(content), STEP))


def contiguous(array: np.ndarray) -> np.ndarray:
    """The array with its last axis contiguous in memory, and so on: itself if it is so already.

    A transposed matrix, whose axes may be split in several, is copied in strips as wide as a line of the processor's
    cache: numpy goes along rows and would fetch a line from memory for each entry.
    """
    if array.flags.c_contiguous:
        return array
    shape, strides = _without_splits(array)
    if len(shape) != 2 or strides[0] != array.itemsize:
        return np.ascontiguousarray(array)
    matrix = as_strided(array, shape, strides)
    copy = np.empty(shape, array.dtype)
    width = max(1, CACHE_LINE // array.itemsize)
    for start in range(0, shape[1], width):
        copy[:, start : start + width] = matrix[:, start : start + width]
    return copy.reshape(array.shape)


def _without_splits(array: np.ndarray) -> tuple[list[int], list[int]]:
    """Shape and strides with axes joined that lie in memory as one."""
    shape: list[int] = []
    strides: list[int] = []
    for length, stride in zip(array.shape, array.strides, strict=True):
        if length == 1:
            continue
        if strides and strides[-1] == length * stride:
            shape[-1], strides[-1] = shape[-1] * length, stride
        else:
            shape.append(length)
            strides.append(stride)
    return shape, strides
