"""A JSON keeps what was measured of a run that ends early, and grows in pieces of one machine and its versions."""

import sys

import pytest

from benchmarks import __main__ as command
from benchmarks import results
from benchmarks.pieces import difference, merged

MACHINE = {"processor": "A processor", "instructions": ["avx2"], "cores": 2}
TITLES = ("ViT-Ti/16, batch 1, float32", "ViT-Ti/16, batch 8, float32", "ViT-S/16, batch 1, float32")


def conditions(**versions):
    return {"date": "2026-11-27", "machine": MACHINE, "versions": {"trivit": {"torch": "2.13.0"}, **versions}}


def kept_row(title, seconds=1.0):
    """A row of PyTorch's in which only ours was there."""
    quartiles, nothing = {"trivit": [seconds] * 3}, {}
    return {
        **{"subject": "pytorch", "title": title, "work": {}, "rounds": 3, "ours": "trivit", "seconds": quartiles},
        **{"ratios": nothing, "cpu_ratios": nothing, "bytes": nothing, "left_out": nothing},
    }


def kept(*rows, minutes=2.0, others=0.0, **versions):
    return {**conditions(**versions), "minutes": minutes, "others": others, "rows": list(rows)}


def test_rows_of_both_runs_are_in_the_order_of_the_table_and_the_later_ones_replace_the_earlier():
    first, second, third = TITLES
    before = kept(kept_row(third), kept_row(first), kept_row("no row of any table"), minutes=3, others=0.1)
    both = merged(before, kept(kept_row(second), kept_row(first, 2.0), minutes=1, others=0.5, hub={"keras": "3"}))
    assert [(row["title"], row["seconds"]["trivit"][1]) for row in both["rows"]] == [
        *((first, 2.0), (second, 1.0), (third, 1.0)),
    ]
    assert both["minutes"] == 3  # two thirds of the earlier ones are left
    assert both["others"] == pytest.approx(0.233)
    assert both["versions"] == {"hub": {"keras": "3"}, "trivit": {"torch": "2.13.0"}}


def test_another_machine_or_version_is_a_difference_and_another_environment_is_none():
    before = kept()
    assert difference(before, conditions(hub={"keras": "3"})) == ""
    other = {**conditions(), "machine": {**MACHINE, "cores": 4}}
    assert difference(before, other) == "cores was 2 and is 4"
    assert difference(before, conditions(trivit={"torch": "2.14.0"})) == "torch was 2.13.0 and is 2.14.0 in trivit"
    assert difference(before, conditions(trivit={})) == "torch was 2.13.0 and is not there in trivit"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Calls the command, whose rows are these, and which somebody interrupts if they end in None; gives the file."""
    output = tmp_path / "speed.json"

    def call(rows, *arguments, here=None):
        def pretended(*_):
            for count in range(1, 1 + len(rows)):
                if rows[count - 1] is None:
                    raise KeyboardInterrupt
                yield {"minutes": 1.0, "others": 0.0, "rows": rows[:count]}

        monkeypatch.setattr(command, "conditions", lambda *_: here or conditions())
        monkeypatch.setattr(command, "run", pretended)
        monkeypatch.setattr(command, "show", lambda file: None)
        monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", *arguments, "--output", str(output)])
        command.main()
        return [row["title"] for row in results.read(output)["rows"]]

    call.output = output
    return call


def test_an_interrupted_run_keeps_its_rows(run, capsys):
    with pytest.raises(SystemExit):
        run([kept_row(TITLES[0]), None], "pytorch")
    assert [row["title"] for row in results.read(run.output)["rows"]] == [TITLES[0]]
    assert "holds the rows until here" in capsys.readouterr().err


def test_some_subjects_are_added_to_a_file_and_all_begin_it_anew(run):
    assert run([kept_row(TITLES[0])], "pytorch") == [TITLES[0]]
    assert run([kept_row(TITLES[2])], "pytorch") == [TITLES[0], TITLES[2]]
    assert run([kept_row(TITLES[1])]) == [TITLES[1]]


def test_a_piece_under_other_conditions_is_refused_before_anything_is_measured(run, capsys):
    run([kept_row(TITLES[0])], "pytorch")
    with pytest.raises(SystemExit):
        run([kept_row(TITLES[1])], "pytorch", here=conditions(trivit={"torch": "2.14.0"}))
    assert "torch was 2.13.0 and is 2.14.0 in trivit" in capsys.readouterr().err
    assert [row["title"] for row in results.read(run.output)["rows"]] == [TITLES[0]]
