"""Text on a terminal: what strangers' files say is shown, never obeyed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vit_core.json_file import valid_json

if TYPE_CHECKING:
    from rich.console import Console


LONGEST_LINE = 500  # letters of what a file says


def printable(text: object) -> str:
    """The text in one line, cut if it is long, with control characters (which could steer the terminal) replaced."""
    words = str(text)
    words = words if len(words) <= LONGEST_LINE else f"{words[: LONGEST_LINE - 3]}..."
    line = " ".join(words.split())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


def plain_console(stderr: bool = False) -> Console:
    """What prints tables: text as it is, without markup, links or emoji that a name could spell."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, stderr=stderr)


def print_json(value: Any) -> None:
    """Print one JSON document, in which null stands for numbers that JSON has not."""
    print(json.dumps(valid_json(value), indent=2, allow_nan=False))


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
