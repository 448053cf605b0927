"""Image files: from a path, bytes, an open file or a row of a dataset to a decoded picture that stands upright."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any, BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from vit_core import limited_process
from vit_core.avif import decoded_apart
from vit_core.checks import shown
from vit_core.image_draft import Draft
from vit_core.image_limits import IMAGE_LIMITS

#: Formats whose decoder runs another program (Ghostscript) or the operating system's drawing code on the file.
VECTOR_FORMATS = {"EPS", "WMF"}

#: Formats with files of others inside, of another size than their own header says if a stranger wants it so. PIL
#: decodes some of them as it opens them, so that they have to be left out before.
NESTING_FORMATS = {"ICO", "ICNS", "BLP", "IPTC"}

#: TIFF's tags for the width and the height of tiles.
TILE_SIZE = (322, 323)

#: Several frames, of which the first is the photograph and the others are its depth map, preview or second eye.
ONE_PHOTO_FORMATS = {"MPO"}

#: The keys of a row in which `datasets` keeps an image file that is not decoded.
ROW_KEYS = ("bytes", "path")


def is_image_file(image: Any) -> bool:
    """Whether this stands for an image file: a path, its bytes, an open file, or a row {"bytes": ..., "path": ...}."""
    return (
        isinstance(image, str | os.PathLike | bytes | bytearray | memoryview)
        or callable(getattr(image, "read", None))
        or (isinstance(image, Mapping) and bool(image.keys() & set(ROW_KEYS)))
    )


def file_name(file: Any, name: str) -> str:
    """What to call an image file in an error: its path, or this name if it has none."""
    if isinstance(file, Mapping):
        file = _of_row(file)
    path = file if isinstance(file, str | os.PathLike) else getattr(file, "name", None)
    return os.fspath(path) if isinstance(path, str | os.PathLike) else name


@contextmanager
def opened_picture(
    file: Any, name: str, admit: Callable[[int], object] = bool, draft: Draft | None = None
) -> Iterator[Image.Image]:
    """An image file's picture, decoded after what its header says was checked, and turned as its EXIF data say.

    Args:
        file: what `is_image_file` knows. An open file is read from its start if it can be rewound; of a row, the bytes
            come before the path.
        name: what to call it in an error.
        admit: called with the number of its pixels before they are decoded; may wait.
        draft: what is wanted of a file that may be decoded at a reduced scale; all of it unless given.

    Raises:
        OSError: the file is missing, is empty, is cut short or is no image.
        TypeError: an open file gives text.
        ValueError: the image has too many pixels or several frames, is a drawing, or the row holds no image.
    """
    source = _source(file, name)
    with _open(source, name) as picture:
        with reading(name):
            animated = getattr(picture, "is_animated", False) and picture.format not in ONE_PHOTO_FORMATS
        if animated:
            raise ValueError(
                f"{name} has several frames; open it with PIL.Image.open, pick one with seek(number), "
                "and pass the PIL image."
            )
        if picture.format in VECTOR_FORMATS:
            raise ValueError(f"{name} is a drawing ({picture.format}), not pixels; convert it to PNG.")
        admit(picture.width * picture.height)
        if draft is not None:
            draft.prepare(picture)
        with reading(name):
            if picture.format == "AVIF" and limited_process.is_possible():
                picture = decoded_apart(picture, source)
            else:
                picture.load()
        with suppress(Exception):  # damaged EXIF data take nothing from the pixels
            ImageOps.exif_transpose(picture, in_place=True)
        yield picture


@contextmanager
def reading(name: str) -> Iterator[None]:
    """PIL's decoders raise whatever comes to them (struct.error, SyntaxError, EOFError, ...): make it one sentence."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, error) from error
    except Exception as error:
        raise OSError(f"{name} cannot be read as an image ({error}); get it again, or convert it to PNG.") from error


def _source(file: Any, name: str) -> str | os.PathLike[str] | BytesIO:
    """What PIL opens."""
    if isinstance(file, Mapping):
        file = _of_row(file)
        if file is None:
            raise ValueError(f"{name} is a row whose bytes and path are None; leave it out of the batch.")
    if isinstance(file, str | os.PathLike):
        return file
    if isinstance(file, bytes | bytearray | memoryview):
        return BytesIO(file)
    try:
        with suppress(AttributeError, OSError):  # what cannot be rewound is read from where it is
            file.seek(0)
        content = file.read()
    except Exception as error:  # each kind of file has its own
        raise OSError(f"{name} cannot be read ({error}); open it again.") from error
    if not isinstance(content, bytes):
        raise TypeError(f'{name} was opened as text; open it with mode "rb".')
    return BytesIO(content)


def _of_row(row: Mapping[str, Any]) -> Any:
    """The bytes of a row, or else its path; None if it has neither."""
    return next((row[key] for key in ROW_KEYS if row.get(key) is not None), None)


def _open(source: str | os.PathLike[str] | BytesIO, name: str) -> Image.Image:
    try:
        with reading(name):
            picture = _opened(source)
    except OSError as error:
        match error.__cause__:
            case FileNotFoundError() if name.startswith(("http://", "https://")):
                raise FileNotFoundError(f"{name} is a URL; pass what fetch_images(url) returns.") from error
            case FileNotFoundError():
                raise FileNotFoundError(f"there is no file {name}; check the path.") from error
            case IsADirectoryError():
                raise IsADirectoryError(f"{name} is a folder; pass the image files in it.") from error
            case UnidentifiedImageError():
                what = "not an image that PIL can read; convert it to PNG" if _size(source) else "empty; get it again"
                raise OSError(f"{name} is {what}.") from error
        raise
    # PIL only warns of some sizes. Making errors of its warnings, which are the whole process's, would take a lock, and
    # a worker that is forked while a thread has it would wait for ever.
    pixels = picture.width * picture.height
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        picture.close()
        raise _too_large(name, f"{pixels} pixels, where {Image.MAX_IMAGE_PIXELS} are usual at most")
    size = _size(source)
    if pixels > _most_pixels(size):
        picture.close()
        raise ValueError(
            f"{name} is suspiciously large ({pixels} pixels out of {size} bytes); make it smaller, or raise "
            f"vit_core.image_limits.IMAGE_LIMITS.pixels_per_byte if you trust it."
        )
    try:
        if (check := UNSEEN_WORK.get(picture.format or "")) is not None:
            check(picture, size, name)
    except BaseException:
        picture.close()
        raise
    return picture


def _require_few_scans(picture: Image.Image, size: int, name: str) -> None:
    """Refuse a JPEG that has its pixels decoded over and over."""
    scans = _count(picture.fp, b"\xff\xda")  # type: ignore[attr-defined]
    pixels = picture.width * picture.height
    if scans * pixels > IMAGE_LIMITS.jpeg_scans * IMAGE_LIMITS.harmless_pixels:
        raise ValueError(
            f"{name} is suspiciously slow to decode ({scans} passes over {pixels} pixels, where a JPEG has ten); "
            f"convert it to PNG, or raise vit_core.image_limits.IMAGE_LIMITS.jpeg_scans if you trust it."
        )


def _count(file: BinaryIO, marker: bytes) -> int:
    """How often two bytes stand in a file, which is read from its start."""
    file.seek(0)
    count, last = 0, b""
    while piece := file.read(2**20):
        count += (last + piece).count(marker)
        last = piece[-1:]
    return count


def _require_small_tiles(picture: Image.Image, size: int, name: str) -> None:
    """Refuse a TIFF whose tiles, of which one is decoded at a time, are larger than an image may be."""
    width, height = (picture.tag_v2.get(tag, 0) for tag in TILE_SIZE)  # type: ignore[attr-defined]
    if not all(isinstance(each, int) for each in (width, height)) or width * height > _most_pixels(size):
        raise ValueError(f"{name} has tiles of {shown(width)} x {shown(height)} pixels; convert it to PNG.")


#: Formats in which a file may ask for more than the pixels that its header speaks of, and what refuses it.
UNSEEN_WORK: dict[str, Callable[[Image.Image, int, str], None]] = {
    "JPEG": _require_few_scans,
    "MPO": _require_few_scans,
    "TIFF": _require_small_tiles,
}


def _most_pixels(size: int) -> float:
    """What a file of so many bytes may unpack to."""
    return max(IMAGE_LIMITS.harmless_pixels, IMAGE_LIMITS.pixels_per_byte * size)


def _opened(source: str | os.PathLike[str] | BytesIO) -> Image.Image:
    """What PIL opens, of any format but those that nest others."""
    Image.preinit()
    try:
        return Image.open(source, formats=[each for each in Image.ID if each not in NESTING_FORMATS])
    except UnidentifiedImageError:
        if not Image.init():  # all that PIL knows has been tried
            raise
        return Image.open(source, formats=[each for each in Image.ID if each not in NESTING_FORMATS])


def _size(source: str | os.PathLike[str] | BytesIO) -> int:
    return source.getbuffer().nbytes if isinstance(source, BytesIO) else os.path.getsize(source)


def _too_large(name: str, reason: object) -> ValueError:
    return ValueError(
        f"{name} is suspiciously large ({reason}); make it smaller, "
        "or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."
    )
