"""The HDF5 library, for files in layouts that `hdf5_structure` does not read; it sees them in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from conversion.containers.hdf5_structure import OtherLayout, Unfit
from vit_core.array_bytes import steps_of
from vit_core.checks import shown
from vit_core.file_bytes import file_bytes

PROGRAM = Path(__file__).with_name("hdf5_process.py")
#: No filter is loaded that a file names and the library lacks, and no thread started that nobody needs.
ENVIRONMENT = {"HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1"}
LONGEST_ANSWER = 1000  # bytes


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
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as copy, tempfile.TemporaryFile() as answer:
        source.writelines(steps_of(data))
        source.seek(0)
        command = [sys.executable, "-P", str(PROGRAM)]
        environment = {**os.environ, **ENVIRONMENT}
        code = subprocess.run(command, stdin=source, stdout=copy, stderr=answer, env=environment).returncode
        if code:
            answer.seek(0)
            raise Unfit(f"{reason}; the HDF5 library {_ending(code, answer.read(LONGEST_ANSWER))}")
        return file_bytes(copy)


def is_there() -> bool:
    """Whether the library is installed and can be given limits."""
    return sys.platform == "linux" and importlib.util.find_spec("h5py") is not None


def _ending(code: int, answer: bytes) -> str:
    if code == -signal.SIGXCPU or code == -signal.SIGKILL:
        return "takes longer for it than for any file of its size"
    if code < 0:
        return f"crashes on it ({signal.Signals(-code).name})"
    return f"says {shown(answer.decode(errors='replace').strip())}"
