"""From turns to what is kept: medians with quartiles, ratios of theirs to ours, parts of the limit; as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.arithmetic import memory, operations
from benchmarks.measuring import Measured
from benchmarks.rows import Subject

DIGITS = 4  # of what is kept


def spread(values: Sequence[float]) -> list[float]:
    """Lower quartile, median and upper quartile."""
    if len(values) == 1:
        return [rounded(values[0])] * 3
    return [rounded(value) for value in statistics.quantiles(values, n=4, method="inclusive")]


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Quartiles of the ratios of turns of one round: above 1 we are faster."""
    return spread([other / own for other, own in zip(theirs, ours, strict=True)])


def row(measured: Measured, subject: Subject) -> dict[str, Any]:
    """What is kept of a row of a subject; sides have the names that tables call them by."""
    mine, *others = measured.row.sides
    limit, name_of = measured.row.limit, subject.name_of
    turns, work = measured.turns, measured.row.work
    ours = turns.get(mine, [])
    present = [name for name in others if name in turns]
    kept: dict[str, Any] = {
        "subject": subject.name,
        "title": measured.row.title,
        "work": dict(work),
        "rounds": len(ours),
        "ours": name_of(mine),
        "seconds": {name_of(name): spread(each) for name, each in turns.items()},
        "ratios": {name_of(name): ratios(turns[name], ours) for name in present},
        "cpu_ratios": {name_of(name): ratios(measured.cpu[name], measured.cpu[mine]) for name in present},
        "bytes": {name_of(name): needed for name, needed in measured.memory.items()},
        "left_out": {name_of(name): why for name, why in measured.left_out.items()},
    }
    if limit in turns:
        kept["limit"] = {"name": name_of(limit), "part": ratios(turns[limit], ours)}
    if measured.quality:
        kept["quality"] = measured.quality
    if work.get("kind") == "forward":
        size = {name: work[name] for name in ("model", "batch", "image", "layers") if name in work}
        kept |= {"operations": operations(**size), "least_bytes": memory(**size)}
    return kept


def rounded(value: float) -> float:
    """With as many digits as are kept."""
    return float(f"{value:.{DIGITS}g}")


def write(file: Path, results: Mapping[str, Any]) -> None:
    """Write results, a row a line, so that a later run's differ where they differ."""
    rows = results["rows"]
    shown = json.dumps({**results, "rows": "ROWS"}, indent=1, ensure_ascii=False)
    lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows)
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.write_text(shown.replace('"ROWS"', f"[\n{lines}\n ]") + "\n")
    unfinished.replace(file)  # whoever ends the program leaves the old one or the new one


def read(file: Path) -> dict[str, Any]:
    """Read what `write` wrote."""
    return json.loads(file.read_text())
