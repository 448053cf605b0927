"""MessagePack files of weights, as Flax writes them, mapped rather than read.

A file is a map of names to maps and arrays. The `msgpack` package has the whole file in memory and every array once
more, to read and to write it, makes objects of whatever a file says, and takes the last of two values of one name; so
the few types that Flax uses are read and written here, and tests hold the bytes to Flax's. Formats:
https://github.com/msgpack/msgpack/blob/master/spec.md and `flax/serialization.py`.
"""

from __future__ import annotations

import enum
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vit_core.array_bytes import contiguous, steps_of
from vit_core.checks import shown
from vit_core.file_bytes import file_bytes
from vit_core.mapped_tensor import mapped_tensor
from vit_core.stored_tensor import DTYPES, LARGEST_RANK, StoredTensor, is_shape

#: dtype name -> Flax's, which is numpy's.
NAMES = {code: np.dtype(numpy_code).name for code, numpy_code in DTYPES.items()} | {"BF16": "bfloat16"}
CODES = {name: code for code, name in NAMES.items()}
ARRAY, COMPLEX, SCALAR = 1, 2, 3  # Flax's extensions
#: Bytes of an array from which Flax splits it, since MessagePack counts bytes in 32 bits.
LARGEST_PIECE = 2**30
PIECES_MARK, PIECES_SHAPE, PIECES = "__msgpack_chunked_array__", "shape", "chunks"
LARGEST_COUNT = 500_000  # values and parts of them; a ViT-H with its optimizer has some ten thousand
LARGEST_DEPTH = 64  # of maps in maps; Flax nests some ten
LARGEST_NAME = 512  # characters, those of the maps around it included; Flax's have some fifty

Tree = dict[str, Any]


def read_msgpack(path: Path, mmap: bool = True) -> dict[str, StoredTensor]:
    """Open a file without reading its arrays.

    Args:
        path: what `flax.serialization.to_bytes` makes; nothing it says is believed before it is checked against the
            file's size.
        mmap: whether its bytes are mapped rather than read; see `vit_core.file_bytes`.

    Returns:
        Its arrays by name, those in nested maps and lists joined with "/", in the order of the file. What is no array
        is left out.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is truncated, corrupt, hostile, or holds something else than numbers.
    """
    with open(path, "rb") as file:
        data = file_bytes(file, mmap=mmap)
    try:
        tree = _Scanner(data).tree()
        tensors: dict[str, StoredTensor] = {}
        for name, tensor in _flat(tree, ""):
            if name in tensors:
                raise ValueError(f"it holds {shown(name)} twice, and nothing says which one counts; get it again")
            tensors[name] = tensor
    except ValueError as error:
        raise ValueError(f"{path} is no msgpack file that can be read here: {error}.") from error
    return tensors


def write_msgpack(path: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """Write a file as `flax.serialization.to_bytes` would, byte for byte, reading one tensor at a time.

    Args:
        path: the file to create. It is flushed to disk; to replace a file atomically see `vit_core.saving`.
        tensors: what it holds, in this order; names with "/" become nested maps.

    Raises:
        OSError: it cannot be written.
        ValueError: a name cannot be nested: too deep or long, no UTF-8, a tensor inside another one, or one that Flax
            keeps for itself.
    """
    tree = _nested(tensors)
    with open(path, "wb") as file:
        for piece in _packed_tree(tree):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


class _Kind(enum.Enum):
    """What a value is, by its first byte."""

    NUMBER = enum.auto()
    TEXT = enum.auto()
    BYTES = enum.auto()
    LIST = enum.auto()
    MAP = enum.auto()
    EXTENSION = enum.auto()
    OTHER = enum.auto()  # skipped


#: (first byte, kind, bytes of the number that follows). Numbers that follow are values or lengths.
_FOLLOWED = [
    *((0xC4 + i, _Kind.BYTES, 1 << i) for i in range(3)),
    *((0xC7 + i, _Kind.EXTENSION, 1 << i) for i in range(3)),
    *((0xCC + i, _Kind.NUMBER, 1 << i) for i in range(4)),
    *((0xD9 + i, _Kind.TEXT, 1 << i) for i in range(3)),
    *((0xDC + i, _Kind.LIST, 2 << i) for i in range(2)),
    *((0xDE + i, _Kind.MAP, 2 << i) for i in range(2)),
]
#: first byte -> kind, value or length, bytes of the number that follows instead. A value of another kind is skipped.
_HEADS: dict[int, tuple[_Kind, int, int]] = {
    **{first: (_Kind.NUMBER, first, 0) for first in range(0x80)},
    **{0x80 + size: (_Kind.MAP, size, 0) for size in range(16)},
    **{0x90 + size: (_Kind.LIST, size, 0) for size in range(16)},
    **{0xA0 + size: (_Kind.TEXT, size, 0) for size in range(32)},
    **dict.fromkeys((0xC0, 0xC2, 0xC3, *range(0xE0, 0x100)), (_Kind.OTHER, 0, 0)),  # nil, bools, small negatives
    **{0xCA: (_Kind.OTHER, 4, 0), 0xCB: (_Kind.OTHER, 8, 0)},  # floats
    **{0xD0 + i: (_Kind.OTHER, 1 << i, 0) for i in range(4)},  # negative numbers
    **{0xD4 + i: (_Kind.EXTENSION, 1 << i, 0) for i in range(5)},
    **{first: (kind, 0, following) for first, kind, following in _FOLLOWED},
}
#: The fewest bytes that one more of a length takes.
_LEAST = {_Kind.MAP: 2, _Kind.NUMBER: 0}


class _Scanner:
    """Reads values one after the other; it takes memory for names and numbers only."""

    def __init__(self, data: np.ndarray) -> None:
        self._data = data
        self._bytes_of = data.data  # of which one is had faster
        self._position = 0
        self._count = 0
        self._path: list[str] = []
        self._letters = 0  # in the path, joined

    def tree(self) -> Tree:
        """The map that the whole file is."""
        tree = self._value()
        if not isinstance(tree, dict):
            raise ValueError("it is no map of names, so it is of another kind")
        if self._position != len(self._data):
            raise self._corrupt(f"has {len(self._data) - self._position} bytes too many behind it")
        return tree

    def _value(self) -> Tree | StoredTensor | int | None:
        """The next value: a map or list by name, an array, a number; None for all else."""
        kind, size = self._head()
        if kind in (_Kind.MAP, _Kind.LIST):
            return self._members(size, kind == _Kind.MAP)
        if kind == _Kind.EXTENSION:
            return self._extension(size)
        if kind == _Kind.NUMBER:
            return size
        self._skip(size)
        return None

    def _members(self, size: int, is_map: bool) -> Tree:
        if len(self._path) == LARGEST_DEPTH:
            raise self._corrupt(f"is nested deeper than {LARGEST_DEPTH}")
        members: Tree = {}
        for i in range(size):
            name = self._text("name") if is_map else str(i)
            if name in members:
                raise self._corrupt(f"has {shown(name)} twice")
            letters = self._letters
            self._letters += len(name) + bool(self._path)
            self._path.append(name)
            if self._letters > LARGEST_NAME:
                raise self._corrupt(f"has more than {LARGEST_NAME} characters")
            members[name] = self._value()
            self._path.pop()
            self._letters = letters
        return members

    def _extension(self, size: int) -> StoredTensor | None:
        (code,) = self._bytes(1)
        end = self._position + size
        if end > len(self._data):
            raise self._corrupt("ends outside of the file")
        if code == COMPLEX:
            self._skip(size)
            return None
        if code not in (ARRAY, SCALAR) or self._head() != (_Kind.LIST, 3):
            raise self._corrupt(f"is of type {code}, which is none of Flax's, or no array")
        tensor = self._array()
        if self._position != end:
            raise self._corrupt(f"is an array of {size} bytes that ends elsewhere")
        return tensor

    def _array(self) -> StoredTensor:
        kind, rank = self._head()
        sizes = [self._head() for _ in range(rank if kind == _Kind.LIST and rank <= LARGEST_RANK else 0)]
        shape = tuple(size for _, size in sizes)
        if kind != _Kind.LIST or len(shape) != rank or {_Kind.NUMBER} | {kind for kind, _ in sizes} != {_Kind.NUMBER}:
            raise self._corrupt("has no shape")
        if not is_shape(shape):
            raise self._corrupt(f"has the shape {shown(shape)}, which no array has")
        dtype = self._text("dtype")
        if dtype not in CODES:
            raise ValueError(f"{self._where()} is of dtype {shown(dtype)}; supported are {', '.join(CODES)}")
        kind, size = self._head()
        needed = math.prod(shape) * np.dtype(DTYPES[CODES[dtype]]).itemsize
        if kind != _Kind.BYTES or size != needed:
            raise self._corrupt(f"has {size} bytes, but shape {shape} as {dtype} takes {needed}")
        start = self._position
        self._skip(size)
        return mapped_tensor(self._data[start : start + size], CODES[dtype], shape)

    def _text(self, what: str) -> str:
        kind, size = self._head()
        if kind != _Kind.TEXT or size > 4 * LARGEST_NAME:  # bytes of one character
            raise self._corrupt(f"has a {what} that is no text of up to {LARGEST_NAME} characters")
        try:
            return self._bytes(size).decode()
        except UnicodeDecodeError as error:
            raise self._corrupt(f"has a {what} that is no UTF-8") from error

    def _head(self) -> tuple[_Kind, int]:
        """The kind of the next value, and its length, its number of members, or its value if it is a number."""
        self._count += 1
        if self._count > LARGEST_COUNT:
            raise ValueError(f"it has more than {LARGEST_COUNT} values, as no model has; get it again")
        if self._position == len(self._bytes_of):
            self._skip(1)  # which says so
        first = self._bytes_of[self._position]
        self._position += 1
        if first not in _HEADS:
            raise self._corrupt(f"starts with the byte {first:#x}, which nothing starts with")
        kind, size, following = _HEADS[first]
        if following:
            size = int.from_bytes(self._bytes(following), "big")
        if size and size * _LEAST.get(kind, 1) > len(self._data) - self._position:
            raise self._corrupt(f"claims {size} bytes or values, but {len(self._data) - self._position} bytes are left")
        return kind, size

    def _bytes(self, size: int) -> bytes:
        start = self._position
        self._skip(size)
        return bytes(self._bytes_of[start : self._position])

    def _skip(self, size: int) -> None:
        self._position += size
        if self._position > len(self._data):
            raise self._corrupt("ends outside of the file")

    def _where(self) -> str:
        return f"{shown('/'.join(self._path))} in it" if self._path else "it"

    def _corrupt(self, reason: str) -> ValueError:
        return ValueError(f"{self._where()} {reason} (byte {self._position}); it is truncated or corrupt, get it again")


def _flat(tree: Tree, prefix: str) -> Iterator[tuple[str, StoredTensor]]:
    for name, value in tree.items():
        full = f"{prefix}{name}"
        if isinstance(value, StoredTensor):
            yield full, value
        elif isinstance(value, dict):
            if PIECES_MARK in value:
                yield full, _joined(full, value)
            else:
                yield from _flat(value, f"{full}/")


def _joined(name: str, tree: Tree) -> StoredTensor:
    """An array that Flax has split."""
    shape, pieces = _in_order(tree.get(PIECES_SHAPE)), _in_order(tree.get(PIECES))
    are_flat = all(isinstance(piece, StoredTensor) and len(piece.shape) == 1 for piece in pieces)
    dtypes = {piece.dtype for piece in pieces} if are_flat else set()
    if not is_shape(shape) or len(dtypes) != 1:
        raise ValueError(f"{shown(name)} in it is split, but not into pieces of one array; it is corrupt, get it again")
    (dtype,) = dtypes
    count = sum(math.prod(piece.shape) for piece in pieces)
    if count != math.prod(shape):
        raise ValueError(
            f"{shown(name)} in it of shape {shape} is split into {count} values; it is corrupt, get it again"
        )

    def read() -> np.ndarray:
        if len(pieces) == 1:
            return pieces[0].read().reshape(shape)
        values = np.empty(count, DTYPES[dtype])
        end = 0
        for piece in pieces:
            start, end = end, end + piece.shape[0]
            values[start:end] = piece.read()
        return values.reshape(shape)

    return StoredTensor(dtype, shape, read)


def _in_order(members: Any) -> tuple[Any, ...]:
    """The values of a map whose names count from 0; none if it is another one."""
    if not isinstance(members, dict) or members.keys() != set(map(str, range(len(members)))):
        return ()
    return tuple(members[str(i)] for i in range(len(members)))


def _nested(tensors: Mapping[str, StoredTensor]) -> Tree:
    tree: Tree = {}
    for name, tensor in tensors.items():
        name.encode()  # which names it if it is no text
        *groups, last = name.split("/")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
            if not isinstance(inner, dict):
                raise ValueError(f"{shown(name)} would be inside of another tensor; rename one.")
        can_be_read = len(groups) < LARGEST_DEPTH and len(name) <= LARGEST_NAME
        if last in inner or PIECES_MARK in (*groups, last) or not can_be_read:
            raise ValueError(f"a msgpack file has no place for the name {shown(name)}; rename it.")
        inner[last] = tensor
    return tree


def _packed_tree(tree: Tree) -> Iterator[bytes | memoryview]:
    yield _packed_head(_Kind.MAP, len(tree))
    for name, value in tree.items():
        yield _packed_text(name)
        yield from _packed_tree(value) if isinstance(value, dict) else _packed_tensor(value)


def _packed_tensor(tensor: StoredTensor) -> Iterator[bytes | memoryview]:
    bits = contiguous(tensor.read()).reshape(tensor.shape)
    if bits.nbytes <= LARGEST_PIECE:
        yield from _packed_array(bits, tensor.dtype)
        return
    step = max(1, LARGEST_PIECE // bits.itemsize)
    starts = range(0, bits.size, step)
    yield _packed_head(_Kind.MAP, 3) + _packed_text(PIECES_MARK) + b"\xc3"
    yield _packed_text(PIECES_SHAPE) + _packed_head(_Kind.MAP, bits.ndim)
    yield b"".join(_packed_text(str(i)) + _packed_head(_Kind.NUMBER, size) for i, size in enumerate(bits.shape))
    yield _packed_text(PIECES) + _packed_head(_Kind.MAP, len(starts))
    for i, start in enumerate(starts):
        yield _packed_text(str(i))
        yield from _packed_array(bits.reshape(-1)[start : start + step], tensor.dtype)


def _packed_array(bits: np.ndarray, dtype: str) -> Iterator[bytes | memoryview]:
    shape = b"".join(_packed_head(_Kind.NUMBER, size) for size in bits.shape)
    head = _packed_head(_Kind.LIST, 3) + _packed_head(_Kind.LIST, bits.ndim) + shape
    head += _packed_text(NAMES[dtype]) + _packed_head(_Kind.BYTES, bits.nbytes)
    yield _packed_head(_Kind.EXTENSION, len(head) + bits.nbytes) + bytes([ARRAY]) + head
    yield from steps_of(bits)


def _packed_text(text: str) -> bytes:
    encoded = text.encode()
    return _packed_head(_Kind.TEXT, len(encoded)) + encoded


def _packed_head(kind: _Kind, size: int) -> bytes:
    """The shortest first bytes of a value of that kind with that length or, if it is a number, value."""
    if (kind, size) in _SHORT:
        return _SHORT[kind, size]
    first, width = next((first, width) for first, other, width in _FOLLOWED if other == kind and size >> 8 * width == 0)
    return bytes([first]) + size.to_bytes(width, "big")


#: kind and length or value -> the byte that says both.
_SHORT = {(kind, size): bytes([first]) for first, (kind, size, following) in _HEADS.items() if not following}
