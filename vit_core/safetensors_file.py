"""The safetensors file format: read by its package, mapped rather than copied, and written as a stream.

What a file holds and where, the safetensors package says, which is the reference: it checks dtypes, shapes and offsets
against the file. It would copy every tensor into numpy, has no bfloat16 there, takes an object's last value where a
name stands twice, and needs all tensors in memory to write; so values are mapped here, headers are looked at for such
names first, and files are written one tensor at a time, byte for byte as the package writes them. Format:
https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from vit_core.array_bytes import steps_of
from vit_core.checks import shown
from vit_core.file_bytes import file_bytes
from vit_core.json_file import parse_json
from vit_core.mapped_tensor import mapped_tensor
from vit_core.stored_tensor import DTYPES, StoredTensor, is_shape

LARGEST_HEADER = 100_000_000  # the limit of the safetensors package
METADATA = "__metadata__"
OF_A_CHECKPOINT: Mapping[str, str] = {"format": "pt"}  # the one value every reader of ViT checkpoints accepts
ATTEMPTS = 100  # to open a file that others replace meanwhile


def map_safetensors(path: Path, mmap: bool = True) -> dict[str, StoredTensor]:
    """Open a file without reading its tensors.

    Args:
        path: a safetensors file; nothing it says is believed before it is checked against the file's size.
        mmap: whether its bytes are mapped rather than read; see `vit_core.file_bytes`.

    Returns:
        Its tensors by name, in the order of their bytes.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is truncated, corrupt or no safetensors file, or has a name twice; the message tells.
    """
    for _ in range(ATTEMPTS):
        with open(path, "rb") as file:
            start = _checked_header(path, file)
            descriptions = _described(path)  # by a reader that opens the path itself
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                data = file_bytes(file, start, mmap)
                break
    else:
        raise OSError(f"{path} is replaced again and again while it is opened; try again later.")
    tensors = {}
    end = 0
    for name, dtype, shape in descriptions:  # one behind the other, without gaps
        begin, end = end, end + math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        tensors[name] = mapped_tensor(data[begin:end], dtype, shape)
    return tensors


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


def _checked_header(path: Path, file: BinaryIO) -> int:
    """Where the tensors' bytes start, once the header is known to be in the file and to have no name twice."""
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
        parse_json(file.read(header_length), strict=True)
    except ValueError as error:
        raise ValueError(f"{path} has a corrupt header ({error}); it is no safetensors file, get it again.") from error
    return 8 + header_length


def _described(path: Path) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, dtype and shape of every tensor, in the order of their bytes, which fill the file behind its header."""
    try:
        with safe_open(path, "np", backend="pread") as package:  # maps nothing
            slices = [(name, package.get_slice(name)) for name in package.offset_keys()]
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise ValueError(
            f"{path} is no whole safetensors file, since the safetensors package says {shown(reason)}; it is truncated "
            f"or corrupt, get it again."
        ) from error
    described = [(name, each.get_dtype(), tuple(each.get_shape())) for name, each in slices]
    for name, dtype, shape in described:
        if dtype not in DTYPES:
            raise ValueError(f"{path} holds {shown(name)} as {shown(dtype)}; supported are {', '.join(DTYPES)}.")
        if not is_shape(shape):
            raise ValueError(f"{path} gives {shown(name)} the shape {shown(shape)}, which no array has; get it again.")
    return described
