"""The images that models see: noise, the same for all."""

from __future__ import annotations

import numpy as np

from benchmarks.models import CLASSES

ANSWER = 256  # numbers of what a model says of the first image, which are compared


def images(batch: int, image: int, channels_last: bool = False) -> np.ndarray:
    """Normalised images, float32, (batch, channels, height, width), or with channels last."""
    pixels = np.random.default_rng(0).standard_normal((batch, 3, image, image), np.float32)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)) if channels_last else pixels


def labels(batch: int) -> np.ndarray:
    """A class for each."""
    return np.arange(batch, dtype=np.int32) % CLASSES


def answer(outputs: np.ndarray) -> list[float]:
    """Some numbers of what a model gives for a batch: logits, or hidden states of which the class token is first."""
    return np.asarray(outputs[0], np.float32).reshape(-1)[:ANSWER].tolist()
