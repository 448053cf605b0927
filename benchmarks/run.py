"""A whole run: all subjects that are wanted, within the time there is, to what is kept."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import results, weights
from benchmarks.budget import FEWEST, Budget
from benchmarks.machine import busy, machine, own, today
from benchmarks.measuring import measure
from benchmarks.processes import QUIET, Process, SideError
from benchmarks.rows import Row, Side, Subject

Wanted = Sequence[tuple[Subject, list[Row]]]


def conditions(wanted: Wanted, pythons: Mapping[str, str]) -> dict[str, Any]:
    """What a run's numbers hold for: the date, the machine, and the versions in the environments of its rows.

    Args:
        wanted: subjects and their rows.
        pythons: the interpreter of each environment that there is.
    """
    sides = [subject.sides[name] for subject, rows in wanted for row in rows for name in row.everybody]
    versions = {}
    for environment in sorted({side.environment for side in sides} & pythons.keys()):
        with contextlib.suppress(SideError):  # each of its rows says why
            process = Process(pythons[environment], QUIET)
            try:
                versions[environment] = process.ask("versions")
            finally:
                process.close()
    return {"date": today(), "machine": machine(), "versions": versions}


def run(
    wanted: Wanted,
    minutes: float,
    pythons: Mapping[str, str],
    tell: Callable[[str], None],
    fewest: int = FEWEST,
    variables: Mapping[str, str] = QUIET,
) -> Iterator[dict[str, Any]]:
    """Measure subjects, one after the other.

    Args:
        wanted: subjects and their rows.
        minutes: how long the run is to be.
        pythons: the interpreter of each environment that there is.
        tell: is told how far it is.
        fewest: rounds that rows have in any case.
        variables: what all processes have in their environment.

    Yields:
        After each row, what is kept of all rows until then, with the minutes that they took and others' part of the
        cores' time.
    """
    began, busy_before, own_before = time.monotonic(), busy(), own()
    budget = Budget(minutes * 60, [row.weight for _, rows in wanted for row in rows], fewest)
    here = machine()
    kept: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:

        def start(side: Side, more: Mapping[str, str]) -> Process:
            if side.environment not in pythons:
                raise SideError(f"there is no environment {side.environment}")
            return Process(pythons[side.environment], {**variables, weights.FOLDER: folder, **side.variables, **more})

        for subject, rows in wanted:
            for measured in measure(subject, rows, start, budget, tell, here["instructions"]):
                kept.append(results.row(measured, subject))
                seconds = time.monotonic() - began
                of_others = busy() - busy_before - (own() - own_before)
                yield {
                    "minutes": round(seconds / 60, 1),
                    "others": round(max(of_others / seconds / here["cores"], 0), 3),  # of all the cores' time
                    "rows": kept,
                }
