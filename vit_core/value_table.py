"""What becomes of the 256 values that an 8-bit pixel can have.

All that comes after resizing and cropping is the same arithmetic for every pixel. It is done once on those values, and
each pixel is looked up; two at a time in large images, since the table of all pairs still fits a core's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from vit_core.image_transforms import ChannelValues, rescale, rescale_and_normalize

#: Pixels of a channel from which on the table of pairs (half a megabyte) is made and used.
WORTH_PAIRS = 2**13


@dataclass(frozen=True, eq=False)
class ValueTable:
    """What becomes of each value of a pixel.

    Attributes:
        values: array of shape (channels, 256), not to be written to.
    """

    values: np.ndarray

    def look_up(self, channel: int, pixels: np.ndarray, out: np.ndarray) -> None:
        """Write what becomes of a channel's pixels.

        Args:
            channel: which one.
            pixels: uint8 array of shape (height, width).
            out: array of that shape to write to.
        """
        values = self.values[channel]
        # An index is never out of range; this mode is the one for which NumPy neither checks nor buffers.
        if pixels.size % 2 or pixels.size < WORTH_PAIRS or values.itemsize > 4:
            np.take(values, pixels, out=out, mode="wrap")
            return
        pairs = _pairs(values.tobytes(), values.dtype)
        keys = np.ascontiguousarray(pixels).reshape(-1).view(np.uint16)
        if out.flags.c_contiguous:
            np.take(pairs, keys, out=out.reshape(-1).view(pairs.dtype), mode="wrap")
        else:
            out[:] = np.take(pairs, keys, mode="wrap").view(out.dtype).reshape(out.shape)


@lru_cache(maxsize=8)
def _pairs(values: bytes, dtype: np.dtype[Any]) -> np.ndarray:
    """What becomes of each two neighbours, by the number that their bytes make; the two results are one item."""
    neighbours = np.arange(2**16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    return np.frombuffer(values, dtype)[neighbours].view(f"u{2 * dtype.itemsize}")[:, 0]


@lru_cache(maxsize=8)
def value_table(
    channels: int,
    fractions: bool,
    rescale_factor: float | None,
    mean: ChannelValues | None,
    std: ChannelValues | None,
) -> ValueTable:
    """The table of a processor's arithmetic.

    Args:
        channels: number of channels.
        fractions: whether the image had values from 0 to 1 before it became 8-bit, and gets them back first.
        rescale_factor: as in `rescale_and_normalize`.
        mean: likewise.
        std: likewise.
    """
    levels = np.arange(256, dtype=np.uint8)
    if fractions:
        levels = rescale(levels, 1 / 255)
    table = rescale_and_normalize(np.repeat(levels[:, None], channels, axis=1), rescale_factor, mean, std)
    values = np.ascontiguousarray(table.T)
    values.flags.writeable = False
    return ValueTable(values)
