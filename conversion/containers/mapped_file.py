"""A file of weights as mapped bytes, and tensors that are views of them."""

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np

from vit_core.stored_tensor import DTYPES, StoredTensor


def map_bytes(file: BinaryIO) -> np.ndarray:
    """All bytes of an open file without reading them.

    Returns:
        uint8 of shape `(length,)`; writing to it changes this process's memory, never the file. It stays valid when the
        file is closed, replaced or removed.
    """
    if os.fstat(file.fileno()).st_size == 0:  # which cannot be mapped
        return np.empty(0, np.uint8)
    return np.asarray(np.memmap(file, np.uint8, "c"))  # asarray drops the memmap class, which would follow every view


def mapped_tensor(data: np.ndarray, dtype: str, shape: tuple[int, ...], in_columns: bool = False) -> StoredTensor:
    """A tensor that is a view of bytes, or a copy made when read if they are not aligned, as frameworks need them.

    Args:
        data: its bytes, uint8, as many as shape and dtype take.
        dtype: a name of `vit_core.stored_tensor.DTYPES`.
        shape: its shape, one that `vit_core.safetensors_file.is_shape` accepts.
        in_columns: the first index varies fastest (Fortran order), not the last.
    """

    def read() -> np.ndarray:
        return view_as(data, dtype, shape, in_columns)

    return StoredTensor(dtype, shape, read)


def view_as(data: np.ndarray, dtype: str, shape: tuple[int, ...], in_columns: bool = False) -> np.ndarray:
    """Bytes as an array; for the arguments see `mapped_tensor`."""
    numpy_dtype = np.dtype(DTYPES[dtype])
    if data.ctypes.data % numpy_dtype.itemsize:
        data = data.copy()
    values = data.view(numpy_dtype)
    return values.reshape(shape[::-1]).T if in_columns else values.reshape(shape)
