"""PIL's decoder and PIL's resize alone, on all cores: the least that must be done with a photograph."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from benchmarks.sides.photographs import inputs, opened
from benchmarks.worker import Prepared

SIZE = (224, 224)
ENOUGH = (336, 336)  # one and a half times as much


def resized(picture: Image.Image) -> Image.Image:
    """By PIL, as a processor asks it."""
    return picture.resize(SIZE, Image.Resampling.BILINEAR)


def decoded(content: bytes) -> Image.Image:
    """A file's picture."""
    picture = opened(content)
    picture.load()
    return picture


def drafted(content: bytes) -> Image.Image:
    """The same, at the smallest scale that leaves as much as our processor asks for."""
    picture = opened(content)
    picture.draft(None, ENOUGH)
    picture.load()
    return picture


#: What may have to be done with each input.
LEAST: dict[str, Callable[[Any], Image.Image]] = {
    "resize": resized,
    "decode": decoded,
    "decode and resize": lambda content: resized(decoded(content)),
    "draft and resize": lambda content: resized(drafted(content)),
}


def prepare(kind: str, batch: int, size: tuple[int, int], least: str, **_: Any) -> Prepared:
    """A batch, in as many threads as there are cores."""
    given = inputs(kind, batch, tuple(size))
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    return Prepared(lambda: list(pool.map(LEAST[least], given)) and None)
