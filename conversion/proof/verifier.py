"""Proof that a checkpoint is the same model in every framework: all run it on the same inputs, and are compared."""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conversion.proof.answers import probabilities, top_answers
from conversion.proof.comparison import (
    TOLERANCE,
    Comparison,
    check_finite,
    compare_results,
    first_differences,
    in_words,
)
from conversion.proof.framework_process import Request, Run, run_in_process
from conversion.proof.frameworks import FRAMEWORKS, installed_frameworks
from conversion.proof.inputs import input_names
from vit_core import PretrainedConfig

ANSWERS = 5
REPEATS = 5  # of the forward pass, after the first

Answers = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class FrameworkRun:
    """How one framework ran the checkpoint, alone in a process and on the CPU.

    Attributes:
        framework: its name.
        first_seconds: the first forward pass of the batch; JAX compiles in it.
        seconds: the median of the later ones, or None.
        peak_bytes: the largest memory of the process up to then, framework and weights included; None where the
            system does not say.
        answers: of a classifier, for each input the likeliest (label, probability), at most five.
    """

    framework: str
    first_seconds: float
    seconds: float | None
    peak_bytes: int | None
    answers: tuple[Answers, ...]


@dataclass(frozen=True)
class Difference:
    """Where a framework first differs.

    Attributes:
        framework: which one.
        name: the result, as in `Comparison`.
        where: what to call it, such as "layer 3's attention".
        reason: what is wrong with it.
    """

    framework: str
    name: str
    where: str
    reason: str


@dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes:
        source: the checkpoint.
        task: which model it is: "image-classification", "masked-image-modeling" or "model".
        tolerance: see `verify`.
        inputs: what the images of the batch were.
        not_installed: frameworks that were asked for and are not there.
        runs: how each framework ran; the first is the reference.
        comparisons: every result of the others beside the reference's, and results of the reference that are not
            finite, in the order in which an image passes through the model.
        differences: where each framework that differs does so first; the earliest place first.
    """

    source: str
    task: str
    tolerance: float
    inputs: tuple[str, ...]
    not_installed: tuple[str, ...]
    runs: tuple[FrameworkRun, ...]
    comparisons: tuple[Comparison, ...]
    differences: tuple[Difference, ...]

    @property
    def reference(self) -> str:
        """The framework that the others are compared with."""
        return self.runs[0].framework

    @property
    def passed(self) -> bool:
        """Whether nothing differs and every number is finite."""
        return not self.differences

    @property
    def first_difference(self) -> Difference | None:
        """The first place on an image's way through the model at which any framework differs."""
        return self.differences[0] if self.differences else None

    @property
    def summary(self) -> str:
        """The outcome in one sentence or a few."""
        frameworks = [run.framework for run in self.runs]
        if self.differences:
            outcome = "; ".join(map(self._sentence, self.differences))
        elif len(frameworks) == 1:
            outcome = f"only {frameworks[0]} ran, so there is nothing to compare with; all its numbers are finite"
        else:
            share = max((comparison.scaled for comparison in self.comparisons), default=0.0)
            outcome = f"{_listed(frameworks)} agree: no difference is above {share:.0%} of the allowed"
        absent = f"; not installed: {', '.join(self.not_installed)}" if self.not_installed else ""
        return f"{outcome}{absent}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values: numbers that are not finite are None."""
        first = self.first_difference
        described = {
            **dataclasses.asdict(self),
            "comparisons": [{**dataclasses.asdict(each), "differs": each.differs} for each in self.comparisons],
            "reference": self.reference,
            "passed": self.passed,
            "first_difference": None if first is None else dataclasses.asdict(first),
            "summary": self.summary,
        }
        return _plain(described)

    def _sentence(self, difference: Difference) -> str:
        if difference.framework == self.reference:
            return f"{difference.framework} has {difference.reason} first at {difference.where}"
        return f"{difference.framework} differs from {self.reference} first at {difference.where} ({difference.reason})"


def verify(
    source: str | os.PathLike[str],
    frameworks: Iterable[str] = tuple(FRAMEWORKS),
    *,
    image: str | os.PathLike[str] | None = None,
    gradients: bool = False,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    on_start: Callable[[str], None] | None = None,
    **config_overrides: Any,
) -> Report:
    """Run a checkpoint in every framework on the same inputs, and compare all that comes out.

    Each framework runs in a process of its own, one after the other, in float32 and on the CPU. Logits (of a bare
    model the last hidden state and the pooler's output, of masked image modeling the reconstruction) come from a
    forward pass as users run it; hidden states and attention maps from a second one that asks for them.

    Args:
        source: what `from_pretrained` takes: a folder, a Hub id, a checkpoint that ships with the package.
        frameworks: among "torch", "tf" and "flax". Those that are not installed are left out and named in the report;
            the first that is installed is the reference.
        image: an image file to try, preprocessed as the checkpoint says, before the random pixels.
        gradients: whether to compare the gradient of the loss for every parameter too. A model that has no loss of its
            own gets a randomly weighted sum of its results for one.
        tolerance: how far results may be apart, at most: an absolute difference of numbers up to one. Rounding grows
            with the numbers, so results whose largest magnitude is above one may differ by that many times as much.
            Gradients are measured by their own largest magnitude alone: see `comparison.compare_results`.
        seed: of the random pixels, labels and masks.
        on_start: is called with the name of each framework before it runs.
        **config_overrides: fields of the config to set, and other options of `from_pretrained` such as `revision`;
            plain JSON values.

    Returns:
        The report. Warns of what `from_pretrained` warned of in the reference.

    Raises:
        ImportError: none of the frameworks is installed.
        OSError: there is no such checkpoint or image, or a framework's process was ended.
        TypeError: an override is no option, or has no JSON form.
        ValueError: the checkpoint is corrupt, or lacks weights, which would be random and differ in every framework;
            a framework is unknown; the tolerance is no positive number.
    """
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance is {tolerance!r}; give a number such as 1e-5.")
    asked = list(frameworks)
    installed = installed_frameworks(asked)
    picture = None if image is None else os.fspath(image)
    request = Request(
        "", os.fspath(source), config_overrides, picture, seed, layers=True, gradients=gradients, repeats=REPEATS
    )
    with tempfile.TemporaryDirectory(prefix="trivit-") as folder:
        runs: list[FrameworkRun] = []
        comparisons: list[Comparison] = []
        reference: Run | None = None
        for name in installed:
            if on_start is not None:
                on_start(name)
            run = _run(name, request, Path(folder), is_first=reference is None)
            if reference is None:
                reference = run
                _warn(run.notes)
            runs.append(_described(name, run))
            comparisons += _compared(name, run, reference, tolerance)
            if run is not reference:
                run.results.unlink()  # with gradients, as large as the checkpoint
    assert reference is not None
    return Report(
        source=request.source,
        task=reference.task,
        tolerance=tolerance,
        inputs=input_names(picture),
        not_installed=tuple(name for name in dict.fromkeys(asked) if name not in installed),
        runs=tuple(runs),
        comparisons=tuple(comparisons),
        differences=tuple(map(_difference, first_differences(comparisons))),
    )


def _run(name: str, request: Request, folder: Path, is_first: bool) -> Run:
    own_folder = folder / name
    own_folder.mkdir()
    try:
        return run_in_process(dataclasses.replace(request, framework=name), own_folder, folder / "inputs.npz")
    except (OSError, ValueError, TypeError, ImportError) as error:
        if is_first or isinstance(error, ChildProcessError):  # whose message names the framework
            raise
        raise type(error)(f"{name}, unlike what ran before: {error}") from error


def _compared(name: str, run: Run, reference: Run, tolerance: float) -> list[Comparison]:
    with np.load(reference.results) as expected:
        if run is reference:
            return check_finite(name, expected)
        with np.load(run.results) as found:
            return compare_results(name, found, expected, tolerance)


def _warn(notes: Iterable[str]) -> None:
    for note in notes:
        warnings.warn(note, stacklevel=3)


def _described(name: str, run: Run) -> FrameworkRun:
    with np.load(run.results) as results:
        is_classifier = "classification" in run.task and "logits" in results
        answers = _answers(results["logits"], run.config) if is_classifier else ()
    return FrameworkRun(name, run.first_seconds, run.seconds, run.peak_bytes, answers)


def _answers(logits: np.ndarray, config: PretrainedConfig) -> tuple[Answers, ...]:
    """The likeliest classes of each image; none where the model predicts numbers."""
    if config.num_labels < 2 or config.problem_type == "regression":
        return ()
    scores = probabilities(logits, config.problem_type)
    return tuple(tuple(top_answers(row, config.id2label, ANSWERS)) for row in scores)


def _difference(comparison: Comparison) -> Difference:
    reason = comparison.problem or f"by {comparison.largest:.1e}, where {comparison.allowed:.1e} is allowed"
    return Difference(comparison.framework, comparison.name, in_words(comparison.name), reason)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _listed(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
