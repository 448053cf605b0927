"""Copying a model's file, and looking once at each of its bytes: the least that reading and writing it takes."""

from __future__ import annotations

import os
import shutil

import numpy as np

from benchmarks import weights
from benchmarks.worker import Prepared


def prepare(model: str, writes: bool, **_: object) -> Prepared:
    """Read the file once; and before, if `writes`, copy it to the disk."""
    source = weights.folder(model) / "model.safetensors"
    target = source.parent.parent / "copy"

    def run() -> None:
        if writes:
            shutil.copyfile(source, target)
            with open(target, "r+b") as file:
                os.fsync(file.fileno())
            target.unlink()
        content = np.memmap(source, np.uint8, "r")
        content[: content.size // 8 * 8].view(np.uint64).sum()

    return Prepared(run)
