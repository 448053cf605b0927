"""Importing packages and reading a model's file: what nobody who loads a model can do without."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from benchmarks import weights
from benchmarks.worker import Prepared


def prepare(packages: Sequence[str], model: str, **_: object) -> Prepared:
    """Import packages, then read the file again and again."""
    for package in packages:
        importlib.import_module(package)
    file = weights.folder(model) / "model.safetensors"
    return Prepared(file.read_bytes)
