"""Our models in PyTorch, exported, in onnxruntime; in int8 as its dynamic quantization makes them."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks import pixels
from benchmarks.models import IMAGE
from benchmarks.sides.pytorch import from_folder
from benchmarks.worker import Prepared, first_peak

FOLDER = tempfile.TemporaryDirectory()


@functools.lru_cache(maxsize=1)
def session(model: str, image: int, layers: int, dtype: str) -> onnxruntime.InferenceSession:
    """A session of the exported model, which takes batches of any size."""
    loaded, call = from_folder.load("vit_torch", model, image, layers)

    class Answer(torch.nn.Module):
        """The model with one output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = loaded

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return call(images)

    file = Path(FOLDER.name) / "model.onnx"
    torch.onnx.export(
        Answer().eval(),
        (torch.zeros(2, 3, image, image),),
        file,
        input_names=["images"],
        dynamo=True,
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        verbose=False,
    )
    if dtype == "int8":
        quantize_dynamic(file, file, weight_type=QuantType.QInt8)
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def prepare(model: str, batch: int, dtype: str, kind: str = "forward", image: int = IMAGE, layers: int = 0) -> Prepared:
    """Forward passes."""
    inference = session(model, image, layers, dtype)
    images = {"images": pixels.images(batch, image)}

    def run() -> object:
        return inference.run(None, images)[0]

    # What it once takes it keeps, and loading has computed nothing yet.
    return Prepared(run, lambda: pixels.answer(run()), first_peak)
