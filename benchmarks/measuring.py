"""Measures rows: all sides of a row take turns, round by round, so that a busy machine slows all alike."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.budget import FEWEST, Budget
from benchmarks.processes import Process, SideError
from benchmarks.rows import Row, Side, Subject, Work
from benchmarks.worker import FRUGAL

SHORTEST_TURN = 0.05  # seconds; what takes less is done several times a turn
Start = Callable[[Side, Mapping[str, str]], Process]  # with what is in its environment besides


@dataclass
class Measured:
    """What was measured of a row.

    Attributes:
        subject: the name of its table.
        row: the row.
        turns: seconds of each side in each round.
        cpu: those of all of its threads together.
        memory: bytes that each needed, if that was measured, or is told by its turns.
        left_out: who was left out, and why.
        quality: of our answers, by what is counted.
    """

    subject: str
    row: Row
    turns: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)


class Team:
    """The processes of a subject's sides, started when a row first needs them.

    Args:
        sides: by name.
        start: starts the process of a side.
        variables: what is in their environment besides.
    """

    def __init__(self, sides: Mapping[str, Side], start: Start, variables: Mapping[str, str]) -> None:
        self.sides = sides
        self.start = start
        self.variables = variables
        self.processes: dict[str, Process] = {}
        self.reasons: dict[str, str] = {}  # why a process could not be had

    def of(self, name: str) -> Process:
        """The process of a side; a new one where it has ended.

        Raises:
            SideError: it cannot be started.
        """
        home = self.sides[name].within or name
        if home in self.processes and not self.processes[home].is_alive:
            self.processes.pop(home).close()
        if home not in self.processes:
            self.processes[home] = self.start(self.sides[home], self.variables)
        return self.processes[home]

    def ask(self, name: str, method: str, **arguments: Any) -> Any:
        """Have a side's process do something.

        Raises:
            SideError: it cannot.
        """
        try:
            return self.of(name).ask(method, side=name, **arguments)
        except SideError as error:
            raise SideError(f"{name}: {error}") from error

    def prepare(self, name: str, work: Work) -> Process:
        """Have a side's process prepare work; its `receive` waits until that is done.

        Raises:
            SideError: it cannot be started.
        """
        side, process = self.sides[name], self.of(name)
        process.send("prepare", side=name, module=side.module, work={**work, **side.options})
        return process

    def close(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            process.close()
        self.processes.clear()


def measure(
    subject: Subject,
    rows: Sequence[Row],
    start: Start,
    budget: Budget,
    tell: Callable[[str], None],
    instructions: Sequence[str] = (),
) -> Iterator[Measured]:
    """Measure rows of a subject in turn.

    Args:
        subject: the table.
        rows: those of its rows that are wanted.
        start: starts the process of a side.
        budget: says how many rounds there are.
        tell: is told how far it is.
        instructions: that the processor has, of those that rows may need.

    Yields:
        What was measured of each row.
    """
    team, frugal = Team(subject.sides, start, {}), Team(subject.sides, start, FRUGAL)
    try:
        for row in rows:
            budget.begin_row()
            measured = Measured(subject.name, row)
            try:
                if row.instructions and not set(row.instructions) & set(instructions):
                    raise SideError("this processor has no instructions for this type")
                present = same_work(team, row, prepared(team, row, measured), measured)
                rounds(team, present, measured, budget)
                measured.quality = team.ask(row.sides[0], "quality")
                for name in present:
                    team.ask(name, "release")
                if row.has_memory:
                    measured.memory = memory(frugal, [name for name in present if name != row.limit], row)
            except SideError as error:
                measured.left_out.setdefault(row.sides[0], str(error))
            tell(described(measured))
            yield measured
    finally:
        team.close()
        frugal.close()


def prepared(team: Team, row: Row, measured: Measured) -> dict[str, list[float] | None]:
    """Have all prepare the row's work, at the same time; returns the answers of those who can do it.

    Raises:
        SideError: ours cannot.
    """
    waiting, answers = [], {}
    for name in row.everybody:
        try:
            process = team.prepare(name, row.work)
            process.send("answer", side=name)
            waiting.append((name, process))
        except SideError as error:
            measured.left_out[name] = str(error)
    for name, process in waiting:
        try:
            process.receive()
        except SideError as error:
            measured.left_out[name] = str(error)
        try:
            answers[name] = process.receive()
        except SideError as error:  # since nothing is prepared, or by itself
            measured.left_out.setdefault(name, str(error))
    if row.sides[0] not in answers:
        raise SideError(measured.left_out[row.sides[0]])
    return answers


def same_work(team: Team, row: Row, answers: Mapping[str, list[float] | None], measured: Measured) -> list[str]:
    """Those whose answers are ours; the others do something else, and their times would mean nothing."""
    ours = answers[row.sides[0]]
    present = []
    for name, answer in answers.items():
        apart = 0.0 if ours is None or answer is None else distance(ours, answer)
        if apart <= row.tolerance:  # NaN is no answer either
            present.append(name)
        else:
            measured.left_out[name] = f"answers differ from ours by {apart:.2g} of their spread"
            team.ask(name, "release")
    return present


def distance(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest difference of two answers, in standard deviations of ours."""
    if len(ours) != len(theirs):
        return math.inf
    mean = sum(ours) / len(ours)
    spread = math.sqrt(sum((each - mean) ** 2 for each in ours) / len(ours))
    differences = [abs(mine - other) for mine, other in zip(ours, theirs, strict=True)]
    if any(map(math.isnan, differences)):
        return math.nan
    return max(differences) / (spread or 1)


def rounds(team: Team, present: Sequence[str], measured: Measured, budget: Budget) -> None:
    """Let all take turns, in another order each round, as long as the budget allows.

    Raises:
        SideError: somebody cannot go on.
    """
    order = random.Random(0)
    repeats = dict.fromkeys(present, 1)
    done, longest = 0, 0.0
    if measured.row.fewest >= FEWEST:  # the first turn warms up, and says how long one takes; long ones need neither
        first = {name: team.ask(name, "turn", repeats=1)["seconds"] for name in present}
        repeats = {name: max(1, math.ceil(SHORTEST_TURN / max(seconds, 1e-9))) for name, seconds in first.items()}
        longest = sum(first.values())
    while budget.has_time_for_round(done, longest, measured.row.fewest):
        start = time.monotonic()
        turns = {name: team.ask(name, "turn", repeats=repeats[name]) for name in order.sample(present, len(present))}
        for name, turn in turns.items():
            measured.turns.setdefault(name, []).append(turn["seconds"])
            measured.cpu.setdefault(name, []).append(turn["cpu_seconds"])
            if turn["memory"] is not None:
                measured.memory[name] = max(turn["memory"], measured.memory.get(name, 0))
        done, longest = done + 1, max(longest, time.monotonic() - start)


def memory(team: Team, names: Sequence[str], row: Row) -> dict[str, int]:
    """The bytes that sides need for a row, which they prepare at the same time and do one after the other.

    Raises:
        SideError: one cannot do it.
    """
    for process in [team.prepare(name, row.work) for name in names]:
        process.receive()
    needed = {}
    for name in names:
        needed[name] = team.ask(name, "memory")
        team.ask(name, "release")
    return needed


def described(measured: Measured) -> str:
    """A line that says how far it is."""
    rounds = len(next(iter(measured.turns.values()), []))
    away = "".join(f"; without {name}: {why}" for name, why in measured.left_out.items())
    return f"{measured.subject}: {measured.row.title}, {rounds} rounds{away}"
