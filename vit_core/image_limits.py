"""How many pixels an image file may unpack to, before any of them is; whoever trusts their files raises it.

PIL's own limit, `PIL.Image.MAX_IMAGE_PIXELS`, is for one image of any file, and lets 3 kilobytes become 1.3 gigabytes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class ImageLimits:
    """Limits that hold for every image of this process. To raise one, set it: `IMAGE_LIMITS.pixels_per_byte = 1000`.

    Attributes:
        harmless_pixels: up to here (4096 x 4096) a file may unpack to whatever it claims.
        pixels_per_byte: beyond that, at most so many for each byte of the file. Photographs have two to twenty;
            images of one color have a thousand and more.
        pixels_at_once: of the files of a batch that are decoded side by side; one that has more is decoded alone.
        jpeg_scans: passes over its pixels that a JPEG of `harmless_pixels` may have; a larger one fewer, a smaller one
            more. Progressive photographs have ten; each takes milliseconds, and few bytes of the file.
        result_pixels: of an image that comes out of the preprocessing (2896 x 2896), whatever a file of settings says.
    """

    harmless_pixels: int = 2**24
    pixels_per_byte: float = 25
    pixels_at_once: int = 2**26
    jpeg_scans: int = 100
    result_pixels: int = 2**23


IMAGE_LIMITS = ImageLimits()


class PixelBudget:
    """Lets as many files be decoded side by side as `ImageLimits.pixels_at_once` allows; for one batch."""

    def __init__(self) -> None:
        self._free = IMAGE_LIMITS.pixels_at_once
        self._changed = threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for so many, and have it for the length of the block."""
        taken = min(pixels, IMAGE_LIMITS.pixels_at_once)
        with self._changed:
            self._changed.wait_for(lambda: taken <= self._free)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()
