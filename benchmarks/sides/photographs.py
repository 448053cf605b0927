"""Pictures as rough as photographs, and their files."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

PHOTO_SIZE = (500, 375)
ROUGHNESS = ((4, 30), (16, 50), (64, 90))  # pixels of noise, and how much of it there is


def photo(seed: int, size: tuple[int, int]) -> Image.Image:
    """Noise of several scales, of some (width, height)."""
    rng = np.random.default_rng(seed)
    width, height = size
    summed = np.zeros((height, width, 3), np.float32)
    for scale, weight in ROUGHNESS:
        noise = Image.fromarray(rng.integers(0, 256, (height // scale + 2, width // scale + 2, 3), dtype=np.uint8))
        summed += weight * np.asarray(noise.resize(size, Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray((summed / sum(weight for _, weight in ROUGHNESS)).clip(0, 255).astype(np.uint8))


def jpeg(picture: Image.Image) -> bytes:
    """The picture as a JPEG file of usual quality."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def opened(content: bytes) -> Image.Image:
    """A file's picture, decoded when it is first looked at."""
    return Image.open(BytesIO(content))


def inputs(kind: str, batch: int, size: tuple[int, int]) -> list[Any]:
    """What is to be prepared: "PIL images" or "JPEG files"."""
    pictures = [photo(seed, size) for seed in range(batch)]
    return pictures if kind == "PIL images" else [jpeg(picture) for picture in pictures]
