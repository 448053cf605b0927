"""Our models in Keras."""

from __future__ import annotations

from typing import Any

import keras

import vit_tf
from benchmarks import weights
from benchmarks.models import IMAGE, MODELS
from benchmarks.sides.keras import passes
from benchmarks.worker import Prepared


def load(model: str, image: int, layers: int, dtype: str) -> Any:
    """A model with the common weights."""
    model_class = getattr(vit_tf, f"TF{MODELS[model].name}")
    folder = weights.folder(model, image, layers)
    return model_class.from_pretrained(folder, dtype=dtype)


def prepare(
    kind: str,
    model: str,
    batch: int,
    dtype: str,
    image: int = IMAGE,
    layers: int = 0,
    merging: tuple[int, str] | None = None,
) -> Prepared:
    """Forward passes or training steps; `merging` is what the model's `merge_tokens` is called with."""
    loaded = load(model, image, layers, dtype)
    if merging:
        loaded.merge_tokens(*merging)
    if kind == "training step":
        return passes.step(keras, loaded, batch, image)
    return passes.forward(lambda images: keras.ops.cast(loaded(images)[0], "float32"), batch, image)
