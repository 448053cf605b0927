"""What an HDF5 file says is in it and where, without the HDF5 library.

That library is written for files one trusts: a changed byte can make it loop for ever or end the process, and links make
it open other files. What h5py and so Keras write by default is the oldest and simplest layout of the format; it is read
here, bounded by the length of the file, and every other layout is refused. Specification:
https://support.hdfgroup.org/documentation/hdf5/latest/ ("HDF5 File Format Specification Version 3.0"); its sections are
named at the functions.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from conversion.mapped_file import is_shape
from conversion.zip_file import DEFLATE_EXPANSION, HARMLESS_SIZE, LARGEST_EXPANSION
from vit_core.safetensors_file import DTYPES, shown

LARGEST_COUNT = 100_000  # links; a ViT-H with its optimizer has some thousand
LARGEST_DEPTH = 64  # of groups in groups; Keras nests some ten
BFLOAT16_MARK = ("dtype", "bfloat16")  # Keras' attribute of a dataset whose values are opaque to HDF5
GZIP, SHUFFLE, LZF = 1, 2, 32000
#: What may be done to chunks, in the order it was done, and how far that shrinks them at most.
FILTERS = {
    (): 1,
    (SHUFFLE,): 1,
    (GZIP,): DEFLATE_EXPANSION,
    (SHUFFLE, GZIP): DEFLATE_EXPANSION,
    (LZF,): 88,  # three bytes for a repetition of at most 264
    (SHUFFLE, LZF): 88,
}

SIGNATURE = b"\x89HDF\r\n\x1a\n"
NOWHERE = 0xFFFFFFFFFFFFFFFF  # the address of what does not exist

# Types of messages in an object's header.
DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL_FILES, LAYOUT = 0x1, 0x2, 0x3, 0x6, 0x7, 0x8
PIPELINE, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE = 0xB, 0xC, 0x10, 0x11
COMPACT, CONTIGUOUS, CHUNKED = 0, 1, 2  # layouts
NO_LINK, SOFT_LINK = (0, 1), 2  # what an entry of a symbol table says of itself
IS_SHARED = 2  # a flag of messages: their content is elsewhere


class Unfit(ValueError):
    """What is wrong with a file, and what to do."""


class Chunk(NamedTuple):
    """A part of a dataset, as it is in the file."""

    origin: tuple[int, ...]  # its first element in the dataset
    skipped: int  # bit i: filter i was not applied
    start: int
    end: int


class Dataset(NamedTuple):
    """What a file says of a dataset; one that is in one piece is one chunk of its own shape."""

    dtype: str
    shape: tuple[int, ...]
    is_big_endian: bool
    filters: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    chunks: list[Chunk]

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """The bytes of a part of that shape."""
        return math.prod(shape) * np.dtype(DTYPES[self.dtype]).itemsize

    def applied(self, chunk: Chunk) -> tuple[int, ...]:
        """The filters that a chunk went through."""
        return tuple(code for i, code in enumerate(self.filters) if not chunk.skipped >> i & 1)
