"""Two frameworks' results for the same model and inputs: how far apart they are, and where that starts.

Results are arrays by name: "logits", "last_hidden_state", "pooler_output", "reconstruction", "loss"; "hidden_states.0",
which are the embeddings, "hidden_states.1", which layer 0 made of them, and so on; "attentions.0" for layer 0; and
"grad/NAME" for the gradient of a parameter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conversion.canonical import without_layer
from vit_core.families import FAMILIES
from vit_core.parameters import STACKS

TOLERANCE = 1e-5

GRADIENT_PREFIX = "grad/"
#: Softmax does not change when the same is added to all scores, so a key's bias has no gradient but rounding.
ROUNDING_ONLY, ROUNDING_SHARE = "key.bias", 0.01

NOT_FINITE = "numbers that are not finite"

#: What follows the layers, in the order in which an image passes: the name, what to call it, and its row in a table.
RESULTS = {
    "last_hidden_state": ("the last hidden state", "last state"),
    "pooler_output": ("the pooler's output", "pooler output"),
    "mask": ("the mask", "mask"),
    "ids_restore": ("the places of the patches", "places"),
    "logits": ("the logits", "logits"),
    "cls_logits": ("the class token's logits", "class logits"),
    "distillation_logits": ("the distillation token's logits", "distillation"),
    "reconstruction": ("the reconstruction", "reconstruction"),
    "loss": ("the loss", "loss"),
}
HIDDEN_STATES, ATTENTION_MAPS, GRADIENTS = "hidden states", "attention maps", "gradients"


@dataclass(frozen=True)
class Comparison:
    """One result of a framework beside the reference's.

    Attributes:
        framework: whose result.
        name: which result.
        largest: the largest absolute difference; NaN where there is none to speak of.
        mean: the mean absolute difference; likewise.
        allowed: how large a difference may be.
        problem: what is wrong other than a difference, if anything.
    """

    framework: str
    name: str
    largest: float
    mean: float
    allowed: float
    problem: str | None = None

    @property
    def differs(self) -> bool:
        """Whether there is a problem, or the difference is larger than allowed."""
        return self.problem is not None or not self.largest <= self.allowed

    @property
    def scaled(self) -> float:
        """The largest difference as a share of what is allowed; infinite where there is a problem."""
        if self.problem is not None or self.largest > self.allowed == 0:
            return float("inf")
        return self.largest / self.allowed if self.largest else 0.0


def compare_results(
    framework: str, found: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], tolerance: float = TOLERANCE
) -> list[Comparison]:
    """Compare each result with the reference's.

    Args:
        framework: whose results these are.
        found: its results; one is taken at a time, so that a lazy mapping will do.
        reference: those of the reference.
        tolerance: what may differ, for numbers around one. Rounding grows with the numbers that are added up, so a
            result may differ by this times its largest magnitude in the reference if that is above one. The gradient
            of a parameter may differ by this times its own largest magnitude, however small; that of a key's bias,
            which is nothing but rounding, by this times a hundredth of the largest of all gradients.

    Returns:
        A comparison for each name of both, in the order in which an image passes through the model.
    """
    largest_gradient = max((_largest(reference[name]) for name in reference if _is_gradient(name)), default=0.0)
    names = list(dict.fromkeys([*reference, *found]))
    return [
        _compare(framework, name, found.get(name), reference.get(name), tolerance, largest_gradient)
        for name in in_order_of_travel(names)
    ]


def check_finite(framework: str, results: Mapping[str, np.ndarray]) -> list[Comparison]:
    """A comparison with a problem for each result that is not finite, in the order in which an image passes."""
    return [
        Comparison(framework, name, np.nan, np.nan, np.nan, NOT_FINITE)
        for name in in_order_of_travel(results)
        if not np.isfinite(results[name]).all()
    ]


def in_order_of_travel(names: Iterable[str]) -> list[str]:
    """Sort the names of results: embeddings, layer 0's attention, layer 0, ..., the head, the loss, and the gradients.

    Gradients travel back, so that those of the last parameters come first.
    """
    names = list(names)
    places = {name: place for place, name in enumerate(names)}
    return sorted(names, key=lambda name: _order(name, places[name]))


def in_words(name: str) -> str:
    """What to call a result in a sentence, such as "layer 3's attention"."""
    several, index = _split(name)
    if several == "attentions":
        return f"layer {index}'s attention"
    if several == "hidden_states":
        return f"layer {index - 1}" if index else "the embeddings"
    if _is_gradient(name):
        return f"the gradient of {name.removeprefix(GRADIENT_PREFIX)}"
    return RESULTS[name][0] if name in RESULTS else name


def group_of(name: str) -> str:
    """The results that it belongs to, such as "attention maps"."""
    several, _ = _split(name)
    if several:
        return ATTENTION_MAPS if several == "attentions" else HIDDEN_STATES
    if _is_gradient(name):
        return GRADIENTS
    return RESULTS[name][1] if name in RESULTS else name


def part_of(name: str) -> str:
    """The part of the model that it comes from, such as "layer 3"; nothing for a result of the whole model."""
    several, index = _split(name)
    if several:
        layer = index if several == "attentions" else index - 1
        return "embeddings" if layer < 0 else f"layer {layer}"
    if not _is_gradient(name):
        return ""
    parameter = name.removeprefix(GRADIENT_PREFIX)
    for prefix in {family.prefix for family in FAMILIES.values()}:
        parameter = parameter.removeprefix(prefix)
    template, number = without_layer(parameter)
    if not number:
        return parameter.split(".")[0]
    return f"layer {number}" if template.startswith(STACKS["encoder"]) else f"decoder {number}"


def first_differences(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """For each framework that differs, the first comparison that does; the earliest of them first."""
    first: dict[str, Comparison] = {}
    for comparison in comparisons:
        if comparison.differs:
            first.setdefault(comparison.framework, comparison)
    order = {name: place for place, name in enumerate(in_order_of_travel([each.name for each in comparisons]))}
    return sorted(first.values(), key=lambda each: order[each.name])


def worst_of_groups(comparisons: Iterable[Comparison]) -> dict[str, dict[str, Comparison]]:
    """For each group of results and each framework, the comparison that is worst in proportion to what is allowed."""
    worst: dict[str, dict[str, Comparison]] = {}
    for comparison in comparisons:
        group = worst.setdefault(group_of(comparison.name), {})
        if comparison.framework not in group or comparison.scaled > group[comparison.framework].scaled:
            group[comparison.framework] = comparison
    return worst


def _compare(
    framework: str, name: str, found: Any, reference: Any, tolerance: float, largest_gradient: float
) -> Comparison:
    if found is None or reference is None:
        problem = "no such result" if found is None else "a result that the reference does not have"
    elif found.shape != reference.shape:
        problem = f"shape {found.shape} instead of {reference.shape}"
    elif not (np.isfinite(found).all() and np.isfinite(reference).all()):
        problem = NOT_FINITE if not np.isfinite(found).all() else f"a reference with {NOT_FINITE}"
    else:
        difference = np.abs(np.subtract(found, reference, dtype=np.float64))
        allowed = tolerance * _scale(name, reference, largest_gradient)
        if not difference.size:
            return Comparison(framework, name, 0.0, 0.0, allowed)
        return Comparison(framework, name, float(difference.max()), float(difference.mean()), allowed)
    return Comparison(framework, name, np.nan, np.nan, np.nan, problem)


def _scale(name: str, reference: np.ndarray, largest_gradient: float) -> float:
    if not _is_gradient(name):
        return max(1.0, _largest(reference))
    return ROUNDING_SHARE * largest_gradient if name.endswith(ROUNDING_ONLY) else _largest(reference)


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array).max(initial=0.0))


def _is_gradient(name: str) -> bool:
    return name.startswith(GRADIENT_PREFIX)


def _split(name: str) -> tuple[str, int]:
    """("attentions", 3) for "attentions.3"; ("", 0) for what is not of this form."""
    match = re.fullmatch(r"(hidden_states|attentions)\.(\d+)", name)
    return (match[1], int(match[2])) if match else ("", 0)


def _order(name: str, place: int) -> tuple[int, ...]:
    several, index = _split(name)
    if several == "attentions":
        return (0, index, 0)
    if several == "hidden_states":
        return (0, index - 1, 1)
    if _is_gradient(name):
        return (2, -place)
    return (1, list(RESULTS).index(name) if name in RESULTS else len(RESULTS))
