"""The pixels of a PIL image where they lie, through Arrow's C data interface, which Pillow has since 11.3."""

from __future__ import annotations

import ctypes

import numpy as np
from PIL import Image

#: How Arrow says what an RGB image of PIL is: a list of four bytes for each pixel, the last of which means nothing.
PIXELS, BYTES, BYTES_PER_PIXEL = b"+w:4", b"C", 4


class _Schema(ctypes.Structure):
    """The first fields of ArrowSchema (https://arrow.apache.org/docs/format/CDataInterface.html)."""


class _Array(ctypes.Structure):
    """The first fields of ArrowArray."""


_Schema._fields_ = [
    *((name, ctypes.c_char_p) for name in ("format", "name", "metadata")),
    *((name, ctypes.c_int64) for name in ("flags", "n_children")),
    ("children", ctypes.POINTER(ctypes.POINTER(_Schema))),
]
_Array._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
]

_address_in = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class _Memory:
    """NumPy's array interface of pixels, with what keeps them alive."""

    def __init__(self, address: int, shape: tuple[int, ...], owner: object) -> None:
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": shape, "data": (address, False)}
        self._owner = owner


def pixels_in_place(picture: Image.Image) -> np.ndarray | None:
    """The pixels of an RGB image without a copy.

    Args:
        picture: a PIL image of whatever mode.

    Returns:
        uint8 array of shape (height, width, 4), whose last channel means nothing and which nobody may write to; None
        where PIL does not show them: it is another mode, an older Pillow, or an image in several pieces, as those of
        more than 16 MB are.
    """
    if picture.mode != "RGB" or not hasattr(picture, "__arrow_c_array__"):
        return None
    try:
        schema_capsule, array_capsule = picture.__arrow_c_array__()
    except ValueError:
        return None
    schema = _Schema.from_address(_address_in(schema_capsule, b"arrow_schema"))
    array = _Array.from_address(_address_in(array_capsule, b"arrow_array"))
    if schema.format != PIXELS or schema.children[0].contents.format != BYTES or array.offset:
        return None
    address = array.children[0].contents.buffers[1]  # the first one says which values are missing: none
    memory = _Memory(address, (picture.height, picture.width, BYTES_PER_PIXEL), array_capsule)
    return np.asarray(memory)
