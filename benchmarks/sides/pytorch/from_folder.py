"""Models of packages that load a folder of transformers' by transformers' names: ours, and transformers itself."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks import weights
from benchmarks.models import IMAGE, MODELS
from benchmarks.sides.packages import imported
from benchmarks.sides.pytorch import passes
from benchmarks.worker import Prepared


def load(
    package: str,
    model: str,
    image: int = IMAGE,
    layers: int = 0,
    attention: str = "sdpa",
    merging: tuple[int, str] | None = None,
) -> tuple[torch.nn.Module, passes.Call]:
    """A model with the common weights, and what calls it; `merging` is what its `merge_tokens` is called with."""
    model_class = getattr(imported(package), MODELS[model].name)
    loaded = model_class.from_pretrained(weights.folder(model, image, layers), attn_implementation=attention)
    if merging:
        loaded.merge_tokens(*merging)
    return loaded, lambda images: loaded(images)[0]


def prepare(package: str, **work: Any) -> Prepared:
    """A kind of work of a package's model."""
    return passes.prepare(partial(load, package), **work)
