"""Reading JSON that may come from a stranger: bounded in size, in depth and in the number of its parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LARGEST_FILE = 16 * 2**20  # bytes; the names of 21,000 classes, in both directions, are two million
#: Lists and objects, each of which takes thirty times its two letters in memory. Of a file of weights, each tensor has
#: two of them.
MOST_PARTS = 200_000
LONGEST_NUMBER = 40  # digits; longer ones are no floats, either
DEEPEST = 64  # of them in one another; the configs of published models have four


def is_json_file(name: str | None) -> bool:
    """Whether a file that the user named has settings and not weights."""
    return name is not None and name.lower().endswith(".json")


def read_json_file(path: Path, largest: int = LARGEST_FILE) -> dict[str, Any]:
    """Read a JSON object from a file that may come from a stranger.

    Args:
        path: the file.
        largest: size in bytes from which the file is refused unread.

    Raises:
        ValueError: it is no JSON object, or too large to be one that belongs here.
    """
    with open(path, "rb") as file:
        text = file.read(largest + 1)  # not what the file's size says, which may be another one by now
    if len(text) > largest:
        raise ValueError(f"{path} is too long; more than {largest} bytes are refused for a file of its kind.")
    try:
        values = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); download or write it again.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a JSON {type(values).__name__}; an object with named fields is needed.")
    return values


def parse_json(text: bytes, *, strict: bool = False) -> Any:
    """What JSON says, once it is known to take no more memory and no deeper recursion than what belongs here does.

    Args:
        text: in UTF-8, UTF-16 or UTF-32.
        strict: whether it must be UTF-8, and an object that has a name twice is refused, and not read as with the last.

    Raises:
        ValueError: it is no JSON, has too many parts, or they lie too deep in one another.
    """
    parts = text.count(b"[") + text.count(b"{")  # those in strings among them, which are few
    if parts > MOST_PARTS:
        raise ValueError(f"it has {parts} lists and objects, and at most {MOST_PARTS} are accepted")
    try:
        value = (
            json.loads(text.decode(), object_pairs_hook=_unique_names)
            if strict
            else json.loads(text, parse_int=_integer)
        )
    except RecursionError:
        raise ValueError(f"its lists and objects are more than {DEEPEST} deep") from None
    _require_shallow(value)
    return value


def valid_json(value: Any) -> Any:
    """The same with null in place of NaN and infinity, of which JSON has no numbers."""
    if isinstance(value, float) and value - value != 0:  # as of those two alone
        return None
    if isinstance(value, dict):
        return {name: valid_json(each) for name, each in value.items()}
    return [valid_json(each) for each in value] if isinstance(value, list | tuple) else value


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("it has a name twice")
    return names


def _require_shallow(value: Any) -> None:
    level: list[Any] = [[value]]
    for _ in range(1 + DEEPEST):
        level = [
            inner
            for each in level
            for inner in (each.values() if type(each) is dict else each)
            if type(inner) in (dict, list)
        ]
        if not level:
            return
    raise ValueError(f"its lists and objects are more than {DEEPEST} deep")
