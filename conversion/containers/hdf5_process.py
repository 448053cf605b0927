"""A program: writes the datasets of an HDF5 file again as h5py does by default, from standard input to standard output.

The HDF5 library reads every layout of the format, but a changed byte can make it loop for ever or end the process, and
links have it open other files. So it has a process of its own, which gives up whatever it does not need before it sees
the file: other files, more memory and time than the file deserves, and room on the disk. Of the names in the file,
those of datasets of numbers are written, and the attributes that Keras reads.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import h5py

    from vit_core.process_limits import GiveUp

MEMORY, SECONDS, BYTES_A_SECOND = 2**28, 3, 2**22  # beyond what is in use; and with the file's size
LARGEST_EXPANSION, HARMLESS_SIZE = 100, 2**26  # as in `conversion.containers.zip_file`
LARGEST_COUNT, LARGEST_DEPTH = 100_000, 64
ATTRIBUTES = ("dtype", "model_config")  # Keras' mark of bfloat16, and its description of a model


def main(give_up: GiveUp) -> None:
    """Do it; what is wrong with the file is one line on standard error."""
    import h5py

    length = os.fstat(0).st_size
    most = max(HARMLESS_SIZE, LARGEST_EXPANSION * length)
    warm_up()
    with open(0, "rb") as source, open(1, "r+b", buffering=0) as target:
        give_up(MEMORY + length, SECONDS + length // BYTES_A_SECOND, 2 * most)
        try:
            with h5py.File(source, "r") as file, h5py.File(target, "w") as copy:
                write_again(file, copy, most)
        except Exception as error:  # whatever the library makes of a stranger's file
            sys.exit(" ".join(str(error).split())[:500] or type(error).__name__)


def warm_up() -> None:
    """Have the library load what it loads when it is first used, while it may."""
    import h5py

    with h5py.File(io.BytesIO(), "w", libver="latest") as file:
        file.create_dataset("group/data", data=np.ones(9), chunks=(2,), compression="gzip")[:3]
        file.attrs["text"] = "text"


def write_again(file: h5py.File, copy: h5py.File, most: int) -> None:
    """Copy every dataset that the file itself holds.

    Raises:
        ValueError: there is something else, or more than `most` bytes.
    """
    import h5py

    take_attributes(file, copy)
    waiting = [(name, file, 1) for name in file]
    seen: set[int] = set()
    claimed = 0
    while waiting:
        path, group, depth = waiting.pop()
        name = path.rpartition("/")[2]
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{path!r} links to another place, which is not followed")
        item = group[name]
        address = h5py.h5o.get_info(item.id).addr
        if address in seen or depth > LARGEST_DEPTH or len(seen) > LARGEST_COUNT:
            raise ValueError(f"{path!r} is there a second time, too deep, or one of too many")
        seen.add(address)
        if isinstance(item, h5py.Group):
            waiting += [(f"{path}/{inner}", item, depth + 1) for inner in item]
            continue
        is_number = isinstance(item, h5py.Dataset) and (item.dtype.kind in "biuf" or item.dtype.str == "|V2")
        if not is_number or item.shape is None or item.is_virtual or item.external:
            raise ValueError(f"{path!r} holds something else than numbers, or in other files")
        claimed += item.nbytes
        if claimed > most:
            raise ValueError(f"{path!r} claims {item.nbytes} bytes, more than the file can hold")
        take_attributes(item, copy.create_dataset(path, data=item[()], track_times=False))


def take_attributes(item: h5py.HLObject, target: h5py.HLObject) -> None:
    """Copy the texts that Keras reads."""
    for name in ATTRIBUTES:
        if name in item.attrs and isinstance(text := item.attrs[name], str):
            target.attrs[name] = np.bytes_(text) if len(text) < 2**15 else text
