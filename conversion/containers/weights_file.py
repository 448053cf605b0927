"""Files of weights, whatever they are called: what a file is, its own first bytes say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conversion.containers.hdf5_file import read_hdf5, write_hdf5
from conversion.containers.keras_file import described_in_hdf5, described_in_keras, read_keras
from conversion.containers.msgpack_file import read_msgpack, write_msgpack
from conversion.containers.npz_file import read_npz, write_npz
from conversion.containers.torch_file import read_torch_file, write_torch_file
from conversion.containers.zip_file import open_zip
from vit_core.file_names import KERAS_NAME
from vit_core.safetensors_file import map_safetensors, write_safetensors
from vit_core.stored_tensor import StoredTensor

Tensors = Mapping[str, StoredTensor]
Attributes = Mapping[str, Mapping[str, Any]]


def _not_described(path: Path) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Container:
    """A kind of file that holds tensors by name.

    Attributes:
        suffixes: how its files' names end.
        read: opens a file, mapped unless `mmap` is False; tensors are read when asked for. Names of nested groups are
            joined with "/".
        write: writes tensors, one at a time, and flushes them to disk; None for a kind that is only read.
        describe: the config of the model that such a file describes, empty if it describes none.
        takes_attributes: whether `write` takes the attributes of groups, too.
        takes_inside: whether `write` takes the name of a dictionary around the tensors, too.
    """

    suffixes: tuple[str, ...]
    read: Callable[..., dict[str, StoredTensor]]
    write: Callable[..., None] | None
    describe: Callable[[Path], dict[str, Any]] = _not_described
    takes_attributes: bool = False
    takes_inside: bool = False


CONTAINERS: dict[str, Container] = {
    "safetensors": Container((".safetensors",), map_safetensors, write_safetensors),
    "torch": Container((".bin", ".pth", ".pt", ".ckpt"), read_torch_file, write_torch_file, takes_inside=True),
    "npz": Container((".npz",), read_npz, write_npz),
    "hdf5": Container((".h5", ".hdf5"), read_hdf5, write_hdf5, described_in_hdf5, takes_attributes=True),
    "keras": Container((".keras",), read_keras, None, described_in_keras),
    "msgpack": Container((".msgpack",), read_msgpack, write_msgpack),
}
SUFFIXES = {suffix: name for name, container in CONTAINERS.items() for suffix in container.suffixes}

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"
SAFETENSORS_MAGIC = b"\0\0{"  # the end of a length that no header has, and its first letter
PICKLE_MAGIC = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
MSGPACK_MAPS = bytes([*range(0x81, 0x90), 0xDE, 0xDF])  # a map of up to 15 entries, and those of more


def read_weights(path: Path, mmap: bool = True) -> dict[str, StoredTensor]:
    """Open a file of weights of any kind.

    Args:
        path: the file.
        mmap: whether its bytes are mapped rather than read; see `vit_core.file_bytes`.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is of no known kind, or not what its first bytes say.
    """
    return CONTAINERS[container_of(path)].read(path, mmap=mmap)


def described_in(path: Path) -> dict[str, Any]:
    """The config of the model that a file of weights describes itself, as Keras' do; empty if it describes none."""
    return CONTAINERS[container_of(path)].describe(path)


def container_of(path: Path) -> str:
    """The kind of a file, a key of `CONTAINERS`, by its content.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is of no known kind.
    """
    with open(path, "rb") as file:
        start = file.read(16)
    if start.startswith(HDF5_MAGIC):
        return "hdf5"
    if start.startswith(ZIP_MAGIC):
        return _kind_of_archive(path)
    if start[6:9] == SAFETENSORS_MAGIC:  # before those that look at bytes of this header's length
        return "safetensors"
    if start.startswith(PICKLE_MAGIC):
        return "torch"
    if start[:1] and start[0] in MSGPACK_MAPS:
        return "msgpack"
    if kind := SUFFIXES.get(path.suffix.lower()):  # empty, truncated or corrupt: its reader says so
        return kind
    raise ValueError(
        f"{path} is no file of weights: it starts with {start[:8]!r}, as neither safetensors, nor what torch.save, "
        f"numpy.savez, HDF5 or msgpack write does."
    )


def container_for(path: Path) -> str | None:
    """The kind of file that a path's suffix asks for, if any."""
    return SUFFIXES.get(path.suffix.lower())


def _kind_of_archive(path: Path) -> str:
    try:
        names = open_zip(path, "zip archive")
    except ValueError:  # its reader says so
        kind = SUFFIXES.get(path.suffix.lower())
        return kind if kind in ("npz", "keras") else "torch"
    if KERAS_NAME in names:
        return "keras"
    return "npz" if any(name.endswith(".npy") for name in names) else "torch"
