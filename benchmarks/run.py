"""A whole run: all subjects that are wanted, within the time there is, to what is kept."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import results, weights
from benchmarks.budget import Budget
from benchmarks.machine import busy, machine, own, today
from benchmarks.measuring import measure
from benchmarks.processes import QUIET, Process, SideError
from benchmarks.rows import Row, Side, Subject


def run(
    wanted: Sequence[tuple[Subject, list[Row]]],
    minutes: float,
    pythons: Mapping[str, str],
    tell: Callable[[str], None],
    variables: Mapping[str, str] = QUIET,
) -> dict[str, Any]:
    """Measure subjects, one after the other.

    Args:
        wanted: subjects and their rows.
        minutes: how long the run is to be.
        pythons: the interpreter of each environment that there is.
        tell: is told how far it is.
        variables: what all processes have in their environment.

    Returns:
        What is kept of all rows, with the machine, the versions and the date.
    """
    began, busy_before, own_before = time.monotonic(), busy(), own()
    budget = Budget(minutes * 60, [row.weight for _, rows in wanted for row in rows])
    kept: dict[str, Any] = {"date": today(), "machine": machine()}
    rows_kept, versions = [], {}
    with tempfile.TemporaryDirectory() as folder:

        def start(side: Side, more: Mapping[str, str]) -> Process:
            if side.environment not in pythons:
                raise SideError(f"there is no environment {side.environment}")
            return Process(pythons[side.environment], {**variables, weights.FOLDER: folder, **more})

        for subject, rows in wanted:
            measured, found = measure(subject, rows, start, budget, tell)
            rows_kept += [results.row(each, subject) for each in measured]
            versions |= {subject.sides[name].environment: found[name] for name in found}
    seconds = time.monotonic() - began
    of_others = busy() - busy_before - (own() - own_before)
    kept["minutes"] = round(seconds / 60, 1)
    kept["others"] = round(max(of_others / seconds / kept["machine"]["cores"], 0), 3)  # of all the cores' time
    kept["versions"] = dict(sorted(versions.items()))
    return {**kept, "rows": rows_kept}
