"""Tensors that are views of the bytes of a file."""

from __future__ import annotations

import numpy as np

from vit_core.stored_tensor import DTYPES, StoredTensor


def mapped_tensor(data: np.ndarray, dtype: str, shape: tuple[int, ...], in_columns: bool = False) -> StoredTensor:
    """A tensor that is a view of bytes, or a copy made when read if they are not aligned, as frameworks need them.

    Args:
        data: its bytes, uint8, as many as shape and dtype take.
        dtype: a name of `vit_core.stored_tensor.DTYPES`.
        shape: its shape, one that `vit_core.stored_tensor.is_shape` accepts.
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
