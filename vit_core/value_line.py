"""`value_table` as arithmetic in float32, which processors do for vectors of pixels, where it gives the same bits.

What makes 8-bit pixels a model's input is a division by 255 or so, a subtraction and another division. Whether float32
arithmetic rounds to the very values of the table is tried on all 256 of them, once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vit_core.image_transforms import ChannelValues
from vit_core.value_table import value_table


class Line(NamedTuple):
    """What becomes of a pixel: it is divided, something is subtracted, and it is divided again, unless that is None.

    Attributes:
        divisor: float32 array of shape (channels, 1, 1).
        subtrahend: likewise.
        second_divisor: likewise.
    """

    divisor: np.ndarray
    subtrahend: np.ndarray | None
    second_divisor: np.ndarray | None

    def compute(self, pixels: np.ndarray, out: np.ndarray) -> None:
        """Write what becomes of pixels.

        Args:
            pixels: uint8 array of shape (channels, height, width), wherever its axes lie in memory.
            out: float32 array of that shape to write to.
        """
        np.copyto(out, pixels)
        np.divide(out, self.divisor, out=out)
        if self.subtrahend is not None:
            np.subtract(out, self.subtrahend, out=out)
        if self.second_divisor is not None:
            np.divide(out, self.second_divisor, out=out)


@lru_cache(maxsize=32)
def value_line(
    channels: int, rescale_factor: float | None, mean: ChannelValues | None, std: ChannelValues | None
) -> Line | None:
    """Arithmetic that gives the bits of `value_table`.

    Args:
        channels: number of channels.
        rescale_factor: as in `value_table`.
        mean: likewise.
        std: likewise.

    Returns:
        The shortest that does; None if none does, or pixels are not rescaled.
    """
    if not rescale_factor:
        return None
    table = value_table(channels, False, rescale_factor, mean, std)
    levels = np.broadcast_to(np.arange(256, dtype=np.uint8), (channels, 1, 256))
    with np.errstate(all="ignore"):  # whatever a config says: what is not the same is not taken
        for line in _candidates(channels, 1 / rescale_factor, mean, std):
            values = np.empty(levels.shape, np.float32)
            line.compute(levels, values)
            if values.tobytes() == table.tobytes():
                return line
    return None


def _candidates(channels: int, divisor: float, mean: ChannelValues | None, std: ChannelValues | None) -> list[Line]:
    """Lines that are the same but for rounding, shortest first."""

    def of_channels(value: ArrayLike) -> np.ndarray:
        return np.broadcast_to(np.asarray(value, np.float64), channels).astype(np.float32).reshape(-1, 1, 1)

    if mean is None or std is None:
        return [Line(of_channels(divisor), None, None)]
    in_one = np.asarray(std, np.float64) * divisor
    return [
        Line(of_channels(in_one), of_channels(np.asarray(mean) / np.asarray(std)), None),  # standard deviations of 1/2
        Line(of_channels(divisor), of_channels(mean), of_channels(std)),
    ]
