"""The Flax models of transformers 4.47.1, the last series that had them."""

from __future__ import annotations

import transformers

from benchmarks import weights
from benchmarks.models import IMAGE, MODELS
from benchmarks.sides.flax import passes
from benchmarks.worker import Prepared


def prepare(kind: str, model: str, batch: int, dtype: str, image: int = IMAGE) -> Prepared:
    """Forward passes or training steps."""
    model_class = getattr(transformers, f"Flax{MODELS[model].name}")
    folder = weights.folder(model, image, to="transformers-flax")
    loaded = model_class.from_pretrained(folder, dtype=passes.DTYPES[dtype])
    train = kind == "training step"
    return passes.KINDS[kind](
        lambda params, images: loaded(images, params=params, train=train)[0], loaded.params, batch, dtype, image
    )
