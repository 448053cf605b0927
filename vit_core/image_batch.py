"""A batch of images goes through the steps, on all cores."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from vit_core.cores import on_all_cores
from vit_core.image_limits import PixelBudget
from vit_core.image_settings import Steps
from vit_core.image_transforms import (
    Box,
    center_crop,
    center_crop_picture,
    channels_of,
    rescale,
    rescale_and_normalize,
    resize,
    resize_fractions,
    to_8_bit,
)
from vit_core.images import ChannelDimension, list_images
from vit_core.memory import allowed_memory, in_gib
from vit_core.value_line import Line, value_line
from vit_core.value_table import look_up, value_table

ALREADY_SCALED = (
    "an image has only values from 0 to 1, which rescaling makes almost black; "
    "pass do_rescale=False if these are fractions of white already."
)

#: What resizes an image as `vit_core.image_transforms.resize` does; it may return an array of the same axes, too.
Resize = Callable[[Image.Image | np.ndarray, tuple[int, int], Image.Resampling, Box | None], Image.Image | np.ndarray]

#: What takes images through steps.
Process = Callable[[Any, Steps], np.ndarray | list[np.ndarray]]


@dataclass(frozen=True)
class _Pixels:
    """An image of which only the last step is left: where it is written.

    Attributes:
        values: an array of shape (channels, height, width).
        table: what becomes of each value, if they are uint8; None if they are final.
        line: arithmetic that does the same, if there is one.
        scaled: whether the image was given with values from 0 to 1 alone.
    """

    values: np.ndarray
    table: np.ndarray | None
    line: Line | None
    scaled: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the final values."""
        return self.values.dtype if self.table is None else self.table.dtype

    def write(self, out: np.ndarray) -> None:
        """Write the final values to an array of shape (channels, height, width)."""
        if self.table is None:
            out[...] = self.values
        elif self.line is not None:
            self.line.compute(self.values, out)
        else:
            for channel, table, plane in zip(self.values, self.table, out, strict=True):
                look_up(channel, table, plane)


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
        channels, height, width = pixels.values.shape
        shape = (channels, height, width) if self._channels_first else (height, width, channels)
        with self._allocating:
            if self._rows is None:
                self._require_memory(math.prod(shape) * pixels.dtype.itemsize)
                self._rows = np.empty((len(self._results), *shape), pixels.dtype)
        is_alike = self._rows.shape[1:] == shape and self._rows.dtype == pixels.dtype
        out = self._rows[position] if is_alike else np.empty(shape, pixels.dtype)
        pixels.write(out if self._channels_first else out.transpose(2, 0, 1))
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


def process_batch(images: Any, steps: Steps, resize: Resize = resize) -> np.ndarray | list[np.ndarray]:
    """Take images through the steps.

    Args:
        images: one image, a list of them, or a 4-D array (see `list_images`).
        steps: what to do.
        resize: what resizes them as 8-bit pixels, called from any thread.

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
                items[position], names[position], steps, resize, lambda count: held.enter_context(budget.of(count))
            )
            batch.write(position, pixels)
        return pixels.scaled

    # PIL's images are not made for being decoded by two threads at once: one that occurs twice is processed once.
    first: dict[int, int] = {}
    for position, image in enumerate(items):
        first.setdefault(id(image), position)
    scaled = on_all_cores(process, list(first.values()), "trivit-images")
    for position, image in enumerate(items):
        batch.repeat(first[id(image)], position)
    if steps.rescale_factor is not None and any(scaled):
        warnings.warn(ALREADY_SCALED, UserWarning, stacklevel=5)  # where the processor was called
    return batch.result()


def image_names(count: int) -> list[str]:
    """What errors call the images of a batch that have no path."""
    return ["the image"] if count == 1 else [f"images[{index}]" for index in range(count)]


def _pixels(image: Any, name: str, steps: Steps, resize: Resize, admit: Callable[[int], object]) -> _Pixels:
    picture, size, box = steps.read(image, name, admit)
    fractions = scaled = False
    if isinstance(picture, np.ndarray) and picture.dtype != np.uint8:
        scaled = bool(picture.min() >= 0 and picture.max() <= 1)
    if size is not None and steps.rescales_first and steps.rescale_factor is not None:
        values = rescale(np.atleast_3d(np.asarray(picture)), steps.rescale_factor)
        picture = resize_fractions(values, size, steps.resample, box)
        steps = replace(steps, rescale_factor=None)
    elif size is not None:
        if isinstance(picture, np.ndarray):
            picture, fractions = to_8_bit(picture, name)
        picture = resize(picture, size, steps.resample, box)
    if steps.crop_size is not None:
        if isinstance(picture, Image.Image):
            picture = center_crop_picture(picture, steps.crop_size)
        else:
            picture = center_crop(picture, steps.crop_size)
    arithmetic = (steps.rescale_factor, steps.mean, steps.std)
    if isinstance(picture, Image.Image) or picture.dtype == np.uint8:
        channels = channels_of(picture)
        count = len(channels)
        line = None if fractions else value_line(count, *arithmetic)
        return _Pixels(channels, value_table(count, fractions, *arithmetic), line, scaled)
    return _Pixels(channels_of(rescale_and_normalize(picture, *arithmetic)), None, None, scaled)
