"""The safetensors file format, mapped rather than read, and written as a stream.

A file is eight bytes with the length of the header (little endian), the header (JSON: name -> dtype, shape and offsets;
padded with spaces), and the tensors' bytes without gaps. The safetensors package would copy every tensor into numpy,
knows no bfloat16 there and takes all bytes in memory to write; weights are what this project is about, so it maps and
streams them itself, and its tests hold it to the package's bytes. Format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vit_core.array_bytes import steps_of
from vit_core.checks import shown
from vit_core.file_bytes import file_bytes
from vit_core.json_file import parse_json
from vit_core.stored_tensor import DTYPES, StoredTensor

LARGEST_HEADER = 100_000_000  # the limit of the safetensors package
LARGEST_RANK = 32  # of arrays before numpy 2
LARGEST_OFFSET = 2**63 - 1
METADATA = "__metadata__"
OF_A_CHECKPOINT: Mapping[str, str] = {"format": "pt"}  # the one value every reader of ViT checkpoints accepts


def map_safetensors(path: Path, mmap: bool = True) -> dict[str, StoredTensor]:
    """Open a file without reading its tensors.

    Args:
        path: a safetensors file; nothing it says is believed before it is checked against the file's size.
        mmap: whether its bytes are mapped rather than read; see `vit_core.file_bytes`.

    Returns:
        Its tensors by name, in the order of the file.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is truncated, corrupt or no safetensors file; the message says what is wrong.
    """
    with open(path, "rb") as file:  # once: the path may hold another file a moment later
        header, start, length = _read_header(path, file)
        entries = {name: _checked_entry(path, name, entry) for name, entry in header.items() if name != METADATA}
        _check_layout(path, entries, length - start)
        data = file_bytes(file, start, mmap)
    return {name: _mapped(data, *entry) for name, entry in entries.items()}


def write_safetensors(path: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """Write a file as the safetensors package would, byte for byte, reading one tensor at a time.

    Args:
        path: the file to create. It is flushed to disk; to replace a file atomically see `vit_core.saving`.
        tensors: what it holds, in any order.

    Raises:
        OSError: it cannot be written.
        ValueError: a name is one that the format keeps for itself or cannot spell.
    """
    names, header = header_of(tensors, OF_A_CHECKPOINT)
    with open(path, "wb") as file:
        file.write(header)
        for name in names:
            file.writelines(steps_of(tensors[name].read()))
        file.flush()
        os.fsync(file.fileno())


def header_of(tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str]) -> tuple[list[str], bytes]:
    """The names of tensors in the order in which a file holds them, and what stands before their bytes.

    Args:
        tensors: what the file holds; none is read.
        metadata: what the file says beside them.

    Raises:
        ValueError: a name is one that the format keeps for itself or cannot spell.
    """
    if METADATA in tensors:
        raise ValueError(f"a tensor is named {METADATA}, which safetensors files keep for themselves; rename it.")
    rank = {dtype: index for index, dtype in enumerate(DTYPES)}
    names = sorted(tensors, key=lambda name: (-rank[tensors[name].dtype], name))
    ends = list(itertools.accumulate(tensors[name].nbytes for name in names))
    header: dict[str, Any] = {METADATA: dict(metadata)}
    for name, start, end in zip(names, [0, *ends], ends, strict=False):
        header[name] = {
            "dtype": tensors[name].dtype,
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return names, struct.pack("<Q", len(text)) + text


Entry = tuple[str, tuple[int, ...], int, int]  # dtype, shape, first byte, byte after the last


def _read_header(path: Path, file: BinaryIO) -> tuple[dict[str, Any], int, int]:
    """The header, where the tensors' bytes start, and the length of the file."""
    length = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    if len(prefix) < 8:
        raise ValueError(
            f"{path} has {length} bytes, too few for a safetensors file; it is empty or truncated, get it again."
        )
    (header_length,) = struct.unpack("<Q", prefix)
    if header_length > min(length - 8, LARGEST_HEADER):
        raise ValueError(
            f"{path} claims a header of {header_length} bytes, but the file has {length} and at most "
            f"{LARGEST_HEADER} are accepted; it is truncated or no safetensors file, get it again."
        )
    try:
        header = parse_json(file.read(header_length), strict=True)
    except ValueError as error:
        raise ValueError(f"{path} has a corrupt header ({error}); it is no safetensors file, get it again.") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path} has a header that is no JSON object; it is no safetensors file, get it again.")
    return header, 8 + header_length, length


def _checked_entry(path: Path, name: str, entry: Any) -> Entry:
    match entry:
        case {"dtype": dtype, "shape": [*shape], "data_offsets": [start, end]} if (
            is_shape(shape) and _is_size(start) and _is_size(end)
        ):
            pass
        case _:
            raise ValueError(
                f"{path} describes {shown(name)} as {shown(entry)}, which is not a dtype, a possible shape and two "
                f"offsets; it is corrupt."
            )
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{path} holds {shown(name)} as {shown(dtype)}; supported are {', '.join(DTYPES)}.")
    needed = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if end - start != needed:
        raise ValueError(
            f"{path} gives {shown(name)} {end - start} bytes, but shape {tuple(shape)} as {dtype} takes {needed}; it "
            f"is corrupt."
        )
    return dtype, tuple(shape), start, end


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number <= LARGEST_OFFSET  # True is an int, too


def is_shape(sizes: Sequence[Any]) -> bool:
    """Whether there can be an array of that shape: numpy counts an empty one without its axes of length zero."""
    if len(sizes) > LARGEST_RANK or not all(map(_is_size, sizes)):
        return False
    return math.prod(size or 1 for size in sizes) <= LARGEST_OFFSET // 8  # of the largest dtype


def _check_layout(path: Path, entries: Mapping[str, Entry], available: int) -> None:
    """Check that the tensors lie one after the other and fill the file."""
    position = 0
    for name, (_, _, start, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if start != position:
            raise ValueError(f"{path} puts {shown(name)} at byte {start} instead of {position}; it is corrupt.")
        position = end
    if position != available:
        raise ValueError(
            f"{path} has {available} bytes of tensors, but its header describes {position}; it is truncated or "
            f"corrupt, get it again."
        )


def _mapped(file: np.ndarray, dtype: str, shape: tuple[int, ...], start: int, end: int) -> StoredTensor:
    def read() -> np.ndarray:
        bits = file[start:end]
        numpy_dtype = np.dtype(DTYPES[dtype])
        if bits.ctypes.data % numpy_dtype.itemsize:  # headers of old files are not padded; frameworks need alignment
            bits = bits.copy()
        return bits.view(numpy_dtype).reshape(shape)

    return StoredTensor(dtype, shape, read)
