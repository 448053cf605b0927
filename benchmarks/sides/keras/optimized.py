"""Our models in Keras for inference on a processor: in int8 and float32 by onnxruntime, and as they are loaded."""

from __future__ import annotations

import numpy as np

from benchmarks import pixels
from benchmarks.models import IMAGE
from benchmarks.sides.keras import passes
from benchmarks.sides.keras.trivit import load
from benchmarks.worker import Prepared
from vit_tf import optimize_for_inference


def prepare(way: str, model: str, batch: int, dtype: str = "int8", kind: str = "forward") -> Prepared:
    """Forward passes."""
    loaded = load(model, IMAGE, 0, "float32")
    if way == "as loaded":
        return passes.forward(lambda images: loaded(images)[0], batch)
    optimized = optimize_for_inference(loaded, dtype="int8" if way == "int8" else None)
    images = pixels.images(batch, IMAGE)

    def run() -> np.ndarray:
        return optimized(images)[0].numpy()

    return Prepared(run, lambda: pixels.answer(run()))
