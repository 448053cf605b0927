"""The bytes of a file: mapped, so that they are read when they are needed and no memory is taken twice, or read."""

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np


def file_bytes(file: BinaryIO, start: int = 0, mmap: bool = True) -> np.ndarray:
    """The bytes of an open file from a place on.

    Args:
        file: the file.
        start: the place, at most at the end of the file.
        mmap: whether the bytes are mapped rather than read. Mapped ones stay valid when the file is closed, replaced
            or removed; but if somebody writes into it, they change, and if somebody cuts it short, the system ends the
            process that looks at what is gone. Read ones are a copy in memory.

    Returns:
        uint8 of shape `(length,)`; writing to it changes this process's memory, never the file.

    Raises:
        OSError: the file is cut short while it is read, or the memory does not suffice.
    """
    length = os.fstat(file.fileno()).st_size - start
    if length <= 0:  # which cannot be mapped
        return np.empty(0, np.uint8)
    if mmap:  # "c" is copy-on-write; asarray drops the memmap class, which would follow every view
        return np.asarray(np.memmap(file, np.uint8, "c", start, length))
    try:
        content = np.empty(length, np.uint8)
    except MemoryError as error:
        raise OSError(f"{file.name} has {length} bytes, more than memory is left; map it, with mmap=True.") from error
    file.seek(start)
    if (read := file.readinto(content.data)) != length:  # type: ignore[attr-defined]
        raise OSError(f"{file.name} ends {length - read} bytes earlier than when it was opened; get it again.")
    return content
