"""By how much answers change in int8: logits of random models, and digits that the bundled model reads right.

`python -m benchmarks.int8` prints the tables of docs/int8.md; it needs `trivit[torch,onnx]` and scikit-learn.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from PIL import Image
from sklearn import datasets, model_selection

from benchmarks import pixels, weights
from benchmarks.sides.pytorch.int8 import WAYS
from vit_torch import AutoImageProcessor, ViTForImageClassification, export_onnx
from vit_torch.int8 import greatest_weight

MODELS = ("ViT-S/16", "ViT-B/16")
IMAGES = 4
DIGITS = "bundled/vit-digits"


def in_torch(way: str, model: Any, images: torch.Tensor) -> np.ndarray:
    """The logits of a copy that is made ready for inference."""
    changed = WAYS[way](copy.deepcopy(model))
    with torch.inference_mode():
        return changed(images).logits.numpy()


def in_onnxruntime(model: Any, images: torch.Tensor) -> np.ndarray:
    """The logits of the exported file."""
    with tempfile.TemporaryDirectory() as folder:
        file = export_onnx(model, Path(folder) / "model.onnx", dtype="int8")
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return session.run(["logits"], {"pixel_values": images.numpy()})[0]


KINDS: dict[str, Callable[[Any, torch.Tensor], np.ndarray]] = {
    'optimize_for_inference(model, dtype="int8")': lambda *given: in_torch("int8", *given),
    'export_onnx(model, file, dtype="int8")': in_onnxruntime,
    "torch.ao.quantization.quantize_dynamic": lambda *given: in_torch("dynamic", *given),
}


def errors(model: Any, images: torch.Tensor) -> Iterator[tuple[str, float, np.ndarray, np.ndarray]]:
    """Each kind, its largest error as a part of the range of the logits, its logits and those of float32."""
    expected = in_torch("float32", model, images)
    for kind, logits_of in KINDS.items():
        logits = logits_of(model, images)
        yield kind, float(np.abs(logits - expected).max() / np.ptp(expected)), logits, expected


def digits() -> tuple[torch.Tensor, np.ndarray]:
    """The images that the bundled model was not trained on, and their labels."""
    values, labels = datasets.load_digits(return_X_y=True)
    images = np.round(values.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    split = {"test_size": 0.25, "stratify": labels, "random_state": 0}  # the model card's
    _, test, _, test_labels = model_selection.train_test_split(images, labels, **split)
    processor = AutoImageProcessor.from_pretrained(DIGITS)
    return processor([Image.fromarray(each) for each in test], return_tensors="pt")["pixel_values"], test_labels


def main() -> None:
    """Print all."""
    print(f"weights go up to {greatest_weight()} on this processor")
    with tempfile.TemporaryDirectory() as folder:
        os.environ[weights.FOLDER] = folder
        for name in MODELS:
            model = ViTForImageClassification.from_pretrained(weights.folder(name))
            for kind, error, *_ in errors(model, torch.from_numpy(pixels.images(IMAGES, 224))):
                print(f"{name}, random: {kind}: {error:.1%} of the range")
    images, labels = digits()
    for kind, error, logits, expected in errors(ViTForImageClassification.from_pretrained(DIGITS), images):
        right, right_before = ((each.argmax(1) == labels).mean() for each in (logits, expected))
        same = (logits.argmax(1) == expected.argmax(1)).mean()
        print(f"digits: {kind}: {error:.1%}, same answer {same:.1%}, right {right:.1%}, in float32 {right_before:.1%}")


if __name__ == "__main__":
    main()
