"""What the user wrote -> image files."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

#: What counts as an image in a folder; a file that is named is opened whatever its name.
IMAGE_SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)


def find_images(arguments: Iterable[str]) -> list[Path]:
    """List the files that the arguments mean, in their order.

    Args:
        arguments: files; folders, which stand for the images in them, sorted, without their subfolders; patterns with
            `*`, `?`, `[...]` and `**`, for shells that leave them to the command.

    Returns:
        The files. One that was named and does not exist is among them: opening it says so.

    Raises:
        OSError: a folder has no images, or nothing matches a pattern.
    """
    return [path for argument in arguments for path in _files_of(argument)]


def _files_of(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        images = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
        if not images:
            raise OSError(f"there are no images in the folder {argument}; name image files, or a folder that has some")
        return images
    if path.exists() or not glob.has_magic(argument):
        return [path]
    matches = sorted(file for file in map(Path, glob.glob(argument, recursive=True)) if file.is_file())
    if not matches:
        raise OSError(f"no file matches {argument}; check the pattern")
    return matches
