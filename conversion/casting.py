"""One pass over the tensors of a checkpoint: in another dtype, without NaN, and without keeping them in memory."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from conversion.formats.format import Tensors
from vit_core.array_bytes import STEP, contiguous
from vit_core.stored_tensor import FLOAT_CODES, FLOAT_NAMES, StoredTensor

#: Called with a tensor's name, the bytes read so far and all bytes.
Progress = Callable[[str, int, int], None]


@dataclass
class Cast:
    """Tensors to be read once, one after the other.

    Attributes:
        dtype: the name of the dtype to convert to; None leaves each tensor as it is.
        allow_nan: whether NaN is passed on rather than refused.
        progress: told of each tensor before it is read.
    """

    dtype: str | None = None
    allow_nan: bool = False
    progress: Progress | None = None
    _done: int = 0
    _seen: set[str] = field(default_factory=set)
    _nan: dict[str, int] = field(default_factory=dict)
    _previous: np.ndarray | None = field(default=None, repr=False)

    def through(self, tensors: Tensors) -> dict[str, StoredTensor]:
        """The tensors, each of which is converted and checked when it is read.

        Reading raises ValueError for NaN, and for a value that the dtype cannot hold.
        """
        total = sum(tensor.nbytes for tensor in tensors.values())
        return {name: self._passed(name, tensor, total) for name, tensor in tensors.items()}

    def notes(self) -> list[str]:
        """What was found in passing, in sentences."""
        return [f"{name} has NaN, {count} of its values" for name, count in self._nan.items()]

    def _passed(self, name: str, tensor: StoredTensor, total: int) -> StoredTensor:
        is_float = tensor.dtype in FLOAT_NAMES
        code = FLOAT_CODES[self.dtype] if self.dtype and is_float else tensor.dtype

        def read() -> np.ndarray:
            if self._previous is not None:
                forget(self._previous)
            if self.progress and name not in self._seen:
                self.progress(name, self._done, total)
                self._done += tensor.nbytes
                self._seen.add(name)
            self._previous = tensor.read()
            if is_float and (count := _count_nan(tensor, self._previous)):
                if not self.allow_nan:
                    raise ValueError(
                        f"{name} has NaN, {count} of its values; allow_nan=True (--allow-nan) converts it all the same."
                    )
                self._nan[name] = count
            return self._previous if code == tensor.dtype else _cast(name, tensor, code)

        return StoredTensor(code, tensor.shape, read)


def forget(array: np.ndarray) -> None:
    """Give back the memory of a mapped file's pages, which come back from the file when they are needed again."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap) or sys.platform != "linux":
        return
    start = array.__array_interface__["data"][0] - np.frombuffer(base, np.uint8).ctypes.data
    span = sum((length - 1) * abs(stride) for length, stride in zip(array.shape, array.strides, strict=True))
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (start + span) // mmap.PAGESIZE * mmap.PAGESIZE
    if array.size and last > first:
        base.madvise(mmap.MADV_DONTNEED, first, last - first)


def _count_nan(tensor: StoredTensor, bits: np.ndarray) -> int:
    values = tensor.numpy() if tensor.dtype == "BF16" else bits
    if not values.size or not np.isnan(np.max(values)):  # max returns NaN if there is one, and takes no memory
        return 0
    return int(np.isnan(values).sum())


def _cast(name: str, tensor: StoredTensor, code: str) -> np.ndarray:
    values = tensor.numpy()
    with np.errstate(over="ignore"):
        cast = values.astype("float32" if code == "BF16" else FLOAT_NAMES[code], copy=False)
    bits = _to_bfloat16(cast) if code == "BF16" else cast
    if (np.isinf(StoredTensor(code, bits.shape, lambda: bits).numpy()) & np.isfinite(values)).any():
        largest = np.abs(values[np.isfinite(values)]).max()
        raise ValueError(
            f"{name} has values up to {largest:g}, which {FLOAT_NAMES[code]} cannot hold; convert to another dtype."
        )
    return bits


def _to_bfloat16(values: np.ndarray) -> np.ndarray:
    """The bits of the bfloat16 nearest to each float32, of two equally near the even one; NaN stays NaN."""
    bits = contiguous(values).reshape(-1).view(np.uint32)
    rounded = np.empty(bits.shape, np.uint16)
    for start in range(0, bits.size, STEP):
        step = bits[start : start + STEP]
        rounded[start : start + STEP] = (step + (0x7FFF + ((step >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    if bits.size and np.isnan(np.max(values)):
        rounded[np.isnan(values).reshape(-1)] = 0x7FC0
    return rounded.reshape(values.shape)
