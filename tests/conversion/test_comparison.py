"""What counts as a difference, what it is called, and where it starts: on made-up results, without a framework."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from conversion.proof.comparison import (
    Comparison,
    check_finite,
    compare_results,
    first_differences,
    group_of,
    in_order_of_travel,
    in_words,
    part_of,
    worst_of_groups,
)

Results = dict[str, np.ndarray]

#: The way of an image through a classifier of two layers, and the way of the gradient back.
TRAVEL = [
    "hidden_states.0",
    "attentions.0",
    "hidden_states.1",
    "attentions.1",
    "hidden_states.2",
    "logits",
    "loss",
    "grad/classifier.bias",
    "grad/vit.encoder.layer.0.attention.attention.key.bias",
    "grad/vit.embeddings.cls_token",
]


@pytest.fixture
def results() -> Results:
    """Results of magnitude one, in the order in which a process writes them: gradients as in the table."""
    random = np.random.default_rng(0)
    first = [name for name in TRAVEL if not name.startswith("grad/")]
    gradients = [name for name in reversed(TRAVEL) if name.startswith("grad/")]
    return {name: random.uniform(-1, 1, (2, 3)).astype("float32") for name in [*sorted(first), *gradients]}


def compared(found: Any, reference: Any, name: str = "logits", **options: Any) -> Comparison:
    """The comparison of two arrays."""
    found, reference = ({name: np.array(each, np.float32)} for each in (found, reference))
    (comparison,) = compare_results("flax", found, reference, **options)
    return comparison


def test_results_that_are_the_same_do_not_differ(results: Results) -> None:
    comparisons = compare_results("flax", results, results)
    assert [(each.framework, each.largest, each.mean) for each in comparisons] == [("flax", 0, 0)] * len(TRAVEL)
    assert first_differences(comparisons) == []


def test_comparisons_follow_the_image_and_then_the_gradient_back(results: Results) -> None:
    assert [each.name for each in compare_results("flax", results, results)] == TRAVEL


def test_layers_are_in_the_order_of_their_numbers() -> None:
    names = ["hidden_states.10", "attentions.9", "hidden_states.9", "hidden_states.2", "attentions.10"]
    assert in_order_of_travel(names) == [
        "hidden_states.2", "hidden_states.9", "attentions.9", "hidden_states.10", "attentions.10",
    ]  # fmt: skip


@pytest.mark.parametrize("place", range(len(TRAVEL)))
def test_the_first_result_that_was_changed_is_named(results: Results, place: int) -> None:
    changed = {name: array + (np.float32(0.1) if name in TRAVEL[place:] else 0) for name, array in results.items()}
    (first,) = first_differences(compare_results("flax", changed, results))
    assert first.name == TRAVEL[place]


def test_the_framework_that_differs_earlier_comes_first(results: Results) -> None:
    comparisons = compare_results("tf", results | {"logits": results["logits"] + 1}, results)
    comparisons += compare_results("flax", results | {"attentions.1": results["attentions.1"] + 1}, results)
    found = [(each.framework, each.name) for each in first_differences(comparisons)]
    assert found == [("flax", "attentions.1"), ("tf", "logits")]


def test_largest_and_mean_are_absolute_differences() -> None:
    comparison = compared([[0.5, -0.25], [0.0, 1.0]], [[0.5, 0.25], [-0.25, 1.0]])
    assert (comparison.largest, comparison.mean) == (0.5, 0.1875)


@pytest.mark.parametrize(
    ("name", "reference", "difference", "differs"),
    [
        ("logits", [0.001, 0.0], 0.99e-5, False),  # numbers below one: 1e-5 itself
        ("logits", [0.001, 0.0], 1.01e-5, True),
        ("hidden_states.3", [-64.0, 0.0], 64 * 0.99e-5, False),  # numbers above one: in proportion to the largest
        ("hidden_states.3", [-64.0, 0.0], 64 * 1.01e-5, True),
        ("grad/classifier.bias", [0.5**10, 0.0], 0.5**10 * 0.99e-5, False),  # gradients: always in proportion
        ("grad/classifier.bias", [0.5**10, 0.0], 0.5**10 * 1.01e-5, True),
        ("grad/classifier.bias", [0.0, 0.0], 0.0, False),
        ("grad/classifier.bias", [0.0, 0.0], 1e-20, True),
    ],
)
def test_tolerance_is_for_numbers_around_one(
    name: str, reference: list[float], difference: float, differs: bool
) -> None:
    comparison = compared([reference[0], difference], reference, name)
    assert comparison.differs == differs
    assert (comparison.scaled > 1) == differs


@pytest.mark.parametrize(("share", "differs"), [(0.99, False), (1.01, True)])
def test_key_bias_gradients_are_measured_by_a_hundredth_of_the_largest_gradient(share: float, differs: bool) -> None:
    name = "grad/vit.encoder.layer.0.attention.attention.key.bias"
    reference = {name: np.zeros(3, np.float32), "grad/classifier.bias": np.array([-8.0, 1.0], np.float32)}
    found = reference | {name: np.full(3, share * 1e-5 * 0.08, np.float32)}
    assert [each.differs for each in compare_results("flax", found, reference)] == [False, differs]


def test_tolerance_can_be_chosen() -> None:
    assert compared([1.0], [0.5], tolerance=0.4).differs
    assert not compared([1.0], [0.5], tolerance=0.5).differs
    assert not compared([0.5], [0.5], tolerance=0.0).differs
    assert compared([0.5], np.nextafter(np.float32(0.5), np.float32(1)), tolerance=0.0).differs


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_a_difference_wherever_it_is(number: float) -> None:
    for found, reference in ([number], [1.0]), ([1.0], [number]), ([number], [number]):
        comparison = compared(found, reference)
        assert comparison.differs
        assert comparison.problem is not None
        assert "not finite" in comparison.problem
        assert comparison.scaled == math.inf


def test_results_of_the_reference_that_are_not_finite_are_found(results: Results) -> None:
    assert check_finite("torch", results) == []
    results["logits"][0, 1], results["attentions.1"][1, 2] = math.inf, math.nan
    assert [(each.framework, each.name) for each in check_finite("torch", results)] == [
        ("torch", "attentions.1"),
        ("torch", "logits"),
    ]


def test_another_shape_is_a_difference_even_if_the_numbers_could_be_broadcast() -> None:
    comparison = compared([[1.0, 1.0]], [1.0, 1.0])
    assert comparison.differs
    assert comparison.problem == "shape (1, 2) instead of (2,)"


def test_results_that_one_side_lacks_are_differences(results: Results) -> None:
    found = {name: array for name, array in results.items() if name != "attentions.1"} | {"pooler_output": np.ones(2)}
    problems = {each.name: each.problem for each in compare_results("flax", found, results) if each.differs}
    assert problems == {
        "attentions.1": "no such result",
        "pooler_output": "a result that the reference does not have",
    }


def test_results_of_no_entries_are_the_same() -> None:
    assert not compared(np.zeros((2, 0)), np.zeros((2, 0))).differs


@pytest.mark.parametrize(
    ("name", "words", "group", "part"),
    [
        ("hidden_states.0", "the embeddings", "hidden states", "embeddings"),
        ("hidden_states.4", "layer 3", "hidden states", "layer 3"),
        ("attentions.11", "layer 11's attention", "attention maps", "layer 11"),
        ("logits", "the logits", "logits", ""),
        ("loss", "the loss", "loss", ""),
        ("grad/vit.embeddings.cls_token", "the gradient of vit.embeddings.cls_token", "gradients", "embeddings"),
        ("grad/encoder.layer.7.output.dense.bias", "the gradient of encoder.layer.7.output.dense.bias", "gradients",
         "layer 7"),
        ("grad/decoder.0.weight", "the gradient of decoder.0.weight", "gradients", "decoder"),
    ],
)  # fmt: skip
def test_results_have_names_for_people(name: str, words: str, group: str, part: str) -> None:
    assert (in_words(name), group_of(name), part_of(name)) == (words, group, part)


def test_the_worst_of_a_group_is_worst_in_proportion_to_what_is_allowed() -> None:
    comparisons = [
        Comparison("tf", "hidden_states.1", 2e-6, 0.0, 1e-5),
        Comparison("tf", "hidden_states.2", 9e-6, 0.0, 1e-4),
        Comparison("flax", "hidden_states.1", 0.0, 0.0, 1e-5),
        Comparison("flax", "hidden_states.2", math.nan, math.nan, math.nan, "shape"),
        Comparison("tf", "logits", 1e-6, 0.0, 1e-5),
    ]
    found = {group: {each: worst.name for each, worst in row.items()} for group, row in
             worst_of_groups(comparisons).items()}  # fmt: skip
    assert found == {
        "hidden states": {"tf": "hidden_states.1", "flax": "hidden_states.2"},
        "logits": {"tf": "logits"},
    }
