"""Whether a file can be written, found out before the work."""

from __future__ import annotations

import os
from pathlib import Path


def check_writable(path: Path, what: str) -> None:
    """Find out whether a file can be written; folders that do not exist yet will be made.

    Args:
        path: the file.
        what: what it is to hold, for the message.

    Raises:
        OSError: no file can be written there.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; choose the name of a file for the {what}")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"{path} cannot be written: {folder} is no folder")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{path} cannot be written: the folder {folder} is read-only")
