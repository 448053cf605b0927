"""Features that are being computed, kept on disk so that a run that was stopped goes on where it was.

Beside `features.npz` there is a folder `features.npz.unfinished` until that file is complete:

- `run.json`: what the run is, which one that goes on must share;
- `features.f32`: the features of the images so far, little endian and without gaps;
- `done.jsonl`: a line for each batch whose features are there to the last byte: how many of the images are done, the
  names of those that have features, and why others have none;
- `moments.N.npz`, of a run with a picture: the sums for its principal components after N images.

A batch counts once its line is complete, and what lies in the files beyond the last such line is dropped. The file
itself is written in the folder, too, and moved out when it is whole.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vit_cli.feature_files import DTYPE, Features, write_features
from vit_cli.principal_components import Moments
from vit_core.locks import lockable, say_unlockable, try_lock
from vit_core.saving import STAGING, write_file

RUN, VALUES, DONE = "run.json", "features.f32", "done.jsonl"


@dataclass
class UnfinishedFeatures:
    """The features of a run so far.

    Attributes:
        folder: where they are kept.
        shape: of the features of one image.
        done: how many of the images are done, whether they could be read or not.
        files: the names of those that have features, in their order.
        unreadable: for each of the others why it has none.
        moments: of the features of their patches, if there is to be a picture.
    """

    folder: Path
    shape: tuple[int, ...]
    done: int = 0
    files: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    moments: Moments | None = None

    def add(self, done: int, values: np.ndarray, files: Sequence[str], unreadable: Sequence[str]) -> None:
        """Keep the features of a batch.

        Args:
            done: how many images are done with it.
            values: (images, *shape); `moments` are to have them already.
            files: the names of these images.
            unreadable: why others of the batch have none.

        Raises:
            OSError: the disk is full.
        """
        if self.moments is not None:
            self._keep_moments(done, self.moments)
        _append(self.folder / VALUES, values.astype(DTYPE).tobytes())
        line = {"done": done, "files": [*files], "unreadable": [*unreadable]}
        _append(self.folder / DONE, json.dumps(line).encode() + b"\n")
        if self.moments is not None:
            _moments_file(self.folder, self.done).unlink(missing_ok=True)
        self.done = done
        self.files += files
        self.unreadable += unreadable

    def finish(self, output: Path, about: Mapping[str, Any]) -> None:
        """Write what there is to a file, in the format of its suffix, and drop what was kept.

        Raises:
            OSError: it cannot be written; what was there before is untouched.
        """
        whole = self.folder / "whole"
        with _explained(output):
            shape = (len(self.files), *self.shape)
            write_features(whole, output.suffix.lower(), Features(self.folder / VALUES, shape, self.files, about))
            os.replace(whole, output)

    def _keep_moments(self, done: int, moments: Moments) -> None:
        path = _moments_file(self.folder, done)
        with _explained(path), open(path, "wb") as file:
            np.savez(file, count=np.array(moments.count), total=moments.total, products=moments.products)
            file.flush()
            os.fsync(file.fileno())

    def _go_on(self, with_moments: bool) -> None:
        """Read what is there, and drop what lies beyond the last batch that is complete."""
        complete = 0
        for line in (self.folder / DONE).read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            batch = json.loads(line)
            self.done = batch["done"]
            self.files += batch["files"]
            self.unreadable += batch["unreadable"]
            complete += len(line)
        os.truncate(self.folder / DONE, complete)
        os.truncate(self.folder / VALUES, len(self.files) * math.prod(self.shape) * DTYPE.itemsize)
        if with_moments and self.done:
            with np.load(_moments_file(self.folder, self.done)) as kept:
                self.moments = Moments(int(kept["count"]), kept["total"], kept["products"])


def folder_of(output: Path) -> Path:
    """Where the features for a file are kept until it is complete."""
    return output.with_name(f"{output.name}.unfinished")


@contextlib.contextmanager
def unfinished_features(
    output: Path, run: Mapping[str, Any], shape: tuple[int, ...], patch_width: int | None, overwrite: bool
) -> Iterator[UnfinishedFeatures]:
    """Begin a run, or go on with one that was stopped.

    Args:
        output: the file that is to be.
        run: what a run that goes on must share with the one before, of plain JSON values.
        shape: of the features of one image.
        patch_width: width of the features of a patch, if the sums for their components are to be kept.
        overwrite: drop a run that was stopped if it was another one.

    Yields:
        What was computed so far. The folder goes when the block ends; when it raises, it stays if anything is in it.

    Raises:
        OSError: the folder cannot be written, or another process is at it.
        ValueError: a run that was stopped was another one, or the folder is somebody's own.
    """
    folder = folder_of(output)
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, output):
        unfinished = UnfinishedFeatures(folder, shape)
        if difference := _difference(folder, run):
            if not overwrite:
                raise ValueError(
                    f"{folder} is of a run with other {difference}; repeat that run to finish it, choose another "
                    "--output, or drop it with --overwrite"
                )
            for file in folder.iterdir():
                file.unlink()
        with _explained(folder):
            if not (folder / RUN).exists():
                write_file(folder / RUN, json.dumps(run).encode())
            for name in (VALUES, DONE):
                (folder / name).touch()
        try:
            unfinished._go_on(patch_width is not None)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{folder} is damaged; remove it, and the run begins anew") from error
        if patch_width is not None and unfinished.moments is None:
            unfinished.moments = Moments.of_none(patch_width)
        try:
            yield unfinished
        except BaseException:
            if not unfinished.done:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _difference(folder: Path, run: Mapping[str, Any]) -> str | None:
    """In what a run that was stopped there differs from this one, if there is one that does."""
    try:
        before = json.loads((folder / RUN).read_bytes())
    except FileNotFoundError:
        if others := [file.name for file in folder.iterdir() if not file.name.startswith(STAGING)]:
            raise ValueError(
                f"{folder} has no {RUN}, but {others[0]}, so no run left it; move it, or choose another --output"
            ) from None
        return None
    except ValueError:
        before = None
    if not isinstance(before, dict):
        return "options"
    now = json.loads(json.dumps(run))
    return next((name for name in {**now, **before} if now.get(name) != before.get(name)), None)


def _moments_file(folder: Path, done: int) -> Path:
    return folder / f"moments.{done}.npz"


def _append(path: Path, data: bytes) -> None:
    with _explained(path), open(path, "ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Name the file in an error of the system that has none, such as that the disk is full, in the system's words."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


@contextlib.contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    """Keep other processes from the folder, where folders can be locked."""
    with lockable(folder) as descriptor:
        granted = try_lock(descriptor)
        if granted is False:
            raise BlockingIOError(f"another run is writing {output}; wait for it, or choose another --output")
        if granted is None:
            say_unlockable(folder)
        yield
