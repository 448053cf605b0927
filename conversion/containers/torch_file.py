"""PyTorch's files, read and written without PyTorch.

Since version 1.6 `torch.save` writes a zip archive: a pickle of the objects (`data.pkl`), in which tensors refer to
storages, and one uncompressed record for each storage. Before, it wrote five pickles (a magic number, the protocol,
the machine, the objects, the storages' keys) and then the storages. Both are mapped rather than read, and no code that
they hold is run: see `torch_pickle`. The layouts are those of torch/serialization.py and, for the archive,
caffe2/serialize/inline_container.cc. As in PyTorch, the archive's checksums are not compared: that would read it all.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from conversion.containers.torch_names import (
    STORAGE_TYPES,
    UNTYPED_DTYPES,
    Pairs,
    PickledTensor,
    ScriptModule,
    Storage,
    admitted,
    admitted_in_script,
    itemsize,
)
from conversion.containers.torch_pickle import LARGEST_PICKLE, MOST_STEPS, Pickled, read_pickle
from conversion.containers.torch_script import Children, script_children
from conversion.containers.zip_file import ZipEntry, ZipWriter, open_zip
from vit_core.checks import shown
from vit_core.file_bytes import file_bytes
from vit_core.mapped_tensor import mapped_tensor, view_as
from vit_core.stored_tensor import StoredTensor

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
DEEPEST = 64  # levels of dictionaries and lists
MOST_TENSORS = 100_000  # a ViT-H with its optimizer has two thousand; one tensor can stand in many places
LARGEST_NAMES = 2**25  # letters in all names: a long key can stand in many names

_ZIP_SIGN = b"PK"
_PICKLE_SIGN = b"\x80"  # of protocol 2 and later
_TAR_SIGN, _TAR_SIGN_START = b"ustar", 257
_ARCHIVE = "archive"  # the folder of all records; PyTorch takes any


def read_torch_file(path: Path, mmap: bool = True) -> dict[str, StoredTensor]:
    """Open a file of `torch.save` without reading its tensors and without running its code.

    Args:
        path: a file of any version of PyTorch since 0.1.10, as it is found under the names `.bin`, `.pth` and `.pt`, or
            a TorchScript program, as `torch.jit.save` writes it since version 1.4; nothing it says is believed before
            it is checked against the file's size.
        mmap: whether its bytes are mapped rather than read; see `vit_core.file_bytes`.

    Returns:
        Its tensors in the order of the file. The keys of dictionaries and the places in lists that lead to a tensor are
        its name, joined with "/": "teacher/backbone.cls_token", "optimizer/state/0/exp_avg". Tensors of one storage
        share their memory unless they are strided, as those are copied when read. What is no tensor is dropped. Of a
        program, the parameters and buffers, whose names are joined with dots.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is truncated, corrupt or hostile, holds no named tensors, or is of a kind that is not read: a
            frozen TorchScript program, the tar archive of PyTorch 0.1.9 and before, tensors that are not dense; the
            message says what is wrong.
    """
    with open(path, "rb") as file:
        beginning = file.read(_TAR_SIGN_START + len(_TAR_SIGN))
        data = file_bytes(file, mmap=mmap) if beginning.startswith(_PICKLE_SIGN) else None
    entries = open_zip(path, "PyTorch file", mmap) if beginning.startswith(_ZIP_SIGN) else {}
    try:
        if data is not None:
            pickled, storages = _read_stream(data)
            length = len(data)
        elif beginning.startswith(_ZIP_SIGN):
            pickled, storages = _read_archive(entries)
            length = sum(entry.size for entry in entries.values())
        else:
            raise _unknown(beginning)
        if isinstance(pickled.value, ScriptModule):
            tensors = _named_tensors(pickled.value, ".", script_children(entries))
        else:
            tensors = _named_tensors(pickled.value, "/", _children)
        return {name: _stored(name, tensor, storages[tensor.storage.key], length) for name, tensor in tensors.items()}
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def write_torch_file(path: Path, tensors: Mapping[str, StoredTensor], inside: str = "") -> None:
    """Write a file that `torch.load` reads, also with `weights_only=True` and `mmap=True`, one tensor at a time.

    Args:
        path: the file to create. It is flushed to disk; to replace a file atomically see `vit_core.saving`.
        tensors: what it holds: a dictionary with these names in this order, each tensor with a storage of its own.
        inside: the name of a dictionary's only entry, if the tensors are to lie in one more.

    Raises:
        OSError: it cannot be written.
        ValueError: a name cannot be spelled in UTF-8.
    """
    pickled = _pickle(tensors, inside)
    with ZipWriter(path) as archive:
        archive.write(f"{_ARCHIVE}/data.pkl", pickled)
        archive.write(f"{_ARCHIVE}/byteorder", b"little")
        for index, tensor in enumerate(tensors.values()):
            archive.write(f"{_ARCHIVE}/data/{index}", tensor.read())
        archive.write(f"{_ARCHIVE}/version", b"3\n")


def _unknown(beginning: bytes) -> ValueError:
    """What is said of a file in neither format."""
    if beginning[_TAR_SIGN_START:] == _TAR_SIGN:
        return ValueError("is a tar archive of PyTorch 0.1.9 or before; load it with PyTorch and save it again.")
    return ValueError(f"begins with {shown(beginning[:16])}, as no file of PyTorch does; get the file again.")


def _read_archive(entries: Mapping[str, ZipEntry]) -> tuple[Pickled, dict[str, np.ndarray]]:
    """The objects of an archive, and the bytes of its storages by key."""
    folders = [
        name.removesuffix("/data.pkl") for name in entries if name.endswith("/data.pkl") and name.count("/") == 1
    ]
    if len(folders) != 1:
        raise ValueError(f"is a zip archive with {len(folders)} data.pkl instead of one; it is no file of torch.save.")
    folder = folders[0]
    is_script = f"{folder}/constants.pkl" in entries or any(name.startswith(f"{folder}/code/") for name in entries)
    order = _record(entries, f"{folder}/byteorder")[:16].tobytes() if f"{folder}/byteorder" in entries else b"little"
    if order != b"little":
        raise ValueError(f"has the byte order {shown(order)}, but only b'little' is read; save it on another machine.")
    pickle = _record(entries, f"{folder}/data.pkl")
    if len(pickle) > LARGEST_PICKLE:
        raise ValueError(
            f"has a data.pkl of {len(pickle)} bytes and not {LARGEST_PICKLE} at most; save its weights alone."
        )
    pickled = read_pickle(pickle.data, admit=admitted_in_script if is_script else admitted)
    if pickled.end != len(pickle):
        raise ValueError(f"has {len(pickle) - pickled.end} bytes behind its pickle; it is corrupt, get it again.")
    if is_script and not isinstance(pickled.value, ScriptModule):
        raise ValueError("is a TorchScript program without a module; save the state dict of its weights.")
    storages = {}
    for key, storage in pickled.storages.items():
        storages[key] = _record(entries, f"{folder}/data/{key}")
        if len(storages[key]) != storage.nbytes:
            raise ValueError(
                f"has {len(storages[key])} bytes for storage {shown(key)}, but {storage.count} values of "
                f"{storage.dtype} take {storage.nbytes}; it is corrupt."
            )
    return pickled, storages


def _record(entries: Mapping[str, ZipEntry], name: str) -> np.ndarray:
    """The bytes of a record, mapped."""
    if name not in entries:
        raise ValueError(f"lacks the record {shown(name)}; it is corrupt, get it again.")
    if not entries[name].is_stored:
        raise ValueError(f"has the record {shown(name)} deflated, which PyTorch does not; pack it again uncompressed.")
    return entries[name].mapped()


def _read_stream(data: np.ndarray) -> tuple[Pickled, dict[str, np.ndarray]]:
    """The objects of a file in the format before PyTorch 1.6, and the bytes of its storages by key."""
    view = data.data
    magic = read_pickle(view)
    if magic.value != MAGIC_NUMBER or type(magic.value) is not int:
        raise ValueError("is a pickle, but not by torch.save, whose magic number it lacks; it is something else.")
    protocol = read_pickle(view, magic.end)
    if protocol.value != PROTOCOL_VERSION or type(protocol.value) is not int:
        raise ValueError(f"does not have the version {PROTOCOL_VERSION} of PyTorch's older format; it is corrupt.")
    machine = read_pickle(view, protocol.end)
    if not isinstance(machine.value, Pairs) or ("little_endian", True) not in machine.value:
        raise ValueError("was not written by a machine with little-endian numbers; save it on another machine.")
    pickled = read_pickle(view, machine.end)
    keys = read_pickle(view, pickled.end)
    if type(keys.value) is not list or not all(isinstance(key, str) for key in keys.value):
        raise ValueError("lists its storages by something else than keys; it is corrupt.")
    if len(keys.value) != len(pickled.storages) or set(keys.value) != pickled.storages.keys():
        raise ValueError("does not list the storages that its tensors refer to; it is corrupt.")
    return pickled, _find_storages(data, keys.end, [pickled.storages[key] for key in keys.value])


def _find_storages(data: np.ndarray, position: int, storages: Iterable[Storage]) -> dict[str, np.ndarray]:
    """The bytes of storages that lie one behind the other up to the end, each after the number of its values."""
    found = {}
    for storage in storages:
        start, end = position + 8, position + 8 + storage.nbytes
        if end > len(data):
            raise ValueError(
                f"ends at byte {len(data)}, but storage {shown(storage.key)} should end at {end}; it is truncated, get "
                f"it again."
            )
        (count,) = struct.unpack("<q", data[position:start].tobytes())
        if count != storage.count:
            raise ValueError(
                f"has storage {shown(storage.key)} with {count} values instead of {storage.count}; it is corrupt."
            )
        found[storage.key] = data[start:end]
        position = end
    if position != len(data):
        raise ValueError(
            f"has {len(data) - position} bytes behind its last storage; save each object to a file of its own."
        )
    return found


def _named_tensors(root: Any, separator: str, children: Children) -> dict[str, PickledTensor]:
    """The tensors in dictionaries and lists, or in modules, by the keys that lead to them."""
    if isinstance(root, PickledTensor):
        raise ValueError("holds one tensor without a name; save a dictionary of named tensors.")
    tensors: dict[str, PickledTensor] = {}
    letters = 0
    for keys, tensor in _tensors_with_keys(root, children):
        for key in keys:
            if type(key) not in (str, int):
                raise ValueError(f"has a tensor under the key {shown(key)}, which is neither text nor a whole number.")
        parts = [str(key) for key in keys]
        letters += sum(map(len, parts))
        if letters > LARGEST_NAMES or len(tensors) == MOST_TENSORS:
            raise ValueError(
                f"has more than {MOST_TENSORS} tensors, or names of more than {LARGEST_NAMES} letters in all, which no "
                f"checkpoint has; save its state dict alone."
            )
        name = separator.join(parts)
        if name in tensors:
            raise ValueError(f"has two tensors named {shown(name)}; nothing says which one counts.")
        tensors[name] = tensor
    if not tensors and isinstance(root, ScriptModule):
        raise ValueError(
            "is a TorchScript program in which no weights have names, since it was frozen or has none; save its state "
            "dict before torch.jit.freeze."
        )
    if not tensors:
        raise ValueError("holds no tensors in dictionaries or lists; save a state dict.")
    return tensors


def _tensors_with_keys(root: Any, children: Children) -> Iterator[tuple[list[Any], PickledTensor]]:
    """The tensors and the keys that lead to them; what contains itself, or what is shared too often, is refused."""
    keys: list[Any] = []
    levels = [children(root)]
    seen = 0
    while levels:
        for key, child in levels[-1]:
            seen += 1
            if isinstance(child, PickledTensor):
                yield [*keys, key], child
            elif isinstance(child, list | tuple | ScriptModule):
                keys.append(key)
                levels.append(children(child))
                break
        else:
            levels.pop()
            del keys[-1:]  # the root has none
        if seen > MOST_STEPS or len(levels) > DEEPEST:
            raise ValueError(
                f"has dictionaries, lists or modules that contain themselves, lie more than {DEEPEST} deep or hold one "
                f"another more than {MOST_STEPS} times; save its state dict alone."
            )


def _children(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Pairs):
        return iter(value)
    return enumerate(value) if isinstance(value, list | tuple) else iter(())


def _stored(name: str, tensor: PickledTensor, data: np.ndarray, length: int) -> StoredTensor:
    """A tensor that is read when asked for.

    Args:
        name: its name, for messages.
        tensor: where it is.
        data: the bytes of its whole storage.
        length: size of the file in bytes.
    """
    if tensor.nbytes > length:
        raise ValueError(
            f"has {length} bytes of storages, but claims {tensor.nbytes} for {shown(name)}; save its values in full."
        )
    width = itemsize(tensor.dtype)
    start = tensor.storage.start + tensor.offset * width
    if tensor.is_contiguous:
        return mapped_tensor(data[start : start + tensor.nbytes], tensor.dtype, tensor.shape)
    # An axis of length one may have any stride, also one that numpy cannot count.
    strides = [0 if size == 1 else stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)]
    count = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, strides, strict=True))

    def read() -> np.ndarray:
        values = view_as(data[start : start + count * width], tensor.dtype, (count,))
        steps = [stride * width for stride in strides]
        return np.lib.stride_tricks.as_strided(values, tensor.shape, steps, writeable=False).copy()

    return StoredTensor(tensor.dtype, tensor.shape, read)


def _pickle(tensors: Mapping[str, StoredTensor], inside: str) -> bytes:
    """The instructions that make a dictionary of tensors, in the protocol 2 of `torch.save`.

    Args:
        tensors: by name.
        inside: the name of the only entry, if there is one around them.
    """
    whole = _pickled_dictionary(
        _pickled_text(name) + _pickled_tensor(str(index), tensor)
        for index, (name, tensor) in enumerate(tensors.items())
    )
    if inside:
        whole = _pickled_dictionary([_pickled_text(inside) + whole])
    return b"\x80\x02" + whole + b"."


def _pickled_dictionary(entries: Iterable[bytes]) -> bytes:
    return b"}(" + b"".join(entries) + b"u"


def _pickled_tensor(key: str, tensor: StoredTensor) -> bytes:
    """A call of `_rebuild_tensor_v2` or, for dtypes without a type of storage, `_rebuild_tensor_v3`."""
    is_untyped = tensor.dtype in UNTYPED_DTYPES
    storage = _pickled_name("torch.storage", "UntypedStorage")
    if not is_untyped:
        storage = _pickled_name("torch", STORAGE_TYPES[tensor.dtype])
    count = tensor.nbytes if is_untyped else tensor.nbytes // itemsize(tensor.dtype)
    steps = [1, *itertools.accumulate((max(size, 1) for size in reversed(tensor.shape)), int.__mul__)]
    strides = reversed(steps[: len(tensor.shape)])
    return b"".join(
        [
            _pickled_name("torch._utils", "_rebuild_tensor_v3" if is_untyped else "_rebuild_tensor_v2"),
            b"((",
            _pickled_text("storage") + storage + _pickled_text(key) + _pickled_text("cpu") + _pickled_integer(count),
            b"tQ",
            _pickled_integer(0),
            b"(" + b"".join(map(_pickled_integer, tensor.shape)) + b"t",
            b"(" + b"".join(map(_pickled_integer, strides)) + b"t",
            b"\x89",  # needs no gradient
            _pickled_name("collections", "OrderedDict") + b")R",  # and has no hooks
            _pickled_name("torch", UNTYPED_DTYPES[tensor.dtype]) if is_untyped else b"",
            b"tR",
        ]
    )


def _pickled_text(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _pickled_integer(number: int) -> bytes:
    if number < 2**31:
        return b"J" + struct.pack("<i", number)
    return b"\x8a\x08" + struct.pack("<q", number)


def _pickled_name(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()
