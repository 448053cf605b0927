"""Rows have sides that exist, operations are those of the papers, and minutes are shared."""

import importlib.util

import pytest

from benchmarks.arithmetic import memory, operations
from benchmarks.budget import FEWEST, MOST, Budget
from benchmarks.environments import ENVIRONMENTS
from benchmarks.rows import LENGTHS
from benchmarks.subjects import SUBJECTS, chosen, subject_of

ALL = (*SUBJECTS, "card")


@pytest.mark.parametrize("name", ALL)
def test_every_side_of_a_subject_can_be_started_and_every_row_names_sides(name):
    subject = subject_of(name)
    for side in subject.sides.values():
        assert importlib.util.find_spec(f"benchmarks.sides.{side.module.split('.')[0]}")
        assert side.environment in ENVIRONMENTS
        assert not side.within or subject.sides[side.within].environment == side.environment
    for row in subject.rows:
        assert set(row.everybody) <= subject.sides.keys()
    titles = [row.title for row in subject.rows]
    assert len(set(titles)) == len(titles)


FRAMEWORKS = ["pytorch", "keras", "flax"]
WORDS = (
    *("ViT-Ti", "ViT-S", "ViT-B", "ViT-L"),
    *("batch 1,", "batch 8,", "batch 32,"),
    *("float32", "bfloat16", "int8", "training"),
)


def titles(subjects, length):
    return {row.title for _, rows in chosen(subjects, length) for row in rows}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_longer_runs_have_the_rows_of_shorter_ones_and_the_longest_every_size_batch_and_type(name):
    runs = [titles([name], length) for length in LENGTHS]
    assert runs[0] < runs[1] < runs[2]
    for word in WORDS if name != "flax" else (word for word in WORDS if word != "int8"):
        assert any(word in title for title in runs[2]), word


def test_a_whole_run_has_every_size_batch_and_type_in_some_framework():
    for word in WORDS:
        assert any(word in title for title in titles(FRAMEWORKS, "whole")), word


def test_rows_are_chosen_by_all_words():
    ((_, rows),) = chosen(["pytorch"], "whole", ["ViT-S", "batch 8", "training"])
    assert [row.title for row in rows] == ["ViT-S/16, batch 8, float32, training step"]
    assert chosen(["pytorch"], "whole", ["ViT-H"]) == []


@pytest.mark.parametrize(("name", "giga"), [("ViT-Ti/16", 1.3), ("ViT-S/16", 4.6), ("ViT-B/16", 17.6)])
def test_operations_are_those_of_deits_paper(name, giga):  # whose FLOPs are multiplications with an addition
    assert round(operations(name, 3) / 2 / 3 / 1e9, 1) == giga


def test_memory_grows_with_tokens_and_batch_and_not_with_layers():
    once = memory("ViT-S/16", 1)
    assert once == 4 * 197 * (384 + 2 * 1536)  # the tokens, and the MLP before and after its activation
    assert memory("ViT-S/16", 8, layers=24) == 8 * once
    assert memory("ViT-S/16", 1, image=448) == pytest.approx(4 * once, rel=0.01)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def rounds_of(budget, clock, seconds):
    budget.begin_row()
    done = 0
    while budget.has_time_for_round(done, seconds):
        clock.now += seconds
        done += 1
    return done


def test_rows_share_the_time_by_their_weights():
    clock = Clock()
    budget = Budget(40, [1, 3], clock=clock)
    assert [rounds_of(budget, clock, 1), rounds_of(budget, clock, 1)] == [10, 30]


def test_what_a_row_leaves_or_takes_too_much_the_next_has_or_lacks():
    clock = Clock()
    budget = Budget(90, [1, 1, 1], clock=clock)
    assert rounds_of(budget, clock, 10) == FEWEST  # 50 seconds instead of 30
    assert rounds_of(budget, clock, 0.1) == MOST  # 4 of 20
    assert rounds_of(budget, clock, 1) in (35, 36)  # tenths do not add up


@pytest.mark.parametrize("fewest", [3, FEWEST])
def test_a_late_row_has_the_fewest_rounds_all_the_same(fewest):
    clock = Clock()
    budget = Budget(1, [1, 1], fewest, clock)
    clock.now = 100
    assert rounds_of(budget, clock, 5) == fewest
