"""The weights themselves: random ones, the same for everybody, each side's in its own format."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

import vit_core
from benchmarks.models import MODELS, fields_of
from conversion import convert
from vit_core.checkpoint import save_checkpoint
from vit_core.parameters import Parameter
from vit_core.stored_tensor import StoredTensor

SPREAD = 0.02  # standard deviation of what is drawn; what scales is one
ORIGINAL = "transformers"  # the format that the others are converted from


def write(place: Path, model: str, image: int, layers: int, to: str) -> None:
    """Write a model's folder in a format, beside the one that it is converted from."""
    original = place / ORIGINAL
    if not original.exists():
        draw(place / "canonical", model, image, layers)
        convert(place / "canonical", original, overwrite=True, compare=False)  # published names
        vit_core.ViTImageProcessor(size={"height": image, "width": image}).save_pretrained(original)
    if to != ORIGINAL:
        convert(original, place / to, to=to, compare=False)


def draw(place: Path, model: str, image: int, layers: int) -> None:
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
