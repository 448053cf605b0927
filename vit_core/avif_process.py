"""A program: decodes an AVIF image from standard input, and writes its pixels to standard output.

The image in such a file has a size of its own, which no header that PIL shows has to agree with; its decoder takes
memory for that one, up to 268 million pixels.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vit_core.process_limits import GiveUp

MEMORY, BYTES_A_PIXEL = 2**27, 32  # planes of 16 bits, what they are converted to, and copies on their way
SECONDS, PIXELS_A_SECOND = 3, 2**21


def main(give_up: GiveUp, width: str, height: str) -> None:
    """Do it; what is wrong with the file is one line on standard error.

    Args:
        give_up: sets limits.
        width: in pixels, as the header says.
        height: likewise.
    """
    from PIL import AvifImagePlugin, TiffImagePlugin  # noqa: F401  EXIF data are read as TIFF's

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # none may be started
    content, pixels = sys.stdin.buffer.read(), int(width) * int(height)
    give_up(MEMORY + BYTES_A_PIXEL * pixels, SECONDS + pixels // PIXELS_A_SECOND, 4 * pixels)
    try:
        with AvifImagePlugin.AvifImageFile(io.BytesIO(content)) as picture:
            sys.stdout.buffer.write(picture.tobytes())
    except Exception as error:  # whatever PIL makes of a stranger's file
        sys.exit(" ".join(str(error).split())[:500] or type(error).__name__)
