"""Image processors, on photographs and on JPEG files."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import pixels
from benchmarks.sides.packages import imported
from benchmarks.sides.photographs import inputs, opened
from benchmarks.worker import Prepared


def prepare(
    kind: str,
    batch: int,
    size: tuple[int, int],
    package: str,
    processor: str,
    takes_files: bool = False,
    tensors: str = "np",
    **settings: Any,
) -> Prepared:
    """Batches of `pixel_values` for a model of 224 x 224 pixels.

    Args:
        kind: "PIL images" or "JPEG files".
        batch: how many.
        size: their width and height.
        package: whose processor.
        processor: its class.
        takes_files: whether it opens the bytes of files by itself.
        tensors: whose tensors it gives, "np" or "pt".
        **settings: of the processor.
    """
    process = getattr(imported(package), processor)(**settings)
    given = inputs(kind, batch, tuple(size))
    opens = kind == "JPEG files" and not takes_files

    def run() -> Any:
        return process([opened(each) for each in given] if opens else given, return_tensors=tensors)["pixel_values"]

    return Prepared(run, lambda: pixels.answer(np.asarray(run())))
