"""Reading JSON objects from files that may come from a stranger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def is_json_file(name: str | None) -> bool:
    """Whether a file that the user named has settings and not weights."""
    return name is not None and name.lower().endswith(".json")


def read_json_file(path: Path, largest: int = 16 * 2**20) -> dict[str, Any]:
    """Read a JSON object from a file that may come from a stranger.

    Args:
        path: the file.
        largest: size in bytes from which the file is refused unread.

    Raises:
        ValueError: it is no JSON object, or too large to be one that belongs here.
    """
    if (size := path.stat().st_size) > largest:
        raise ValueError(f"{path} has {size} bytes; more than {largest} are refused for a file of its kind.")
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); download or write it again.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a JSON {type(values).__name__}; an object with named fields is needed.")
    return values
