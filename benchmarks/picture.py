"""Draws what was measured, for light and for dark pages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.comparison_picture import comparison
from benchmarks.growth_picture import growth
from benchmarks.theme import Theme
from benchmarks.token_merging_picture import token_merging

#: By what is added to the file's name.
PICTURES = {"": comparison, "-growth": growth, "-token-merging": token_merging}
FINGERPRINT = "Description"  # where in a picture is said what it was drawn from


def fingerprint(kept: Mapping[str, Any]) -> str:
    """What tells whether a picture was drawn from these rows."""
    return hashlib.sha256(repr(kept["rows"]).encode()).hexdigest()[:16]


def draw(kept: Mapping[str, Any], file: Path, theme: Theme) -> list[Path]:
    """Draw the pictures of a JSON file beside it, on a transparent ground; returns their paths."""
    paths = []
    for name, drawn in PICTURES.items():
        figure = drawn(kept, theme)
        if figure is not None:
            path = file.with_name(f"{file.stem}{name}{theme.suffix}.png")
            figure.savefig(path, transparent=True, metadata={"Software": None, FINGERPRINT: fingerprint(kept)})
            paths.append(path)
    return paths
