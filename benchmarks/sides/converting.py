"""Converting a model to another format."""

from __future__ import annotations

import shutil

from benchmarks import weights
from benchmarks.worker import Prepared
from conversion import convert


def prepare(model: str, to: str, dtype: str | None = None) -> Prepared:
    """Read a folder of transformers', write another to the disk, and remove it."""
    source = weights.folder(model)
    target = source.parent / "converted"

    def run() -> None:
        convert(source, target, to, dtype, compare=False)
        shutil.rmtree(target)

    return Prepared(run)
