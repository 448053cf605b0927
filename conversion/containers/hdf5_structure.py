"""What an HDF5 file says is in it and where, without the HDF5 library.

That library is written for files one trusts: a changed byte can make it loop for ever or end the process, and links
make it open other files. What h5py and so Keras write by default is the oldest and simplest layout of the format; it is
read here, bounded by the length of the file; every other layout is left to `hdf5_library`. Specification:
https://support.hdfgroup.org/documentation/hdf5/latest/ ("HDF5 File Format Specification Version 3.0"); its sections are
named at the functions.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from conversion.containers.zip_file import DEFLATE_EXPANSION, HARMLESS_SIZE, LARGEST_EXPANSION
from vit_core.checks import shown
from vit_core.stored_tensor import DTYPES, is_shape

LARGEST_COUNT = 500_000  # records that are looked at; a ViT-H has some ten thousand
LARGEST_DEPTH = 64  # of groups in groups; Keras nests some ten
LARGEST_NAME = 512  # bytes, and characters of a full path; transformers' have some hundred
BFLOAT16_MARK = ("dtype", "bfloat16")  # Keras' attribute of a dataset whose values are opaque to HDF5
GZIP, SHUFFLE = 1, 2
#: What may be done to chunks, in the order it was done, and how far that shrinks them at most.
EXPANSIONS = {
    (): 1,
    (SHUFFLE,): 1,
    (GZIP,): DEFLATE_EXPANSION,
    (SHUFFLE, GZIP): DEFLATE_EXPANSION,
}

SIGNATURE = b"\x89HDF\r\n\x1a\n"
NOWHERE = 0xFFFFFFFFFFFFFFFF  # the address of what does not exist
#: Kinds of messages in an object's header.
DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL_FILES, LAYOUT = 0x1, 0x2, 0x3, 0x6, 0x7, 0x8
PIPELINE, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE = 0xB, 0xC, 0x10, 0x11
IS_SHARED = 2  # a flag of messages whose content is elsewhere
COMPACT, CONTIGUOUS, CHUNKED = 0, 1, 2  # layouts
OF_LINKS, OF_CHUNKS = 0, 1  # trees
FIXED_TEXT, VARIABLE = 3, 9  # classes of datatypes
HARD_LINKS = (0, 1)  # what an entry of a symbol table says of itself; 2 is a link to a path
AS_BY_DEFAULT = "write it as h5py does by default, without libver or track_order"


class Unfit(ValueError):
    """What is wrong with a file, and what to do."""


class OtherLayout(Unfit):
    """It is in a layout of the format that is not read here."""


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


def read_structure(data: np.ndarray) -> dict[str, Dataset]:
    """The datasets of a file.

    Args:
        data: its bytes, uint8.

    Returns:
        They by full path, each group sorted by name as HDF5 does. Their bytes are inside the file, none belongs to two
        of them, and together they claim no size out of proportion to the file.

    Raises:
        Unfit: it is truncated, corrupt, hostile, of another layout, or holds something else than numbers.
    """
    file = _File(data)
    datasets = {}
    waiting = [("", file.root(), 0)]
    seen = set()
    while waiting:
        path, address, depth = waiting.pop()
        if address in seen:
            raise Unfit(f"{shown(path)} is in it a second time under another name; store it once")
        seen.add(address)
        messages = _messages(file, path, address)
        if LAYOUT in messages:
            datasets[path] = _describe(file, path, messages)
        elif SYMBOL_TABLE in messages:
            if depth > LARGEST_DEPTH:
                raise Unfit(f"it has groups in groups, more than {LARGEST_DEPTH} deep, as no model has; get it again")
            links = _links(file, path, _only(path, messages, SYMBOL_TABLE))
            prefix = f"{path}/" if path else ""
            if len(prefix) + max(map(len, links), default=0) > LARGEST_NAME:
                raise Unfit(f"its group {shown(path)} has names of more than {LARGEST_NAME} characters; get it again")
            waiting += [(f"{prefix}{name}", target, depth + 1) for name, target in reversed(links.items())]
        elif LINK_INFO in messages or LINK in messages:
            raise OtherLayout(
                f"its group {shown(path)} has links that may lead to other places or files and are not followed; "
                f"{AS_BY_DEFAULT}"
            )
    _check_layout(datasets, len(data))
    return datasets


def read_attribute(data: np.ndarray, name: str, most: int) -> bytes | None:
    """A text that a file says of itself, such as Keras' "model_config"; None if it does not.

    Args:
        data: the file's bytes, uint8.
        name: the attribute's.
        most: the longest text that is returned, in bytes; longer ones are cut.

    Raises:
        Unfit: the file is truncated or corrupt.
    """
    file = _File(data)
    return _attribute(file, _messages(file, "", file.root()).get(ATTRIBUTE, []), name.encode(), most)


class _File:
    """The bytes of a file, none outside of it, read in small pieces that are counted."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.base = 0  # of all addresses: where the signature is, since anything may stand before it
        self._count = 0

    def take(self, address: int, size: int) -> bytes:
        """Some bytes at an address, as many as describe something."""
        self._count += 1
        if self._count > LARGEST_COUNT:
            raise Unfit(f"more than {LARGEST_COUNT} records describe what is in it, as no model has; get it again")
        start = self.position(address, size)
        return self.data[start : start + size].tobytes()

    def position(self, address: int, size: int) -> int:
        """Where in the file so many bytes at an address are."""
        start = self.base + address
        if start + size > len(self.data):
            raise Unfit(
                f"it names {size} bytes at {start}, but has {len(self.data)}; it is truncated or corrupt, get it again"
            )
        return start

    def unpack(self, layout: str, address: int) -> tuple[Any, ...]:
        """Values at an address."""
        return struct.unpack(layout, self.take(address, struct.calcsize(layout)))

    def root(self) -> int:
        """The address of the first group ("Disk Format: Level 0A - Format Signature and Superblock")."""
        while self.data[self.base : self.base + 8].tobytes() != SIGNATURE:
            self.base = 2 * self.base or 512
            if self.base > len(self.data):
                raise Unfit("it lacks HDF5's signature; it is of another kind")
        version, address_size, length_size = self.unpack("<B4xBB", 8)
        if version != 0 or (address_size, length_size) != (8, 8):
            raise OtherLayout(f"it is in version {version} of HDF5's layout and not 0; {AS_BY_DEFAULT}")
        # addresses of: the base, free space, the end, a driver for several files; then the entry of the first group
        _, _, end, driver, _, root = self.unpack("<6Q", 24)
        if end > len(self.data):
            raise Unfit(f"it should have {end} bytes and has {len(self.data)}; it is truncated, get it again")
        if driver != NOWHERE:
            raise Unfit("it is one of several files that make one; join them")
        return root


class _Message(NamedTuple):
    flags: int
    address: int
    size: int


def _messages(file: _File, path: str, address: int) -> dict[int, list[_Message]]:
    """What the header of an object says, by kind ("Version 1 Data Object Header Prefix")."""
    version, count, size = file.unpack("<BxH4xI", address)
    if version != 1:
        raise OtherLayout(f"{shown(path)} in it is corrupt, or in a newer layout; get it again, or {AS_BY_DEFAULT}")
    messages: dict[int, list[_Message]] = {}
    blocks = [(address + 16, size)]
    for start, size in blocks:  # which grows
        end = start + size
        while count and start + 8 <= end:
            kind, length, flags = file.unpack("<HHB", start)
            message = _Message(flags, start + 8, length)
            if kind == CONTINUATION:
                blocks.append(file.unpack("<QQ", message.address))
            messages.setdefault(kind, []).append(message)
            start = message.address + length
            count -= 1
    return messages


def _only(path: str, messages: Mapping[int, list[_Message]], kind: int) -> _Message:
    """The message of a kind that must be there once."""
    match messages.get(kind):
        case [message] if not message.flags & IS_SHARED:
            return message
    raise Unfit(f"{shown(path)} in it is not described as an array should be (message {kind}); get it again")


def _links(file: _File, path: str, table: _Message) -> dict[str, int]:
    """Names and addresses of what is in a group ("Symbol Table Entry", "Local Heaps")."""
    tree, heap = file.unpack("<QQ", table.address)
    sign, size, _, names = file.unpack("<4s4xQQQ", heap)
    if sign != b"HEAP":
        raise Unfit(f"its group {shown(path)} has no names; it is corrupt, get it again")
    links: dict[str, int] = {}
    for _, node in _leaves(file, tree, OF_LINKS, 8):
        sign, count = file.unpack("<4s2xH", node)
        if sign != b"SNOD":
            raise Unfit(f"its group {shown(path)} has no links; it is corrupt, get it again")
        for entry in range(node + 8, node + 8 + 40 * count, 40):
            at, target, kind = file.unpack("<QQI", entry)
            name = _name(file, names + at, max(0, size - at))
            if kind not in HARD_LINKS:
                raise Unfit(f"{shown(name)} in it links to another place, which is not followed; store it itself")
            if name in links:
                raise Unfit(f"its group {shown(path)} holds {shown(name)} twice; it is corrupt, get it again")
            links[name] = target
    return links


def _name(file: _File, address: int, size: int) -> str:
    text, end, _ = file.take(address, min(size, LARGEST_NAME)).partition(b"\0")
    try:
        name = text.decode()
    except UnicodeDecodeError:
        name = ""
    if not end or name in ("", ".") or "/" in name:
        raise Unfit(f"it holds the name {shown(text)}, which no path can have; get it again")
    return name


def _leaves(file: _File, root: int, kind: int, key_size: int) -> Iterator[tuple[int, int]]:
    """Addresses of the keys and of the children at the bottom of a tree ("Version 1 B-trees"), in their order."""
    waiting: list[tuple[int, int | None]] = [(root, None)]
    while waiting:
        address, level = waiting.pop()
        sign, found_kind, found_level, count = file.unpack("<4sBBH", address)
        if sign != b"TREE" or found_kind != kind or level not in (None, found_level):
            raise Unfit(f"it has a damaged tree at {address}; get it again")
        keys = range(address + 24, address + 24 + count * (key_size + 8), key_size + 8)
        children = [(key, file.unpack("<Q", key + key_size)[0]) for key in keys]
        if found_level == 0:
            yield from children
        else:  # one lower each time, so this ends
            waiting += [(child, found_level - 1) for _, child in reversed(children)]


def _describe(file: _File, path: str, messages: Mapping[int, list[_Message]]) -> Dataset:
    """What a dataset says of itself, as far as that can be true."""
    if EXTERNAL_FILES in messages:
        raise Unfit(f"the values of {shown(path)} are in other files, which are not opened; store them in it")
    dtype, is_big_endian = _dtype(file, path, messages)
    shape = _shape(file, path, _only(path, messages, DATASPACE))
    described = Dataset(dtype, shape, is_big_endian, (), shape, [])
    layout = _only(path, messages, LAYOUT)
    version, kind = file.unpack("<BB", layout.address)
    if version != 3 or kind > CHUNKED:
        raise OtherLayout(f"{shown(path)} in it is stored in version {version} of the layouts, not 3; {AS_BY_DEFAULT}")
    if 0 in shape:
        return described
    if kind == CHUNKED:
        return _in_chunks(file, path, messages, described)
    address, size = file.unpack("<QQ", layout.address + 2)
    if kind == COMPACT:
        address, size = layout.address + 4, file.unpack("<H", layout.address + 2)[0]
    if address == NOWHERE or size != described.nbytes(shape):
        raise Unfit(
            f"{shown(path)} in it of shape {shape} as {dtype} takes {described.nbytes(shape)} bytes, but has {size}; "
            f"it is incomplete or corrupt, get it again"
        )
    start = file.position(address, size)
    return described._replace(chunks=[Chunk((0,) * len(shape), 0, start, start + size)])


def _shape(file: _File, path: str, space: _Message) -> tuple[int, ...]:
    """The shape of a dataset ("The Dataspace Message")."""
    version, rank = file.unpack("<BB", space.address)
    if version != 1:  # such as 2, by which an empty dataset says that it has none
        raise OtherLayout(f"{shown(path)} in it has no shape, or says it in version {version}, not 1; {AS_BY_DEFAULT}")
    shape = file.unpack(f"<{rank}Q", space.address + 8)
    if not is_shape(shape):
        raise Unfit(f"{shown(path)} in it has the shape {shown(shape)}, which no array has; get it again")
    return shape


def _type_messages() -> dict[bytes, tuple[str, bool]]:
    """What the datatype message of each dtype says, and whether its bytes are in reverse order then."""
    exponents = {2: (5, 10, 15), 4: (8, 23, 127), 8: (11, 52, 1023)}  # bits of exponent and mantissa, and the bias
    messages = {BOOLEAN: ("BOOL", False)}
    for code, numpy_code in DTYPES.items():
        dtype = np.dtype(numpy_code)
        size, bits = dtype.itemsize, 8 * dtype.itemsize
        for is_big_endian in (False, True)[: min(size, 2)]:
            if dtype.kind == "f":
                exponent, mantissa, bias = exponents[size]
                head = struct.pack("<BBBBI", 0x11, 0x20 | is_big_endian, bits - 1, 0, size)
                form = struct.pack("<HHBBBBI", 0, bits, mantissa, exponent, 0, mantissa, bias)
                messages[head + form] = code, is_big_endian
            elif dtype.kind in "iu" and code != "BF16":
                head = struct.pack("<BBBBI", 0x10, is_big_endian | (dtype.kind == "i") << 3, 0, 0, size)
                messages[head + struct.pack("<HH", 0, bits)] = code, is_big_endian
    return messages


#: The datatype message ("The Datatype Message") of what h5py makes of bool, an enumeration of int8.
BOOLEAN = bytes.fromhex("18020000 01000000 10080000 01000000 00000800") + b"FALSE\0\0\0TRUE\0\0\0\0\0\1"
OPAQUE_16 = bytes.fromhex("15000000 02000000")  # two bytes that mean nothing to HDF5
TYPES = _type_messages()


def _dtype(file: _File, path: str, messages: Mapping[int, list[_Message]]) -> tuple[str, bool]:
    """Its dtype name, and whether its bytes are in reverse order."""
    message = _only(path, messages, DATATYPE)
    content = file.take(message.address, min(message.size, LARGEST_NAME))
    for known, found in TYPES.items():
        if content.startswith(known):
            return found
    if content == OPAQUE_16 and _is_marked(file, messages.get(ATTRIBUTE, [])):
        return "BF16", False
    raise Unfit(f"{shown(path)} in it holds something else than numbers of up to 64 bits; store it as float32")


def _is_marked(file: _File, attributes: Sequence[_Message]) -> bool:
    """Whether Keras says that it holds bfloat16."""
    name, mark = (text.encode() for text in BFLOAT16_MARK)
    return _attribute(file, attributes, name, len(mark) + 1) == mark


def _attribute(file: _File, attributes: Sequence[_Message], name: bytes, most: int) -> bytes | None:
    """The text of an attribute, `most` bytes of it ("The Attribute Message"); None if there is none of that name."""
    for attribute in attributes:
        version, *sizes = file.unpack("<BxHHH", attribute.address)
        parts = itertools.accumulate((size + -size % 8 for size in sizes), initial=attribute.address + 8)
        name_at, type_at, _, value_at = parts
        if version == 1 and sizes[0] == len(name) + 1 and file.take(name_at, len(name)) == name:
            kind, is_text, size = file.unpack("<BB2xI", type_at)
            if kind & 0xF == FIXED_TEXT:
                return file.take(value_at, min(size, most)).rstrip(b"\0")
            if kind & 0xF == VARIABLE and is_text & 0xF == 1:
                return _heap_text(file, file.unpack("<IQI", value_at), most).rstrip(b"\0")
    return None


def _heap_text(file: _File, place: tuple[int, int, int], most: int) -> bytes:
    """A text of variable length, which is elsewhere ("Global Heap"); empty if it is not there.

    Args:
        file: the file.
        place: its size, the address of the heap, its number there.
        most: bytes to return.
    """
    size, address, wanted = place
    sign, length = file.unpack("<4s4xQ", address)
    position, end = address + 16, address + length
    while sign == b"GCOL" and position < end:
        index, held = file.unpack("<H6xQ", position)
        if index == wanted:
            return file.take(position + 16, min(size, held, most))
        if index == 0:  # the free space behind the last one
            break
        position += 16 + held + -held % 8
    return b""


def _in_chunks(file: _File, path: str, messages: Mapping[int, list[_Message]], described: Dataset) -> Dataset:
    """Where the chunks of a dataset are: all of them, and none that cannot hold what it should."""
    layout = _only(path, messages, LAYOUT)
    axes, tree = file.unpack("<BQ", layout.address + 2)
    *steps, itemsize = file.unpack(f"<{axes}I", layout.address + 11) or (0,)
    if axes != len(described.shape) + 1 or 0 in steps or itemsize != described.nbytes(()):
        raise Unfit(
            f"{shown(path)} in it has chunks of shape {shown(tuple(steps))} of {itemsize} bytes each; get it again"
        )
    filters = _filters(file, path, messages, itemsize)
    described = described._replace(filters=filters, chunk_shape=tuple(steps))
    size = described.nbytes(described.chunk_shape)
    if size > _most_bytes(len(file.data)):
        raise Unfit(f"{shown(path)} in it claims chunks of {size} bytes, more than the file can hold; get it again")
    expected = math.prod(-(-length // step) for length, step in zip(described.shape, steps, strict=True))
    leaves = _leaves(file, tree, OF_CHUNKS, 8 + 8 * axes) if tree != NOWHERE else iter(())
    for key, address in itertools.islice(leaves, expected + 1):
        packed, skipped, *origin, _ = file.unpack(f"<II{axes}Q", key)
        start = file.position(address, packed)
        described.chunks.append(Chunk(tuple(origin), skipped, start, start + packed))
    places = {chunk.origin for chunk in described.chunks}
    possible = all(
        at < length and at % step == 0
        for place in places
        for at, length, step in zip(place, described.shape, steps, strict=True)
    )
    if not possible or not len(places) == len(described.chunks) == expected:
        raise Unfit(f"{shown(path)} in it has {len(places)} chunks of {expected}; it is incomplete, get it again")
    for chunk in described.chunks:
        applied = described.applied(chunk)
        packed = chunk.end - chunk.start
        if size > packed * EXPANSIONS[applied] or (EXPANSIONS[applied] == 1 and size != packed):
            raise Unfit(
                f"a chunk of {shown(path)} in it takes {size} bytes, but has {packed}; it is corrupt, get it again"
            )
    return described


def _filters(file: _File, path: str, messages: Mapping[int, list[_Message]], itemsize: int) -> tuple[int, ...]:
    """What was done to the chunks of a dataset ("The Data Storage - Filter Pipeline Message")."""
    if PIPELINE not in messages:
        return ()
    pipeline = _only(path, messages, PIPELINE)
    version, count = file.unpack("<BB", pipeline.address)
    codes = []
    position = pipeline.address + 8
    for _ in range(count if version == 1 else 0):
        code, name_size, values = file.unpack("<HH2xH", position)
        position += 8 + name_size + -name_size % 8
        if code == SHUFFLE and (not values or file.unpack("<I", position) != (itemsize,)):
            raise Unfit(f"{shown(path)} in it is shuffled in another way than its values are long; get it again")
        codes.append(code)
        position += 4 * (values + values % 2)
    if version != 1 or tuple(codes) not in EXPANSIONS:
        raise OtherLayout(
            f"{shown(path)} in it went through the filters {shown(codes)} (version {version}); only gzip and shuffle "
            f"are undone here: store it without"
        )
    return tuple(codes)


def _most_bytes(length: int) -> int:
    """What a file of that length may claim to hold; see `conversion.containers.zip_file`."""
    return max(HARMLESS_SIZE, LARGEST_EXPANSION * length)


def _check_layout(datasets: Mapping[str, Dataset], length: int) -> None:
    """Check that no two datasets share a byte, and that all of them together are not out of proportion to the file."""
    claimed = sum(dataset.nbytes(dataset.shape) for dataset in datasets.values())
    if claimed > _most_bytes(length):
        raise Unfit(
            f"it has {length} bytes and claims to hold {claimed}, more than {LARGEST_EXPANSION} times as many, as no "
            f"weights do; if they are yours, store them uncompressed"
        )
    position = 0
    spans = ((chunk.start, chunk.end, path) for path, dataset in datasets.items() for chunk in dataset.chunks)
    for start, end, path in sorted(spans):
        if start < position:
            raise Unfit(f"{shown(path)} in it shares bytes with another dataset; it is made to deceive")
        position = end
