"""Loading a model and reading each of its weights once."""

from __future__ import annotations

import torch

from benchmarks import weights
from benchmarks.models import MODELS
from benchmarks.sides.packages import imported
from benchmarks.worker import Prepared


def prepare(model: str, package: str) -> Prepared:
    """A PyTorch model of a package from a folder; its file stays in the system's cache."""
    model_class = getattr(imported(package), MODELS[model].name)
    folder = weights.folder(model)

    @torch.inference_mode()
    def run() -> None:
        for parameter in model_class.from_pretrained(folder).parameters():
            parameter.sum()

    return Prepared(run)
