"""JPEG files that are decoded at a reduced scale, because not more of them is needed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image

#: EXIF's tag of how to turn a picture, and for each of its values which of the right and the lower edge of what is
#: stored are the left, upper, right and lower edge of what stands upright.
ORIENTATION = 0x0112
EDGES = {
    1: (None, None, "right", "lower"),
    2: ("right", None, None, "lower"),
    3: ("right", "lower", None, None),
    4: (None, "lower", "right", None),
    5: (None, None, "lower", "right"),
    6: ("lower", None, None, "right"),
    7: ("lower", "right", None, None),
    8: (None, "right", "lower", None),
}
#: Those for which height and width change places.
ON_THEIR_SIDE = (5, 6, 7, 8)

#: Formats that PIL can decode at a reduced scale.
FORMATS = {"JPEG", "MPO"}


@dataclass
class Draft:
    """What is wanted of a file that may be decoded at a reduced scale, and what became of it.

    Attributes:
        enough: which (height, width) is enough of an upright picture of this height and width.
        shape: the (height, width) of the whole picture, upright; None if the file cannot be decoded so.
        box: where it lies, (left, upper, right, lower), in the one that was decoded, upright, if that is larger: a
            scale that does not divide height and width adds a fraction of a row and of a column.
    """

    enough: Callable[[int, int], tuple[int, int]]
    shape: tuple[int, int] | None = None
    box: tuple[float, float, float, float] | None = None

    def prepare(self, picture: Image.Image) -> None:
        """Have PIL decode a picture, of which nothing is decoded yet, at the smallest scale that leaves enough."""
        if picture.format not in FORMATS:
            return
        orientation = 1
        with suppress(Exception):  # damaged EXIF data turn nothing
            orientation = picture.getexif().get(ORIENTATION, 1)
        lies = orientation in ON_THEIR_SIDE
        width, height = picture.size
        self.shape = (width, height) if lies else (height, width)
        rows, columns = self.enough(*self.shape)
        drafted = picture.draft(None, (rows, columns) if lies else (columns, rows))
        if drafted is None:
            return
        _, (_, _, right, lower) = drafted
        outside = {"right": picture.width - right, "lower": picture.height - lower, None: 0}
        if any(outside.values()):
            left, upper, right, lower = (outside[edge] for edge in EDGES.get(orientation, EDGES[1]))
            width, height = picture.size[::-1] if lies else picture.size
            self.box = left, upper, width - right, height - lower
