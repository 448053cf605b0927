"""Our models in onnxruntime, in float32 or int8, as `export_onnx` writes them."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import onnxruntime

from benchmarks import pixels
from benchmarks.models import IMAGE
from benchmarks.sides.pytorch import from_folder
from benchmarks.worker import Prepared, first_peak
from vit_torch import export_onnx

FOLDER = tempfile.TemporaryDirectory()


@functools.lru_cache(maxsize=1)
def session(model: str, image: int, layers: int, dtype: str) -> onnxruntime.InferenceSession:
    """A session of the exported model, which takes batches of any size."""
    loaded, _ = from_folder.load("vit_torch", model, image, layers)
    file = export_onnx(loaded, Path(FOLDER.name) / "model.onnx", dtype="int8" if dtype == "int8" else None)
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def prepare(model: str, batch: int, dtype: str, kind: str = "forward", image: int = IMAGE, layers: int = 0) -> Prepared:
    """Forward passes."""
    inference = session(model, image, layers, dtype)
    images = {"pixel_values": pixels.images(batch, image)}

    def run() -> object:
        return inference.run(None, images)[0]

    # What it once takes it keeps, and loading has computed nothing yet.
    return Prepared(run, lambda: pixels.answer(run()), first_peak)
