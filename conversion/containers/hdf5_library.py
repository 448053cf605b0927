"""The HDF5 library, for files in layouts that `hdf5_structure` does not read; it sees them in a process of its own."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import numpy as np

from conversion.containers.hdf5_structure import OtherLayout, Unfit
from vit_core import limited_process
from vit_core.array_bytes import steps_of
from vit_core.file_bytes import file_bytes

PROGRAM = Path(__file__).with_name("hdf5_process.py")
#: No filter is loaded that a file names and the library lacks, and no thread started that nobody needs.
ENVIRONMENT = {"HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1"}


def written_again(data: np.ndarray, reason: OtherLayout) -> np.ndarray:
    """A file as h5py writes it by default.

    Args:
        data: the bytes of the file, uint8.
        reason: why it has to be.

    Returns:
        The bytes of another file, mapped, with the same datasets; it has no name and goes when nobody needs it.

    Raises:
        OSError: there is no room for it on the disk.
        Unfit: the library does not read the file within the limits of `conversion.containers.hdf5_process`, or cannot
            be given any here.
    """
    if not is_there():
        raise Unfit(f'{reason}; or have h5py read it, on Linux: pip install "trivit[cli]"')
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as copy:
        source.writelines(steps_of(data))
        source.seek(0)
        if problem := limited_process.run(PROGRAM, source=source, target=copy, environment=ENVIRONMENT):
            raise Unfit(f"{reason}; the HDF5 library {problem}")
        return file_bytes(copy)


def is_there() -> bool:
    """Whether the library is installed and can be given limits."""
    return limited_process.is_possible() and importlib.util.find_spec("h5py") is not None
