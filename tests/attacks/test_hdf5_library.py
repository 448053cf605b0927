"""HDF5 files that only the HDF5 library reads: it opens no other file, and may hang or crash.

The kinds: files that name files (CWE-610), loops and crashes on changed bytes (as CVE-2021-45830 and its like), and
claims beyond what a file holds (CWE-789).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from conversion.containers import hdf5_library
from conversion.containers.hdf5_file import read_hdf5

pytestmark = pytest.mark.skipif(not hdf5_library.is_there(), reason="limits of processes are Linux's")


def link(file: h5py.File, secret: Path) -> None:
    file["x"] = h5py.ExternalLink(secret, "x")


def virtual(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(secret, "x", (3,))
    file.create_virtual_dataset("x", layout)


def elsewhere(file: h5py.File, secret: Path) -> None:
    file.create_dataset("x", (3,), "f8", external=[(str(secret), 0, 24)])


def circle(file: h5py.File, secret: Path) -> None:
    file["x/y"] = file.create_group("x")


def claim(file: h5py.File, secret: Path) -> None:
    file.create_dataset("x", (2**40,), "f8", chunks=(2**20,))


def text(file: h5py.File, secret: Path) -> None:
    file["x"] = "text"


ATTACKS = {
    link: "'x' links to another place",
    virtual: "'x' holds something else than numbers, or in other files",
    elsewhere: "'x' holds something else than numbers, or in other files",
    circle: "'x/y' is there a second time",
    claim: "'x' claims 8796093022208 bytes",
    text: "'x' holds something else than numbers",
}


def refusal(path: Path) -> str:
    with pytest.raises(ValueError, match="is no HDF5 file that can be read here") as caught:
        read_hdf5(path)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < len(str(path)) + 500
    return message


@pytest.mark.parametrize("write", ATTACKS, ids=lambda write: write.__name__)
def test_what_is_not_in_the_file_itself_is_refused(write: Callable[[h5py.File, Path], None], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret", "w") as file:
        file["x"] = np.ones(3)
    with h5py.File(tmp_path / "file", "w", libver="latest") as file:
        write(file, tmp_path / "secret")
    assert f'the HDF5 library says "{ATTACKS[write]}' in refusal(tmp_path / "file")


PROGRAMS = {
    "os.abort()": r"the HDF5 library crashes on it \(SIGABRT\)",
    "while True: pass": "the HDF5 library takes longer for it than for any file of its size",
    "sys.exit('\\x1b[2J' * 9999)": r"the HDF5 library says '\\x1b\[2J",
    "open('/dev/null')": "Too many open files",
    "bytearray(2**30)": "MemoryError",
    "os.write(1, bytes(2**24)); os.lseek(1, 2**40, 0); os.write(1, b'x')": "File too large",
}


@pytest.mark.parametrize("statement", PROGRAMS)
def test_whatever_the_library_does_is_one_sentence(
    statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a hostile file would have it, once it is the library that runs."""
    program = hdf5_library.PROGRAM.read_text()
    changed = program.replace("SECONDS, BYTES_A_SECOND = 2**28, 3,", "SECONDS, BYTES_A_SECOND = 2**28, 1,")
    changed = changed.replace("    take_attributes(file, copy)\n", f"    {statement}\n", 1)
    assert changed.count(statement) == 1
    (tmp_path / "program.py").write_text(changed)
    monkeypatch.setattr(hdf5_library, "PROGRAM", tmp_path / "program.py")
    with h5py.File(tmp_path / "file", "w", libver="latest") as file:
        file["x"] = np.ones(3)
    assert re.search(PROGRAMS[statement], refusal(tmp_path / "file"))
