"""What becomes of the 256 values that an 8-bit pixel can have.

All that comes after resizing and cropping is the same arithmetic for every pixel. It is done once on those values, and
each pixel is looked up.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from vit_core.image_transforms import ChannelValues, rescale, rescale_and_normalize


@lru_cache(maxsize=32)
def value_table(
    channels: int,
    fractions: bool,
    rescale_factor: float | None,
    mean: ChannelValues | None,
    std: ChannelValues | None,
) -> np.ndarray:
    """What becomes of each value of a pixel.

    Args:
        channels: number of channels.
        fractions: whether the image had values from 0 to 1 before it became 8-bit, and gets them back first.
        rescale_factor: as in `rescale_and_normalize`.
        mean: likewise.
        std: likewise.

    Returns:
        Array of shape (channels, 256), not to be written to.
    """
    levels = np.arange(256, dtype=np.uint8)
    if fractions:
        levels = rescale(levels, 1 / 255)
    table = rescale_and_normalize(np.repeat(levels[:, None], channels, axis=1), rescale_factor, mean, std)
    table = np.ascontiguousarray(table.T)
    table.flags.writeable = False
    return table


def look_up(pixels: np.ndarray, values: np.ndarray, out: np.ndarray) -> None:
    """Write what becomes of the pixels of a channel.

    Args:
        pixels: uint8 array of shape (height, width).
        values: the channel's row of `value_table`.
        out: array of shape (height, width) to write to.
    """
    # A uint8 is never out of range; this mode is the one for which NumPy neither checks nor buffers.
    np.take(values, pixels, out=out, mode="wrap")
