"""PIL's decoder and PIL's resize alone, on all cores: the least that must be done with a photograph."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from benchmarks.sides.images import inputs, opened
from benchmarks.worker import Prepared

SIZE = (224, 224)


def resized(picture: Image.Image) -> Image.Image:
    """By PIL, as a processor asks it."""
    return picture.resize(SIZE, Image.Resampling.BILINEAR)


#: What must be done with each input.
LEAST: dict[str, Callable[[Any], Image.Image]] = {
    "PIL images": resized,
    "JPEG files": lambda content: resized(opened(content)),
}


def prepare(kind: str, batch: int) -> Prepared:
    """A batch, in as many threads as there are cores."""
    given = inputs(kind, batch)
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    return Prepared(lambda: list(pool.map(LEAST[kind], given)) and None)
