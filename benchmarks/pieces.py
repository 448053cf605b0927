"""A JSON that grows in pieces: rows of another run of the same machine with the same versions are added or replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.subjects import SUBJECTS, subject_of

Kept = Mapping[str, Any]  # what a JSON holds


def difference(before: Kept, conditions: Kept) -> str:
    """What keeps a run under these conditions from being added to an earlier one's rows; nothing if nothing does."""
    for name, value in conditions["machine"].items():
        if before["machine"].get(name) != value:
            return f"{name} was {before['machine'].get(name)} and is {value}"
    for environment, versions in conditions["versions"].items():
        earlier = before["versions"].get(environment, versions)
        for name in sorted(earlier.keys() | versions.keys()):
            if earlier.get(name) != versions.get(name):
                there = f"{versions.get(name, 'not there')} in {environment}"
                return f"{name} was {earlier.get(name, 'not there')} and is {there}"
    return ""


def merged(before: Kept, now: Kept) -> dict[str, Any]:
    """The rows of both, those of now where both have them, in the order of the tables; what no table has any more goes.

    The minutes and others' part of the cores' time are of what is left of before, and of now.
    """
    replaced = {key(row): row for row in now["rows"]}
    left = {key(row): row for row in before["rows"] if key(row) not in replaced}
    places = [(name, row.title) for name in SUBJECTS for row in subject_of(name).rows]
    minutes = before["minutes"] * len(left) / max(len(before["rows"]), 1)
    whole = minutes + now["minutes"]
    return {
        **now,
        "minutes": round(whole, 1),
        "others": round((minutes * before["others"] + now["minutes"] * now["others"]) / whole, 3) if whole else 0.0,
        "versions": dict(sorted((before["versions"] | now["versions"]).items())),
        "rows": [(left | replaced)[place] for place in places if place in left or place in replaced],
    }


def key(row: Kept) -> tuple[str, str]:
    """What tells a row from all others."""
    return row["subject"], row["title"]
