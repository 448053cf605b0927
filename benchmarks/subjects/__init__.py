"""The tables: each module has a `SUBJECT`, and imports no framework."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from benchmarks.rows import Length, Row, Subject

#: In the order in which they are measured and shown.
SUBJECTS = (
    *("pytorch", "keras", "flax", "images", "files", "commands", "starting"),
    *("compilation", "growth", "token_merging"),
)


def subject_of(name: str) -> Subject:
    """The table of a subject."""
    return importlib.import_module(f"benchmarks.subjects.{name}").SUBJECT


def chosen(names: Sequence[str], length: Length, words: Sequence[str] = ()) -> list[tuple[Subject, list[Row]]]:
    """Subjects with those of their rows that a run has.

    Args:
        names: of subjects.
        length: of the run.
        words: which must all be in the title of a row.
    """
    pairs = []
    for subject in map(subject_of, names):
        rows = [row for row in subject.rows if row.is_in(length) and all(word in row.title for word in words)]
        if rows:
            pairs.append((subject, rows))
    return pairs
