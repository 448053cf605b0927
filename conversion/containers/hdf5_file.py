"""HDF5 files of weights, as Keras and TensorFlow's transformers write them, mapped where they are not compressed.

What is in a file and where, `hdf5_structure` finds out; values are mapped or decompressed here, where their
size is bounded. Files are written by h5py. Attributes of weights: `hdf5_format.py` of Keras 2; bfloat16: `H5IOStore` of
Keras 3.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from conversion.containers.hdf5_library import written_again
from conversion.containers.hdf5_structure import (
    BFLOAT16_MARK,
    GZIP,
    LARGEST_DEPTH,
    LARGEST_NAME,
    SHUFFLE,
    Dataset,
    OtherLayout,
    Unfit,
    read_structure,
)
from conversion.containers.sparse_file import SparseFile
from vit_core.array_bytes import steps_of
from vit_core.checks import shown
from vit_core.file_bytes import file_bytes
from vit_core.mapped_tensor import view_as
from vit_core.stored_tensor import DTYPES, StoredTensor

if TYPE_CHECKING:
    import h5py

#: Keras splits an attribute of more bytes into NAME0, NAME1, ..., since an object's header must hold it.
LARGEST_ATTRIBUTE = 64512
Attribute = str | int | list[str] | list[int]


def read_hdf5(path: Path, mmap: bool = True) -> dict[str, StoredTensor]:
    """Open a file without reading its datasets; compressed ones are decompressed when read.

    Args:
        path: the file. Its datasets hold numbers, in one piece or in chunks, as they are or compressed by gzip,
            shuffled or not. What is stored otherwise, as with `libver="latest"` or another filter, the HDF5 library
            writes again, if h5py is installed; see `conversion.containers.hdf5_library`. Nothing a file says is
            believed before it is checked against the file's size; links to other places or files are refused, not
            followed.
        mmap: whether its bytes are mapped rather than read; see `vit_core.file_bytes`.

    Returns:
        Its datasets by full path ("layers/dense/vars/0"), in the order of HDF5, which sorts each group by name. Values
        of either byte order are read; what Keras marks as bfloat16 is that.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is truncated, corrupt, hostile, or holds something else than numbers.
    """
    with open(path, "rb") as file:  # once: the path may hold another file a moment later
        return hdf5_tensors(file_bytes(file, mmap=mmap), str(path))


def hdf5_tensors(data: np.ndarray, where: str) -> dict[str, StoredTensor]:
    """What `read_hdf5` does once there are bytes, uint8; `where` names their place in messages."""
    try:
        try:
            datasets = read_structure(data)
        except OtherLayout as error:
            data = written_again(data, error)
            datasets = read_structure(data)
    except Unfit as error:
        raise ValueError(f"{where} is no HDF5 file that can be read here: {error}.") from error
    return {name: _tensor(f"{shown(name)} in {where}", dataset, data) for name, dataset in datasets.items()}


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
        ImportError: h5py is not installed.
        OSError: it cannot be written.
        ValueError: a name cannot be a path in HDF5, names a dataset inside a dataset, or an attribute is too long.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError('writing HDF5 needs h5py, which is not installed: pip install "trivit[cli]"') from error
    _check_names(tensors)
    structure = SparseFile()
    with h5py.File(structure, "w") as file:
        places = {name: _place(file, name, tensor) for name, tensor in tensors.items()}
        for place, values in (attributes or {}).items():
            target = file[place or "/"] if not place or place in file else file.create_group(place)
            for name, value in values.items():
                for part, part_value in _attribute_parts(name, value):
                    target.attrs[part] = part_value
    # The library describes where the bytes are; they themselves need nothing of it, and are written faster without. Nor
    # does it touch the disk, since it keeps files open that it could not write, and their space with them.
    with open(path, "wb") as written:
        for position, content in structure.pages():
            written.seek(position)
            written.write(content)
        for name, offset in places.items():
            if offset is not None:
                written.seek(offset)
                written.writelines(steps_of(tensors[name].read()))
        written.truncate(structure.size)
        written.flush()
        os.fsync(written.fileno())


def _place(file: h5py.File, name: str, tensor: StoredTensor) -> int | None:
    """Describe a dataset, and say where in the file its bytes belong; None if it has none."""
    import h5py

    allocated = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    allocated.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    allocated.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    dtype = "V2" if tensor.dtype == "BF16" else DTYPES[tensor.dtype]
    # h5py gives a single value no place before it is written.
    value = tensor.read().view(dtype) if tensor.shape == () else None
    dataset = file.create_dataset(name, tensor.shape, dtype, value, track_times=False, dcpl=allocated)
    if tensor.dtype == "BF16":
        dataset.attrs[BFLOAT16_MARK[0]] = BFLOAT16_MARK[1]
    return None if tensor.shape == () else dataset.id.get_offset()


def _tensor(where: str, dataset: Dataset, data: np.ndarray) -> StoredTensor:
    def read() -> np.ndarray:
        values = view_as(data[:0], dataset.dtype, dataset.shape) if 0 in dataset.shape else _read(where, dataset, data)
        return values.byteswap() if dataset.is_big_endian else values

    return StoredTensor(dataset.dtype, dataset.shape, read)


def _read(where: str, dataset: Dataset, data: np.ndarray) -> np.ndarray:
    """The values, their bytes in the order of the file."""
    first = dataset.chunks[0]
    if dataset.chunk_shape == dataset.shape and not dataset.applied(first):
        return view_as(data[first.start : first.end], dataset.dtype, dataset.shape)
    values = np.empty(dataset.shape, DTYPES[dataset.dtype])
    size = dataset.nbytes(dataset.chunk_shape)
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


def _unshuffle(shuffled: bytes, _: int, itemsize: int) -> bytes:
    return np.frombuffer(shuffled, np.uint8).reshape(itemsize, -1).T.tobytes()


_UNDO: dict[int, Callable[[bytes, int, int], bytes]] = {GZIP: _inflate, SHUFFLE: _unshuffle}


def _check_names(tensors: Mapping[str, StoredTensor]) -> None:
    for name in tensors:
        parts = name.split("/")
        # Other names are possible, but put HDF5 into its newer layout.
        can_be_read = name.isascii() and len(name) < LARGEST_NAME and len(parts) <= LARGEST_DEPTH
        if "\0" in name or any(part in ("", ".") for part in parts) or not can_be_read:
            raise ValueError(f"HDF5 has no place for the name {shown(name)}; rename it.")
        groups = ["/".join(parts[:count]) for count in range(1, len(parts))]
        if taken := [group for group in groups if group in tensors]:
            raise ValueError(f"{shown(name)} would be inside of {shown(taken[0])}, which is a tensor; rename one.")


def _attribute_parts(name: str, value: Attribute) -> Iterator[tuple[str, np.ndarray]]:
    """An attribute as Keras stores it: text as bytes of a fixed length, a long list in parts."""
    values = value if isinstance(value, list) else [value]
    stored = np.array([item.encode() if isinstance(item, str) else item for item in values] or np.empty(0, "S1"))
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
