"""Text on a terminal: what strangers' files say is shown, never obeyed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def printable(text: object) -> str:
    """The text in one line, with control characters (which could steer the terminal) replaced."""
    line = " ".join(str(text).split())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


def complain(message: object) -> None:
    """Write one line to standard error."""
    print(f"trivit: {printable(message)}", file=sys.stderr, flush=True)


def bytes_in_words(count: int) -> str:
    """A size such as "86.4 MB", in powers of 1000 as file managers show it."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def file_column(files: Sequence[Path]) -> tuple[str, list[str]]:
    """The title of a table's column of files, and their names; a folder that they share stands in the title alone."""
    folders = {file.parent for file in files}
    shared = folders.pop() if len(folders) == 1 else None
    title = f"file in {printable(shared)}" if shared and shared.name else "file"
    return title, [printable(file.name if shared else file) for file in files]
