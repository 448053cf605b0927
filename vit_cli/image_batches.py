"""Many image files: read together where that works, else one by one, while the model computes with those before; with a
bar that shows how far it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from vit_cli.terminal import plain_console


@dataclass(frozen=True)
class Images:
    """Files with their pixels as the model takes them, (batch, channels, height, width)."""

    files: list[Path]
    pixel_values: np.ndarray


@dataclass(frozen=True)
class Unreadable:
    """A file that is no image, and why."""

    reason: str


def read_batch(processor: Any, files: list[Path]) -> Iterator[Images | Unreadable]:
    """Read and preprocess files, together if that works, otherwise each by itself."""
    try:
        yield Images(files, processor(files, return_tensors="np")["pixel_values"])
    except (OSError, ValueError, TypeError) as error:
        if len(files) == 1:
            yield Unreadable(_reason(files[0], error))
        else:
            for file in files:
                yield from read_batch(processor, [file])


def read_ahead(processor: Any, batches: Iterable[list[Path]]) -> Iterator[list[Images | Unreadable]]:
    """Read batches of files, each of them in a thread while the caller works with the one before it.

    Args:
        processor: an image processor.
        batches: files that are read together.

    Yields:
        What was read, batch by batch in their order. No more than two are in memory: the caller's and the next.
    """
    following = iter(batches)
    reading = _Reading.start_with(processor, next(following, None))
    while reading is not None:
        read = reading.result()
        reading = _Reading.start_with(processor, next(following, None))
        yield read


class _Reading(Thread):
    """A batch of files that is being read. The thread ends with the process, so that Ctrl-C waits for no image."""

    def __init__(self, processor: Any, files: list[Path]) -> None:
        super().__init__(name="trivit-reading", daemon=True)
        self._processor, self._files = processor, files
        self._read: list[Images | Unreadable] = []
        self._error: BaseException | None = None

    @classmethod
    def start_with(cls, processor: Any, files: list[Path] | None) -> _Reading | None:
        """Begin to read, if there is anything to."""
        if files is None:
            return None
        reading = cls(processor, files)
        reading.start()
        return reading

    def run(self) -> None:
        """Read the batch."""
        try:
            self._read = list(read_batch(self._processor, self._files))
        except BaseException as error:  # raised where the batch is waited for
            self._error = error

    def result(self) -> list[Images | Unreadable]:
        """Wait for the batch.

        Raises:
            BaseException: what went wrong, other than that a file is no image.
        """
        self.join()
        if self._error is not None:
            raise self._error
        return self._read


@contextmanager
def progress(doing: str, total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, if it is to be shown, and what moves it on by a number of images."""
    if not shown:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=plain_console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


def _reason(file: Path, error: Exception) -> str:
    """Why a file could not be read, with its name if the error does not say it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{file}: {error.strerror}"
    return str(error) if file.name in str(error) else f"{file}: {error}"
