"""A batch of images goes through the steps, on all cores."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from vit_core.image_limits import PixelBudget
from vit_core.image_settings import Steps
from vit_core.image_transforms import (
    center_crop,
    look_up,
    rescale,
    rescale_and_normalize,
    resize,
    resize_fractions,
    to_8_bit,
    value_table,
)
from vit_core.images import ChannelDimension, list_images
from vit_core.memory import allowed_memory, in_gib

ALREADY_SCALED = (
    "an image has only values from 0 to 1, which rescaling makes almost black; "
    "pass do_rescale=False if these are fractions of white already."
)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Pixels:
    """An image of which only the last step is left: where it is written.

    Attributes:
        values: array of shape (height, width, channels).
        table: what becomes of each value, if they are uint8; None if they are final.
        scaled: whether the image was given with values from 0 to 1 alone.
    """

    values: np.ndarray
    table: np.ndarray | None
    scaled: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the final values."""
        return self.values.dtype if self.table is None else self.table.dtype


class _Batch:
    """Where finished images go: into the rows of one array, as long as they come out alike.

    The first one that is finished decides what the rows are; one that comes out otherwise gets an array of its own.
    """

    def __init__(self, count: int, data_format: ChannelDimension) -> None:
        self._channels_first = data_format is ChannelDimension.FIRST
        self._rows: np.ndarray | None = None
        self._allocating = Lock()
        self._results: list[np.ndarray | None] = [None] * count

    def _require_memory(self, size: int) -> None:
        allowed, count = allowed_memory(), len(self._results)
        if allowed is not None and count * size > allowed:
            raise ValueError(
                f"{count} images of {in_gib(size)} each are more than the {in_gib(allowed)} that this process may "
                f"have; pass fewer at once, or a smaller size."
            )

    def write(self, position: int, pixels: _Pixels) -> None:
        """Put an image in its place, from any thread."""
        height, width, channels = pixels.values.shape
        shape = (channels, height, width) if self._channels_first else (height, width, channels)
        with self._allocating:
            if self._rows is None:
                self._require_memory(math.prod(shape) * pixels.dtype.itemsize)
                self._rows = np.empty((len(self._results), *shape), pixels.dtype)
        is_alike = self._rows.shape[1:] == shape and self._rows.dtype == pixels.dtype
        out = self._rows[position] if is_alike else np.empty(shape, pixels.dtype)
        planes = out if self._channels_first else np.moveaxis(out, 2, 0)
        if pixels.table is None:
            planes[:] = np.moveaxis(pixels.values, 2, 0)
        else:
            look_up(pixels.values, pixels.table, planes)
        self._results[position] = out

    def repeat(self, source: int, position: int) -> None:
        """Put an image that is finished in another place too."""
        result = self._results[source]
        assert result is not None
        if source != position and self._rows is not None and result.base is self._rows:
            self._rows[position] = result
            result = self._rows[position]
        self._results[position] = result

    def result(self) -> np.ndarray | list[np.ndarray]:
        """One array if all images came out alike, otherwise one for each."""
        results = [result for result in self._results if result is not None]
        if self._rows is not None and all(result.base is self._rows for result in results):
            return self._rows
        return results


def process_batch(images: Any, steps: Steps) -> np.ndarray | list[np.ndarray]:
    """Take images through the steps.

    Args:
        images: one image, a list of them, or a 4-D array (see `list_images`).
        steps: what to do.

    Returns:
        One array of shape (batch, channels, height, width), or (batch, height, width, channels), if all images come out
        alike; otherwise a list of arrays.

    Raises:
        OSError: an image cannot be read.
        TypeError: something is no image.
        ValueError: an image is impossible, or does not fit the steps.
    """
    items = list_images(images)
    names = image_names(len(items))
    batch = _Batch(len(items), steps.data_format)
    budget = PixelBudget()

    def process(position: int) -> bool:
        with ExitStack() as held:
            pixels = _pixels(
                items[position], names[position], steps, lambda count: held.enter_context(budget.of(count))
            )
            batch.write(position, pixels)
        return pixels.scaled

    # PIL's images are not made for being decoded by two threads at once: one that occurs twice is processed once.
    first: dict[int, int] = {}
    for position, image in enumerate(items):
        first.setdefault(id(image), position)
    scaled = _on_all_cores(process, list(first.values()))
    for position, image in enumerate(items):
        batch.repeat(first[id(image)], position)
    if steps.rescale_factor is not None and any(scaled):
        warnings.warn(ALREADY_SCALED, UserWarning, stacklevel=5)  # where the processor was called
    return batch.result()


def image_names(count: int) -> list[str]:
    """What errors call the images of a batch that have no path."""
    return ["the image"] if count == 1 else [f"images[{index}]" for index in range(count)]


def _pixels(image: Any, name: str, steps: Steps, admit: Callable[[int], object]) -> _Pixels:
    picture = steps.reader.read(image, name, admit)
    fractions = scaled = False
    if isinstance(picture, np.ndarray) and picture.dtype != np.uint8:
        scaled = bool(picture.min() >= 0 and picture.max() <= 1)
    if steps.size is not None and steps.rescales_first and steps.rescale_factor is not None:
        values = rescale(np.atleast_3d(np.asarray(picture)), steps.rescale_factor)
        height, width, _ = values.shape
        values = resize_fractions(values, steps.target_size(height, width, name), steps.resample)
        steps = replace(steps, rescale_factor=None)
    elif steps.size is not None:
        height, width = (picture.height, picture.width) if isinstance(picture, Image.Image) else picture.shape[:2]
        size = steps.target_size(height, width, name)
        if isinstance(picture, np.ndarray):
            picture, fractions = to_8_bit(picture, name)
        values = resize(picture, size, steps.resample)
    else:
        values = np.atleast_3d(np.asarray(picture))
    if steps.crop_size is not None:
        values = center_crop(values, steps.crop_size)
    arithmetic = (steps.rescale_factor, steps.mean, steps.std)
    if values.dtype == np.uint8:
        return _Pixels(values, value_table(values.shape[2], fractions, *arithmetic), scaled)
    return _Pixels(rescale_and_normalize(values, *arithmetic), None, scaled)


def _on_all_cores(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply a function to every item, in order; PIL and NumPy let other threads work while they do."""
    workers = min(len(items), core_count())
    if workers == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers, thread_name_prefix="trivit-images") as pool:
        return list(pool.map(function, items))


def core_count() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
