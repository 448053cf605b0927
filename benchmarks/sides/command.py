"""Programs that take a folder of photographs through a model, from the start of their process to its end."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import weights
from benchmarks.sides.photographs import PHOTO_SIZE, jpeg, photo
from benchmarks.worker import Prepared, Spent

DISTINCT = 50  # photographs; the others are copies


def folder_of(count: int) -> Path:
    """A folder of JPEG files, made when first asked for."""
    place = Path(os.environ[weights.FOLDER]) / "photographs"
    place.mkdir(exist_ok=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = place / str(count)
        if not made.exists():
            files = [jpeg(photo(seed, PHOTO_SIZE)) for seed in range(min(count, DISTINCT))]
            unfinished = place / "unfinished"
            unfinished.mkdir(exist_ok=True)
            for number in range(count):
                (unfinished / f"{number:05}.jpg").write_bytes(files[number % len(files)])
            unfinished.rename(made)
    return made


def prepare(kind: str, model: str, photos: int, programs: Mapping[str, str]) -> Prepared:
    """Run a program of Python's, which gets a model's folder, one of photographs and a file to write as arguments.

    Args:
        kind: what is to be done.
        model: by which model.
        photos: how many there are.
        programs: the code that does it, by kind.
    """
    given = [str(weights.folder(model)), str(folder_of(photos))]
    program = [sys.executable, "-c", programs[kind], *given]

    def run() -> Spent:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            process = subprocess.Popen([*program, str(Path(folder) / "output.npz")], stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, programs[kind])
            return Spent(time.perf_counter() - start, used.ru_maxrss * 1024)

    return Prepared(run)
