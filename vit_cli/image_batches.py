"""Many image files: read together where that works, else one by one, with a bar that shows how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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
