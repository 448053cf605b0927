"""NumPy's archives of arrays, as Google's Vision Transformers are published, mapped where they are not compressed.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. A file is a zip archive with an array
`NAME.npy` for each name; names of weights contain slashes ("Transformer/encoderblock_0/LayerNorm_0/scale").
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from conversion.containers.zip_file import ZipEntry, ZipWriter, open_zip
from vit_core.checks import shown
from vit_core.mapped_tensor import mapped_tensor, view_as
from vit_core.stored_tensor import DTYPES, StoredTensor, is_shape

SUFFIX = ".npy"
MAGIC = b"\x93NUMPY"
LARGEST_HEADER = 10_000  # numpy's limit
#: Major version -> how the length of the header is written.
LENGTHS = {1: struct.Struct("<H"), 2: struct.Struct("<I"), 3: struct.Struct("<I")}
#: numpy's letter and size -> dtype name. JAX saves bfloat16 as two bytes that numpy knows nothing about.
CODES = {np.dtype(code).str[1:]: name for name, code in DTYPES.items() if name != "BF16"} | {"V2": "BF16"}

# The header is a dict in Python's spelling. Evaluating it, even as a literal, lets out whatever the parser of this
# Python raises or warns of; that of an array of numbers has three plain fields. Python 2 wrote sizes as 3L.
_FIELD = re.compile(
    r"""\s*(['"])(descr|fortran_order|shape)\1\s*:\s*('[^']*'|"[^"]*"|True|False|\([0-9L,\s]*\))\s*(?:,\s*|$)"""
)
_SIZES = re.compile(r"\((?:\s*[0-9]{1,19}L?\s*,)*(?:\s*[0-9]{1,19}L?)?\s*\)")


def read_npz(path: Path, mmap: bool = True) -> dict[str, StoredTensor]:
    """Open a file without reading its arrays; compressed ones are decompressed when read and held to their checksum.

    Those that are stored as they are, which is usual, are mapped and not compared with it, which would read them all;
    with `mmap=False` they are read, and compared.

    Args:
        path: what `numpy.savez` or `numpy.savez_compressed` wrote; nothing it says is believed before it is checked
            against the file's size, and nothing is unpickled.
        mmap: whether its bytes are mapped rather than read; see `vit_core.file_bytes`.

    Returns:
        Its arrays by name, in the order of the file. Arrays of either byte order and memory order are read; void of two
        bytes is bfloat16. What is no `.npy` is left out.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is truncated, corrupt, hostile, or holds something else than numbers.
    """
    entries = open_zip(path, "npz file", mmap)
    arrays = {name.removesuffix(SUFFIX): entry for name, entry in entries.items() if name.endswith(SUFFIX)}
    if entries and not arrays:
        raise ValueError(
            f"{path} holds {shown(next(iter(entries)))} and no {SUFFIX}; it is an archive of another kind."
        )
    return {name: _open_array(f"{shown(name)} in {path}", entry) for name, entry in arrays.items()}


def write_npz(path: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """Write a file that `numpy.load` reads, uncompressed, reading one tensor at a time.

    Args:
        path: the file to create. It is flushed to disk; to replace a file atomically see `vit_core.saving`.
        tensors: what it holds, in this order; bfloat16 becomes void of two bytes, as JAX saves it.

    Raises:
        OSError: it cannot be written.
        ValueError: a name is too long, or no UTF-8.
    """
    with ZipWriter(path) as archive:
        for name, tensor in tensors.items():
            code = "|V2" if tensor.dtype == "BF16" else np.dtype(DTYPES[tensor.dtype]).str
            archive.write(f"{name}{SUFFIX}", npy_header(code, tensor.shape), tensor.read())


def npy_header(code: str, shape: tuple[int, ...]) -> bytes:
    """What stands before the values of an array, in row order, of a numpy type and a shape."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": code, "fortran_order": False, "shape": shape})
    return header.getvalue()


def _open_array(where: str, entry: ZipEntry) -> StoredTensor:
    start, text = _read_header(where, entry)
    dtype, shape, is_big_endian, in_columns = _described(where, text)
    needed = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if entry.size - start != needed:
        raise ValueError(
            f"{where} has {entry.size - start} bytes of values, but shape {shape} as {dtype} takes {needed}; it is "
            f"corrupt, get the file again."
        )
    if entry.is_stored and not is_big_endian:
        return mapped_tensor(entry.mapped()[start:], dtype, shape, in_columns)

    def read() -> np.ndarray:
        values = view_as(entry.read()[start:], dtype, shape, in_columns)
        return values.byteswap() if is_big_endian else values

    return StoredTensor(dtype, shape, read)


def _read_header(where: str, entry: ZipEntry) -> tuple[int, str]:
    """Where the values start, and the text that describes them."""
    head = entry.head(LARGEST_HEADER)
    length = LENGTHS.get(head[6]) if head.startswith(MAGIC) and len(head) > 8 else None
    if length is None:
        raise ValueError(f"{where} starts with {shown(head[:8])}, so it is no array that is known; get the file again.")
    start = len(MAGIC) + 2 + length.size
    if start > len(head):
        raise ValueError(f"{where} has {entry.size} bytes, too few for an array; get the file again.")
    (size,) = length.unpack_from(head, len(MAGIC) + 2)
    if start + size > len(head):
        raise ValueError(
            f"{where} claims a header of {size} bytes, but has {entry.size} and at most {LARGEST_HEADER} are accepted; "
            f"it is corrupt, get the file again."
        )
    return start + size, head[start : start + size].decode("latin-1")


def _described(where: str, text: str) -> tuple[str, tuple[int, ...], bool, bool]:
    """Dtype name and shape of an array, and whether its bytes and its axes are in reverse order."""
    fields = _fields(text.strip())
    code = fields.get("descr", "''")[1:-1]
    if code[1:2] == "O":
        raise ValueError(f"{where} holds pickled objects, which could run code; save its arrays as numbers.")
    order, letters = code[:1], code[1:]
    sizes = _SIZES.fullmatch(fields.get("shape", ""))
    shape = tuple(int(size) for size in re.findall("[0-9]+", sizes[0])) if sizes else ()
    in_columns = fields.get("fortran_order")
    if not sizes or not is_shape(shape) or in_columns not in ("True", "False"):
        raise ValueError(
            f"{where} describes itself as {shown(text)}, which is no array of numbers; get the file again."
        )
    if letters not in CODES or order not in "<|>" or (letters == "V2" and order == ">"):
        raise ValueError(f"{where} has the dtype {shown(code)}; supported are {', '.join(CODES)}; save it as float32.")
    return CODES[letters], shape, order == ">", in_columns == "True"


def _fields(text: str) -> dict[str, str]:
    """The fields of a header as they are spelled; none unless it consists of the three that it should have."""
    if text[:1] != "{" or text[-1:] != "}":
        return {}
    body = text[1:-1]
    fields: dict[str, str] = {}
    position = 0
    while position < len(body) and (match := _FIELD.match(body, position)):
        fields[match[2]] = match[3]
        position = match.end()
    return fields if position == len(body) else {}
