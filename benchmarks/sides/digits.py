"""The bundled reader of digits on the images that it was not trained on, with token merging and without."""

from __future__ import annotations

import functools

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from benchmarks.worker import Prepared
from vit_torch import AutoImageProcessor, ViTForImageClassification

READER = "bundled/vit-digits"


@functools.cache
def unseen() -> tuple[torch.Tensor, np.ndarray]:
    """The 450 images that scikit-learn's digits have left for tests, as the model reads them, and what they show."""
    values, labels = load_digits(return_X_y=True)
    images = np.round(values.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    _, test, _, test_labels = train_test_split(images, labels, test_size=0.25, stratify=labels, random_state=0)
    processor = AutoImageProcessor.from_pretrained(READER)
    return processor([Image.fromarray(image) for image in test], return_tensors="pt")["pixel_values"], test_labels


def prepare(merging: tuple[int, str] | None) -> Prepared:
    """Read all of them.

    Args:
        merging: what `merge_tokens` is called with; None for no call.
    """
    images, shown = unseen()
    model = ViTForImageClassification.from_pretrained(READER)

    @torch.inference_mode()
    def answers() -> np.ndarray:
        return model(images).logits.argmax(1).numpy()

    before = answers()
    if merging:
        model.merge_tokens(*merging)

    def quality() -> dict[str, float]:
        now = answers()
        return {"same answer": float((now == before).mean()), "right": float((now == shown).mean())}

    return Prepared(answers, quality=quality)
