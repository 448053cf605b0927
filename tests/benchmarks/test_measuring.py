"""Sides take turns in processes of their own, and who cannot do the work, or does other work, is left out."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import results
from benchmarks.budget import FEWEST, Budget
from benchmarks.measuring import measure
from benchmarks.processes import Process, SideError
from benchmarks.rows import Row, Side, Subject
from benchmarks.weights import FOLDER
from benchmarks.worker import FRUGAL, Prepared, Spent, Worker

#: For each module of the fake processes: seconds of a turn, and the answer.
SPEEDS = {
    **{"ours": (1.0, [1.0, 2.0]), "telling": (1.0, [1.0, 2.0]), "theirs": (1.5, [1.0, 2.0])},
    **{"limit": (0.5, None), "other": (0.1, [1.0, 3.0])},
}

#: The memory that turns tell.
TOLD = {"telling": 3000}


class FakeProcess:
    """Does as a process would, without one; notes who was asked what."""

    log: list

    def __init__(self, log, variables):
        self.log, self.variables = log, variables
        self.modules, self.waiting = {}, []
        self.is_alive = True

    def send(self, method, **arguments):
        self.waiting.append((method, arguments))

    def receive(self):
        return self.ask(*self.waiting.pop(0))

    def ask(self, method, arguments=None, **more):
        arguments = arguments or more
        side = arguments.get("side")
        self.log.append((method, side, bool(self.variables)))
        if method == "prepare":
            if arguments["module"] == "broken":
                raise SideError("no such model")
            self.modules[side] = arguments["module"]
        if method == "answer":
            if side not in self.modules:
                raise SideError("nothing is prepared")
            return SPEEDS[self.modules[side]][1]
        if method == "turn":
            seconds, memory = SPEEDS[self.modules[side]][0], TOLD.get(self.modules[side])
            return {"seconds": seconds, "cpu_seconds": 2 * seconds, "memory": memory}
        return {"memory": 1000, "quality": {"right": 0.5}}.get(method)

    def close(self):
        self.is_alive = False


def measured(sides, **fields):
    """A row of such sides, ours first, measured; and the log."""
    everybody = {name: Side(name) for name in (*sides, "limit")} | {"limit": Side("limit", within=sides[0])}
    row = Row("a row", {"kind": "fake"}, tuple(sides), "limit", **fields)
    subject, log, told = Subject("fake", "Fake", everybody, (row,)), [], []
    start = lambda side, variables: FakeProcess(log, variables)  # noqa: E731
    (found,) = measure(subject, [row], start, Budget(0, [1]), told.append, ["avx2"])
    return results.row(found, subject), log, told


def test_all_take_a_turn_each_round_and_ratios_are_theirs_to_ours():
    kept, log, told = measured(["ours", "theirs"])
    turns = [side for method, side, _ in log if method == "turn"]
    assert [sorted(turns[start : start + 3]) for start in range(0, len(turns), 3)] == [["limit", "ours", "theirs"]] * (
        1 + FEWEST  # the first warms up
    )
    assert kept["rounds"] == FEWEST
    assert kept["ratios"] == {"theirs": [1.5] * 3}
    assert kept["limit"] == {"name": "limit", "part": [0.5] * 3}
    assert kept["left_out"] == {}
    assert kept["quality"] == {"right": 0.5}
    assert told == [f"fake: a row, {FEWEST} rounds"]


def test_who_computes_something_else_is_left_out():
    kept, *_ = measured(["ours", "other"])
    assert kept["ratios"] == {}
    assert "differ from ours by 2" in kept["left_out"]["other"]
    kept, *_ = measured(["ours", "other"], tolerance=2.5)
    assert kept["ratios"] == {"other": [0.1] * 3}


def test_who_cannot_do_it_is_left_out_and_without_ours_the_row_is():
    kept, *_ = measured(["ours", "broken"])
    assert kept["left_out"] == {"broken": "no such model"}
    assert kept["rounds"] == FEWEST
    kept, *_ = measured(["broken", "theirs"])
    assert kept["left_out"] == {"broken": "no such model"}
    assert kept["rounds"] == 0


def test_a_row_that_asks_for_one_round_has_one():
    kept, log, _ = measured(["ours", "theirs"], fewest=1)
    assert kept["rounds"] == 1
    assert sum(method == "turn" for method, *_ in log) == 3  # and no other before


def test_what_the_processor_has_no_instructions_for_is_not_measured():
    kept, log, _ = measured(["ours"], instructions=("amx_bf16", "avx512_bf16"))
    assert kept["left_out"] == {"ours": "this processor has no instructions for this type"}
    assert log == []
    assert measured(["ours"], instructions=("amx_bf16", "avx2"))[0]["rounds"] == FEWEST


def test_memory_is_measured_in_other_processes_than_time():
    kept, log, *_ = measured(["ours", "theirs"], has_memory=True)
    assert kept["bytes"] == {"ours": 1000, "theirs": 1000}
    assert {is_frugal for method, _, is_frugal in log if method == "memory"} == {True}
    assert {is_frugal for method, _, is_frugal in log if method == "turn"} == {False}


def test_memory_that_turns_tell_needs_no_process_of_its_own():
    kept, log, *_ = measured(["telling", "theirs"])
    assert kept["bytes"] == {"telling": 3000}
    assert "memory" not in {method for method, *_ in log}


@pytest.fixture
def process():
    process = Process(sys.executable, FRUGAL)
    yield process
    process.close()


def test_a_process_does_work_again_and_again_and_says_what_went_wrong(process):
    programs = {"nothing": "pass", "failure": "raise SystemExit(3)"}
    for side, kind in (("quick", "nothing"), ("broken", "failure")):
        process.ask("prepare", side=side, module="fresh", work={"kind": kind, "programs": programs})
    assert 0 < process.ask("turn", side="quick", repeats=2)["seconds"] < 60
    with pytest.raises(SideError, match="exit status 3"):
        process.ask("turn", side="broken", repeats=1)
    with pytest.raises(SideError, match="No module named 'benchmarks.sides.nobody'"):
        process.ask("prepare", side="x", module="nobody", work={})
    assert process.ask("versions")["numpy"] == np.__version__
    process.process.kill()
    with pytest.raises(SideError, match="ended with status -9"):
        process.ask("versions")
    assert not process.is_alive


def test_a_process_tells_what_the_work_itself_says_of_its_time_and_memory(tmp_path):
    process = Process(sys.executable, {FOLDER: str(tmp_path)})
    work = {"kind": "quick", "model": "ViT-Ti/16", "photos": 1, "programs": {"quick": "pass"}}
    process.ask("prepare", side="ours", module="command", work=work)
    told = process.ask("turn", side="ours", repeats=1)
    process.close()
    assert told["memory"] > 1_000_000


def test_an_interpreter_that_is_not_there_is_a_sentence():
    with pytest.raises(SideError, match="/nowhere/python does not start: No such file"):
        Process("/nowhere/python", {})


def test_a_worker_takes_the_time_unless_the_work_does_and_sees_the_memory(monkeypatch):
    size = 60_000_000
    toys = {
        "told": Prepared(lambda: Spent(5.0, 1000), lambda: [1.0]),
        "large": Prepared(lambda: np.ones(size, np.uint8).sum() and None),
    }
    monkeypatch.setitem(sys.modules, "benchmarks.sides.toy", SimpleNamespace(prepare=lambda name: toys[name]))
    worker = Worker()
    for name in toys:
        worker.prepare(name, "toy", {"name": name})
    assert worker.answer("told") == [1.0]
    assert worker.answer("large") is None
    assert worker.turn("told", 3) | {"cpu_seconds": 0} == {"seconds": 5, "cpu_seconds": 0, "memory": 1000}
    assert worker.turn("large", 1)["seconds"] < 5
    assert worker.turn("large", 1)["memory"] is None
    assert 0.95 * size < worker.memory("large") < 1.5 * size
