"""Image processors, on photographs and on JPEG files."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import pixels
from benchmarks.sides.packages import imported
from benchmarks.worker import Prepared

PHOTO_SIZE = (500, 375)
ROUGHNESS = ((4, 30), (16, 50), (64, 90))  # pixels of noise, and how much of it there is


def photo(seed: int) -> Image.Image:
    """A picture as rough as a photograph: noise of several scales."""
    rng = np.random.default_rng(seed)
    width, height = PHOTO_SIZE
    summed = np.zeros((height, width, 3), np.float32)
    for scale, weight in ROUGHNESS:
        noise = Image.fromarray(rng.integers(0, 256, (height // scale + 2, width // scale + 2, 3), dtype=np.uint8))
        summed += weight * np.asarray(noise.resize(PHOTO_SIZE, Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray((summed / sum(weight for _, weight in ROUGHNESS)).clip(0, 255).astype(np.uint8))


def jpeg(picture: Image.Image) -> bytes:
    """The picture as a JPEG file of usual quality."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def opened(content: bytes) -> Image.Image:
    """A file's picture, decoded when it is first looked at."""
    return Image.open(BytesIO(content))


def inputs(kind: str, batch: int) -> list[Any]:
    """What is to be prepared."""
    pictures = [photo(seed) for seed in range(batch)]
    return pictures if kind == "PIL images" else [jpeg(picture) for picture in pictures]


def prepare(kind: str, batch: int, package: str, processor: str, takes_files: bool = False) -> Prepared:
    """Batches of `pixel_values` for a model of 224 x 224 pixels.

    Args:
        kind: "PIL images" or "JPEG files".
        batch: how many.
        package: whose processor.
        processor: its class.
        takes_files: whether it opens the bytes of files by itself.
    """
    process = getattr(imported(package), processor)()
    given = inputs(kind, batch)
    opens = kind == "JPEG files" and not takes_files

    def run() -> np.ndarray:
        return process([opened(each) for each in given] if opens else given, return_tensors="np")["pixel_values"]

    return Prepared(run, lambda: pixels.answer(run()))
