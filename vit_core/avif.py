"""AVIF images, which are decoded in a process of their own: they may be of another size than they say."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

from PIL import Image

from vit_core import limited_process

PROGRAM = Path(__file__).with_name("avif_process.py")


def decoded_apart(picture: Image.Image, source: str | os.PathLike[str] | BytesIO) -> Image.Image:
    """The pixels of an AVIF file, decoded within the memory that an image of its size needs.

    Args:
        picture: the file as PIL opens it, not decoded; its size is taken for granted.
        source: what PIL has opened.

    Returns:
        A picture in memory, with what the file says about it.

    Raises:
        OSError: the file cannot be decoded within the limits of `vit_core.avif_process`, or no process started.
    """
    with os.fdopen(os.memfd_create("image"), "r+b") as file, os.fdopen(os.memfd_create("pixels"), "r+b") as pixels:
        file.write(source.getbuffer() if isinstance(source, BytesIO) else Path(source).read_bytes())
        file.seek(0)
        if problem := limited_process.run(PROGRAM, *picture.size, source=file, target=pixels):
            raise OSError(f"the decoder {problem}")
        pixels.seek(0)
        decoded = Image.frombytes(picture.mode, picture.size, pixels.read())
    decoded.info = picture.info
    return decoded
