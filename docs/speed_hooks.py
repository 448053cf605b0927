"""Fills the documentation's page on speed with what `nox -s bench` measured, which is in `speed.json`.

`{{ measured pytorch }}` becomes the table of a subject, `{{ memory pytorch }}` that of its memory; there are also
`{{ conditions }}`, `{{ summary }}`, `{{ growth }}` and `{{ missing }}`.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
MARKER = re.compile(
    r"^\{\{ (?P<table>measured|memory|conditions|summary|growth|missing)(?: (?P<subject>\w+))? \}\}$", re.MULTILINE
)


def _benchmarks() -> None:
    """Let the package of the benchmarks be imported, which is not installed."""
    if "benchmarks" not in sys.modules:
        folder = DOCS.parent / "benchmarks"
        spec: Any = importlib.util.spec_from_file_location(
            "benchmarks", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        sys.modules["benchmarks"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


_benchmarks()
from benchmarks import tables  # noqa: E402


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers of a page; called by MkDocs."""
    if not MARKER.search(markdown):
        return markdown
    kept = json.loads((DOCS / "speed.json").read_text())
    return MARKER.sub(lambda found: SHOWN[found["table"]](kept, found["subject"]), markdown)


def _conditions(kept: dict[str, Any], _: str | None) -> str:
    return "\n".join(f"- {line}" for line in tables.conditions(kept))


SHOWN: dict[str, Callable[[dict[str, Any], Any], str]] = {
    "measured": lambda kept, subject: tables.as_markdown(tables.speeds(tables.of(kept, subject))),
    "memory": lambda kept, subject: tables.as_markdown(tables.memory(tables.of(kept, subject))),
    "growth": lambda kept, _: tables.as_markdown(tables.growth(tables.of(kept, "growth"))),
    "summary": lambda kept, _: tables.as_markdown(tables.summary(kept)),
    "missing": lambda kept, _: tables.as_markdown(tables.left_out(kept)),
    "conditions": _conditions,
}
