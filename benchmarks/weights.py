"""The weights that all sides load: random ones, the same for everybody, each side's in its own format."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import numpy as np

import vit_core
from benchmarks.models import IMAGE, MODELS, fields_of
from conversion import convert
from vit_core.checkpoint import save_checkpoint
from vit_core.parameters import Parameter
from vit_core.stored_tensor import StoredTensor

#: Where a run keeps them; its processes find it in their environment.
FOLDER = "BENCHMARKS_WEIGHTS"
SPREAD = 0.02  # standard deviation of what is drawn; what scales is one


def folder(model: str, image: int = IMAGE, layers: int = 0, to: str = "transformers") -> Path:
    """The folder of a model in a format, as `trivit convert` writes it; made when first asked for."""
    place = Path(os.environ[FOLDER]) / f"{model} {image} {layers}".replace("/", "-")
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "transformers").exists():
            write(place / "canonical", model, image, layers)
            convert(place / "canonical", place / "transformers", overwrite=True, compare=False)  # published names
        if not (place / to).exists():
            convert(place / "transformers", place / to, to=to, compare=False)
    return place / to


def write(place: Path, model: str, image: int, layers: int) -> None:
    """Write a model in canonical names, one tensor at a time."""
    said = MODELS[model]
    fields = fields_of(model, image, layers)
    config = getattr(vit_core, said.config)(**fields, architectures=[said.name])
    random = np.random.default_rng(0)

    def drawn(row: Parameter) -> StoredTensor:
        start = 1 if row.kind in ("scale", "gain") else 0
        return StoredTensor("F32", row.shape, lambda: start + SPREAD * random.standard_normal(row.shape, np.float32))

    shutil.rmtree(place, ignore_errors=True)
    save_checkpoint(place, config, {row.name: drawn(row) for row in vit_core.parameters(config, said.task)})
