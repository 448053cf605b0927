"""A file in memory that takes memory only where something was written."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

PAGE = 2**12  # bytes


class SparseFile(io.RawIOBase):
    """An empty file to be read and written at any place.

    Attributes:
        size: its length in bytes.
    """

    def __init__(self) -> None:
        self.size = 0
        self._position = 0
        self._pages: dict[int, bytearray] = {}

    def pages(self) -> Iterator[tuple[int, bytes]]:
        """What was written, in order: (place, bytes), cut off at the end of the file."""
        for number, content in sorted(self._pages.items()):
            start = number * PAGE
            if start < self.size:
                yield start, bytes(content[: self.size - start])

    def readable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See `io.IOBase.seek`."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase.readinto`; what was never written is zero."""
        view = memoryview(buffer).cast("B")
        length = max(0, min(len(view), self.size - self._position))
        for number, start, end, done in self._parts(length):
            page = self._pages.get(number)
            view[done : done + end - start] = bytes(end - start) if page is None else page[start:end]
        self._position += length
        return length

    def write(self, content: Any) -> int:
        """See `io.RawIOBase.write`."""
        view = memoryview(content).cast("B")
        for number, start, end, done in self._parts(len(view)):
            self._pages.setdefault(number, bytearray(PAGE))[start:end] = view[done : done + end - start]
        self._position += len(view)
        self.size = max(self.size, self._position)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """See `io.IOBase.truncate`. What lies behind the new end is not forgotten: nobody makes this file shorter."""
        self.size = self._position if size is None else size
        return self.size

    def _parts(self, length: int) -> Iterator[tuple[int, int, int, int]]:
        """The pages from the position on: (number, first byte in it, byte after the last, bytes in those before)."""
        done = 0
        while done < length:
            number, start = divmod(self._position + done, PAGE)
            end = min(PAGE, start + length - done)
            yield number, start, end, done
            done += end - start
