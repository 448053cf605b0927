"""HDF5 files of weights, as Keras and TensorFlow's transformers write them, mapped where they are not compressed.

The HDF5 library is asked only what is in a file and where; nothing leads it to another file, and the values are mapped
or decompressed here, where their size is bounded. Specification: https://support.hdfgroup.org/documentation/hdf5/latest/
("File Format Specification"); attributes of weights: `hdf5_format.py` of Keras 2; bfloat16: `H5IOStore` of Keras 3;
LZF: http://oldhome.schmorp.de/marc/liblzf.html.
"""

from __future__ import annotations

import functools
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conversion.mapped_file import is_shape, map_bytes, view_as
from conversion.zip_file import DEFLATE_EXPANSION, HARMLESS_SIZE, LARGEST_EXPANSION
from vit_core.safetensors_file import DTYPES, StoredTensor, shown

LARGEST_COUNT = 100_000  # links; a ViT-H with its optimizer has some thousand
LARGEST_DEPTH = 64  # of groups in groups; Keras nests some ten
#: Keras splits an attribute of more bytes into NAME0, NAME1, ..., since an object's header must hold it.
LARGEST_ATTRIBUTE = 64512
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

Attribute = str | int | list[str] | list[int]


def read_hdf5(path: Path) -> dict[str, StoredTensor]:
    """Open a file without reading its datasets; compressed ones are decompressed when read.

    Args:
        path: the file. Its datasets hold numbers, in one piece or in chunks, as they are or compressed by gzip or LZF,
            shuffled or not. Nothing it says is believed before it is checked against the file's size; links to other
            places or files are refused, not followed.

    Returns:
        Its datasets by full path ("layers/dense/vars/0"), in the order of HDF5, which sorts each group by name. Values
        of either byte order are read; what Keras marks as bfloat16 is that.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is truncated, corrupt, hostile, or holds something else than numbers.
    """
    import h5py

    with open(path, "rb") as file:  # once: the path may hold another file a moment later
        data = map_bytes(file)
        try:
            with h5py.File(file, "r") as opened:
                datasets = {name: _describe(name, dataset, len(data)) for name, dataset in _walk(opened.id)}
            _check_layout(datasets, len(data))
        except _Unfit as error:
            raise ValueError(f"{path} is no HDF5 file that can be read here: {error}.") from error
        except Exception as error:  # of any kind: the library names what a file does to it in many ways
            reason = shown(str(error))
            raise ValueError(
                f"{path} is no HDF5 file, or a truncated or corrupt one ({reason}); get it again."
            ) from error
    return {name: _tensor(f"{shown(name)} in {path}", dataset, data) for name, dataset in datasets.items()}


def write_hdf5(
    path: Path, tensors: Mapping[str, StoredTensor], attributes: Mapping[str, Mapping[str, Attribute]] | None = None
) -> None:
    """Write a file, reading one tensor at a time; the same bytes every time.

    Args:
        path: the file to create. It is flushed to disk; to replace a file atomically see `vit_core.saving`.
        tensors: the datasets by full path; groups are made. bfloat16 is written as Keras 3 does: opaque, and marked.
        attributes: {path of a group or dataset: {name: value}}, "" being the whole file; missing groups are made. Text
            is written with a fixed length, and a list of more than `LARGEST_ATTRIBUTE` bytes in parts NAME0, NAME1,
            ..., as Keras reads them.

    Raises:
        OSError: it cannot be written.
        ValueError: a name cannot be a path in HDF5, names a dataset inside a dataset, or an attribute is too long.
    """
    import h5py

    _check_names(tensors)
    with h5py.File(path, "w") as file:
        for name, tensor in tensors.items():
            bits = np.ascontiguousarray(tensor.read())
            if tensor.dtype == "BF16":
                bits = bits.view("V2")
            dataset = file.create_dataset(name, bits.shape, bits.dtype, bits, track_times=False)
            if tensor.dtype == "BF16":
                dataset.attrs[BFLOAT16_MARK[0]] = BFLOAT16_MARK[1]
        for place, values in (attributes or {}).items():
            target = file[place or "/"] if not place or place in file else file.create_group(place)
            for name, value in values.items():
                for part, part_value in _attribute_parts(name, value):
                    target.attrs[part] = part_value
    with open(path, "r+b") as written:
        os.fsync(written.fileno())


class _Unfit(ValueError):
    """What is wrong with a file, and what to do."""


class _Chunk(NamedTuple):
    origin: tuple[int, ...]  # its first element in the dataset
    skipped: int  # bit i: filter i was not applied
    start: int
    end: int


class _Dataset(NamedTuple):
    """What a file says of a dataset; a dataset in one piece is one chunk of its own shape."""

    dtype: str
    shape: tuple[int, ...]
    is_big_endian: bool
    filters: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    chunks: list[_Chunk]

    @property
    def nbytes(self) -> int:
        return self.chunk_bytes(self.shape)

    def chunk_bytes(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape) * np.dtype(DTYPES[self.dtype]).itemsize

    def applied(self, chunk: _Chunk) -> tuple[int, ...]:
        """The filters that a chunk went through."""
        return tuple(code for i, code in enumerate(self.filters) if not chunk.skipped >> i & 1)


def _walk(file: Any) -> Iterator[tuple[str, Any]]:
    """The datasets of a file by full path, as the library's low-level objects."""
    import h5py

    waiting = [("", h5py.h5g.open(file, b"/"), 0)]
    seen = {h5py.h5o.get_info(waiting[0][1]).addr}
    count = 0
    while waiting:
        path, group, depth = waiting.pop()
        inner = []
        for name in _names(group, LARGEST_COUNT - count):
            count += 1
            full = f"{path}{name}"
            found = h5py.h5o.open(group, name.encode())
            address = h5py.h5o.get_info(found).addr
            if address in seen:
                raise _Unfit(f"{shown(full)} is in it a second time under another name; store it once")
            seen.add(address)
            if isinstance(found, h5py.h5g.GroupID):
                if depth == LARGEST_DEPTH:
                    raise _Unfit(f"it has groups in groups, deeper than {LARGEST_DEPTH} at {shown(full)}; get it again")
                inner.append((f"{full}/", found, depth + 1))
            elif isinstance(found, h5py.h5d.DatasetID):
                yield full, found
        waiting += reversed(inner)


def _names(group: Any, most: int) -> list[str]:
    """The names in a group, all of which are links of the plain kind, so that opening them leads nowhere else."""
    import h5py

    kinds: dict[bytes, int] = {}
    repeated: list[bytes] = []

    def note(name: bytes, link: Any) -> bool:
        if name in kinds:
            repeated.append(name)
        kinds[name] = link.type
        return bool(repeated) or len(kinds) > most

    group.links.iterate(note, info=True)
    if len(kinds) > most:
        raise _Unfit(f"it has more than {LARGEST_COUNT} links, which no model has; get it again")
    for name, kind in kinds.items():
        if kind != h5py.h5l.TYPE_HARD:
            raise _Unfit(f"{shown(name)} in it links to another place or file, which is not followed; store it itself")
        if name in repeated or not _is_plain(name):
            raise _Unfit(f"it holds the name {shown(name)}, which nobody can look up; get it again")
    return [name.decode() for name in kinds]


def _is_plain(name: bytes) -> bool:
    try:
        return bool(name.decode()) and b"/" not in name and name != b"."
    except UnicodeDecodeError:
        return False


def _describe(name: str, dataset: Any, length: int) -> _Dataset:
    """What a dataset says of itself, as far as that can be true in a file of that length."""
    import h5py

    properties = dataset.get_create_plist()  # first: asking a virtual dataset its shape opens the files it is made of
    layout = properties.get_layout()
    if layout not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED) or properties.get_external_count():
        raise _Unfit(f"the values of {shown(name)} are elsewhere or among the descriptions; store them in it")
    dtype, is_big_endian = _dtype(name, dataset)
    space = dataset.get_space()
    shape = space.get_simple_extent_dims()
    if space.get_simple_extent_type() == h5py.h5s.NULL or not is_shape(shape):
        raise _Unfit(f"{shown(name)} in it has the shape {shown(shape)}, which no array has; get it again")
    if 0 in shape:
        return _Dataset(dtype, shape, is_big_endian, (), shape, [])
    if layout == h5py.h5d.CONTIGUOUS:
        start, size = dataset.get_offset(), dataset.get_storage_size()
        described = _Dataset(dtype, shape, is_big_endian, (), shape, [])
        if start is None or size != described.nbytes or start + size > length:
            raise _Unfit(
                f"{shown(name)} of shape {shape} takes {described.nbytes} bytes, but has {size} in a file of {length}; "
                f"it is truncated or corrupt, get it again"
            )
        return described._replace(chunks=[_Chunk((0,) * len(shape), 0, start, start + size)])
    codes = [properties.get_filter(i) for i in range(properties.get_nfilters())]
    filters = tuple(code for code, *_ in codes)
    if filters not in FILTERS:
        raise _Unfit(f"{shown(name)} in it went through the filters {filters}; only gzip, LZF and shuffle are read")
    described = _Dataset(dtype, shape, is_big_endian, filters, properties.get_chunk(), [])
    return described._replace(chunks=_chunks(name, dataset, described, length))


def _dtype(name: str, dataset: Any) -> tuple[str, bool]:
    """Its dtype name, and whether its bytes are in reverse order."""
    import h5py

    stored = dataset.get_type()
    for known, code, is_big_endian in _known_types():
        if stored.equal(known):
            return code, is_big_endian
    if stored.get_class() == h5py.h5t.OPAQUE and stored.get_size() == 2 and _is_marked(dataset):
        return "BF16", False
    raise _Unfit(f"{shown(name)} in it holds something else than numbers of up to 64 bits; store it as float32")


@functools.cache
def _known_types() -> list[tuple[Any, str, bool]]:
    """The library's type, dtype name and whether the bytes are in reverse order, for what is read."""
    import h5py

    types = [(code, np.dtype(numpy_code)) for code, numpy_code in DTYPES.items() if code != "BF16"]
    reversed_types = [(code, dtype.newbyteorder(">")) for code, dtype in types if dtype.itemsize > 1]
    return [(h5py.h5t.py_create(dtype, logical=True), code, False) for code, dtype in types] + [
        (h5py.h5t.py_create(dtype, logical=True), code, True) for code, dtype in reversed_types
    ]


def _is_marked(dataset: Any) -> bool:
    """Whether Keras says that it holds bfloat16."""
    import h5py

    name, mark = BFLOAT16_MARK
    if not h5py.h5a.exists(dataset, name.encode()):
        return False
    value = h5py.Dataset(dataset).attrs[name]
    return value in (mark, mark.encode()) if isinstance(value, str | bytes) else False


def _chunks(name: str, dataset: Any, described: _Dataset, length: int) -> list[_Chunk]:
    """Where the chunks of a dataset are: all of them, and none that cannot hold what it should."""
    steps = described.chunk_shape
    origins = [range(0, size, step) for size, step in zip(described.shape, steps, strict=True)]
    expected = math.prod(map(len, origins))
    size = described.chunk_bytes(steps)
    if size > _most_bytes(length):
        raise _Unfit(f"{shown(name)} in it claims chunks of {size} bytes in a file of {length}; store it in one piece")
    found: list[_Chunk] = []

    def note(chunk: Any) -> bool | None:
        end = chunk.byte_offset + chunk.size
        found.append(_Chunk(tuple(chunk.chunk_offset), chunk.filter_mask, chunk.byte_offset, end))
        return True if len(found) > expected else None

    dataset.chunk_iter(note)
    places = {
        chunk.origin for chunk in found if all(at in axis for at, axis in zip(chunk.origin, origins, strict=True))
    }
    if len(found) != expected or len(places) != expected:
        raise _Unfit(f"{shown(name)} in it has {len(places)} of {expected} chunks; it is incomplete, get it again")
    for chunk in found:
        filters = described.applied(chunk)
        packed = chunk.end - chunk.start
        if chunk.end > length or size > packed * FILTERS[filters] or (filters in ((), (SHUFFLE,)) and size != packed):
            raise _Unfit(
                f"a chunk of {shown(name)} in it takes {size} bytes, but has {packed} at {chunk.start} in a file of "
                f"{length}; it is truncated or corrupt, get it again"
            )
    return found


def _most_bytes(length: int) -> int:
    """What a file of that length may claim to hold; see `conversion.zip_file`."""
    return max(HARMLESS_SIZE, LARGEST_EXPANSION * length)


def _check_layout(datasets: Mapping[str, _Dataset], length: int) -> None:
    """Check that no two datasets share a byte, and that all of them together are not out of proportion to the file."""
    claimed = sum(dataset.nbytes for dataset in datasets.values())
    if claimed > _most_bytes(length):
        raise _Unfit(
            f"it has {length} bytes and claims to hold {claimed}, more than {LARGEST_EXPANSION} times as many, as no "
            f"weights do; if they are yours, store them uncompressed"
        )
    position = 0
    spans = ((chunk.start, chunk.end, name) for name, dataset in datasets.items() for chunk in dataset.chunks)
    for start, end, name in sorted(spans):
        if start < position:
            raise _Unfit(f"{shown(name)} in it shares bytes with another dataset; it is made to deceive")
        position = end


def _tensor(where: str, dataset: _Dataset, data: np.ndarray) -> StoredTensor:
    def read() -> np.ndarray:
        values = view_as(data[:0], dataset.dtype, dataset.shape) if 0 in dataset.shape else _read(where, dataset, data)
        return values.byteswap() if dataset.is_big_endian else values

    return StoredTensor(dataset.dtype, dataset.shape, read)


def _read(where: str, dataset: _Dataset, data: np.ndarray) -> np.ndarray:
    """The values, their bytes in the order of the file."""
    first = dataset.chunks[0]
    if dataset.chunk_shape == dataset.shape and not dataset.applied(first):
        return view_as(data[first.start : first.end], dataset.dtype, dataset.shape)
    values = np.empty(dataset.shape, DTYPES[dataset.dtype])
    size = dataset.chunk_bytes(dataset.chunk_shape)
    for chunk in dataset.chunks:
        content = data[chunk.start : chunk.end].tobytes()
        try:
            for code in reversed(dataset.applied(chunk)):
                content = _UNDO[code](content, size, values.itemsize)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"{where} is corrupt at byte {chunk.start} ({error}); get the file again.") from error
        part = values[tuple(slice(at, at + step) for at, step in zip(chunk.origin, dataset.chunk_shape, strict=True))]
        block = np.frombuffer(content, values.dtype).reshape(dataset.chunk_shape)
        part[...] = block[tuple(map(slice, part.shape))]  # chunks at the end reach beyond it
    return values


def _inflate(packed: bytes, size: int, _: int) -> bytes:
    engine = zlib.decompressobj()
    content = engine.decompress(packed, size + 1)
    if not engine.eof or len(content) != size:
        raise ValueError(f"it does not decompress to {size} bytes")
    return content


def _expand_lzf(packed: bytes, size: int, _: int) -> bytes:
    content = bytearray()
    position = 0
    while position < len(packed) and len(content) <= size:
        control = packed[position]
        position += 1
        if control < 32:  # so many bytes and one more as they are
            content += packed[position : position + control + 1]
            position += control + 1
            continue
        extended = control >> 5 == 7
        following = packed[position : position + 1 + extended]
        if len(following) != 1 + extended:
            break
        position += len(following)
        count = (control >> 5) + 2 + (following[0] if extended else 0)
        distance = ((control & 31) << 8) + following[-1] + 1
        if distance > len(content):
            raise ValueError(f"it repeats what is {distance} bytes back, where nothing is")
        repeated = content[-distance:]
        content += (repeated * -(-count // distance))[:count]
    if len(content) != size:
        raise ValueError(f"it does not decompress to {size} bytes")
    return bytes(content)


def _unshuffle(shuffled: bytes, size: int, itemsize: int) -> bytes:
    if len(shuffled) != size:
        raise ValueError(f"it has {len(shuffled)} bytes and not {size}")
    return np.frombuffer(shuffled, np.uint8).reshape(itemsize, -1).T.tobytes()


_UNDO: dict[int, Callable[[bytes, int, int], bytes]] = {GZIP: _inflate, LZF: _expand_lzf, SHUFFLE: _unshuffle}


def _check_names(tensors: Mapping[str, StoredTensor]) -> None:
    for name in tensors:
        parts = name.split("/")
        if "\0" in name or any(part in ("", ".") for part in parts):
            raise ValueError(f"HDF5 has no place for the name {shown(name)}; rename it.")
        groups = ["/".join(parts[:count]) for count in range(1, len(parts))]
        if taken := [group for group in groups if group in tensors]:
            raise ValueError(f"{shown(name)} would be inside of {shown(taken[0])}, which is a tensor; rename one.")


def _attribute_parts(name: str, value: Attribute) -> Iterator[tuple[str, np.ndarray]]:
    """An attribute as Keras stores it: text as bytes of a fixed length, a long list in parts."""
    values = value if isinstance(value, list) else [value]
    stored = np.array([item.encode() if isinstance(item, str) else item for item in values] or np.empty(0, "S1"))
    if stored.dtype == "S0":  # a type that HDF5 has not
        stored = stored.astype("S1")
    if stored.itemsize > LARGEST_ATTRIBUTE or (stored.nbytes > LARGEST_ATTRIBUTE and not isinstance(value, list)):
        raise ValueError(
            f"the attribute {shown(name)} has {stored.itemsize} bytes in one piece, but HDF5 holds at most "
            f"{LARGEST_ATTRIBUTE}; shorten it."
        )
    if not isinstance(value, list):
        yield name, stored[0]
        return
    count = 1
    while any(part.nbytes > LARGEST_ATTRIBUTE for part in np.array_split(stored, count)):
        count += 1
    for i, part in enumerate(np.array_split(stored, count)):
        yield (name if count == 1 else f"{name}{i}"), part
