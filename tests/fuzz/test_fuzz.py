"""A little of `nox -s fuzz` for each target, the findings of before, and that fuzzing finds what it looks for."""

import dataclasses
import itertools
import os
import signal
import time

import corpus
import fuzz
import pytest
from targets import TARGETS, Spoken, tried

INPUTS = 30


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """A busy machine is no finding."""
    monkeypatch.setattr(fuzz, "MOST_SECONDS", 6)


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_are_read_or_refused_in_a_sentence(name, tmp_path):
    inputs = 2 if TARGETS[name].with_library else INPUTS
    counts = fuzz.Fuzzing(name, tmp_path, seed=1, inputs=inputs).run()
    assert counts.inputs == inputs
    assert not [path.with_suffix(".txt").read_text() for path in counts.findings]


@pytest.mark.parametrize("name", [name for name in TARGETS if corpus.kept(name)])
def test_what_was_found_before_stays_repaired(name):
    found = fuzz.examine(TARGETS[name], corpus.kept(name).values())
    assert not found


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_files_to_start_from_are_read_whole_or_refused(target):
    content = next(itertools.chain(target.seeds(), corpus.kept("torch-script").values()))
    assert len(content) < 1_000_000


def spend_time(path):
    end = time.process_time() + 0.3
    return tried(lambda: sum(1 for _ in iter(lambda: time.process_time() < end, False)))


def take_memory(path):
    return len(b"\1" * 400 * 2**20)


def say_something(path):
    raise Spoken("\x1b[2J")


def crash(path):
    if path.read_bytes() == b"it":
        os.kill(os.getpid(), signal.SIGSEGV)


WRONG = {
    "slow": spend_time,
    "memory": take_memory,
    "KeyError at test_fuzz.py:<lambda>": lambda path: {}["name"],
    "Spoken at test_fuzz.py:say_something": say_something,
    "ends the process (SIGSEGV)": crash,
}


@pytest.mark.parametrize("sign", WRONG)
def test_what_is_wrong_is_found_and_kept_with_its_bytes(sign, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "MOST_SECONDS", 0.2 if sign == "slow" else 60)
    monkeypatch.setitem(
        fuzz.TARGETS,
        "wrong",
        dataclasses.replace(
            TARGETS["card"], seeds=lambda: iter([b"all"]), open=WRONG[sign], mutate=lambda content, draw: b"it"
        ),
    )
    counts = fuzz.Fuzzing("wrong", tmp_path, seed=1, inputs=1).run()
    (path,) = counts.findings
    assert path.read_bytes() == b"it"
    assert path.with_suffix(".txt").read_text().startswith(sign)
    assert f"python tests/fuzz/fuzz.py wrong {path}" in path.with_suffix(".txt").read_text()
