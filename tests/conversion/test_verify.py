from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conversion.proof.frameworks
from conversion.proof.comparison import Comparison
from conversion.proof.framework_process import Request, Run
from conversion.proof.frameworks import FRAMEWORKS
from conversion.proof.verifier import FrameworkRun, verify
from vit_core import ViTConfig, parameters
from vit_core.hub import BUNDLED

Results = dict[str, np.ndarray]

MODULE = importlib.import_module("conversion.proof.verifier")
DIGIT = BUNDLED / "vit-digits/test_images/digit_7_test_0009.png"


@pytest.mark.parametrize("module", ["conversion", "conversion.proof.verifier", "conversion.proof.frameworks"])
def test_importing_loads_no_framework(module: str) -> None:
    script = f"import {module}, sys; print(*sys.modules, sep='\\n')"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    modules = set(run.stdout.splitlines())
    assert module in modules
    assert not modules & {"torch", "tensorflow", "keras", "jax", "flax", "huggingface_hub", "h5py", "msgpack"}


# With made-up results


@pytest.fixture
def results() -> Results:
    """What every framework returns unless told otherwise."""
    random = np.random.default_rng(0)
    names = ["logits", "loss", "hidden_states.0", "hidden_states.1", "attentions.0", "grad/classifier.bias"]
    return {name: random.uniform(-1, 1, (2, 4)).astype("float32") for name in names}


@pytest.fixture
def frameworks(monkeypatch: pytest.MonkeyPatch, results: Results) -> dict[str, Any]:
    """What comes back from the process of each framework; no process is started.

    Maps each framework's name to its results; beside them are "requests", which are noted, "config" and "notes".
    """
    made_up: dict[str, Any] = {name: dict(results) for name in FRAMEWORKS}
    made_up |= {"requests": [], "notes": (), "config": ViTConfig(num_labels=4)}

    def run(request: Request, folder: Path, inputs: Path) -> Run:
        made_up["requests"].append(request)
        file = folder / "results.npz"
        np.savez(file, **made_up[request.framework])
        return Run(file, "image-classification", made_up["config"], 0.5, 0.25, 10**8, made_up["notes"])

    monkeypatch.setattr(MODULE, "run_in_process", run)
    monkeypatch.setattr(conversion.proof.frameworks.importlib.util, "find_spec", lambda _: object())
    return made_up


@pytest.mark.usefixtures("frameworks")
def test_same_results_pass() -> None:
    report = verify("my-model")
    assert report.passed
    assert report.first_difference is None
    assert report.reference == "torch"
    assert {each.framework for each in report.comparisons} == {"tf", "flax"}
    assert len(report.comparisons) == 2 * 6
    assert report.summary == "torch, tf and flax agree: no difference is above 0% of the allowed"


def test_the_summary_tells_the_largest_difference_and_the_share(frameworks: dict[str, Any]) -> None:
    frameworks["flax"]["logits"] = frameworks["torch"]["logits"] + np.float32(2**-18)
    assert verify("my-model").summary == ("torch, tf and flax agree: no difference is above 38% of the allowed")


def test_the_first_layer_that_differs_is_named(frameworks: dict[str, Any]) -> None:
    for name in ("attentions.0", "hidden_states.1", "logits", "loss"):
        frameworks["flax"][name] = frameworks["torch"][name] + np.float32(0.5)
    report = verify("my-model", ["flax", "torch"], tolerance=1e-3)
    assert not report.passed
    assert report.first_difference is not None
    assert (report.first_difference.framework, report.first_difference.name) == ("torch", "attentions.0")
    largest = max(1, np.abs(frameworks["flax"]["attentions.0"]).max())
    assert report.summary == (
        f"torch differs from flax first at layer 0's attention (by 5.0e-01, where {1e-3 * largest:.1e} is allowed)"
    )


def test_every_framework_that_differs_is_named_the_earliest_first(frameworks: dict[str, Any]) -> None:
    frameworks["tf"]["logits"] = np.zeros((2, 5), np.float32)
    frameworks["flax"]["hidden_states.0"] = np.full((2, 4), np.nan, np.float32)
    report = verify("my-model")
    assert [(each.framework, each.where) for each in report.differences] == [
        ("flax", "the embeddings"),
        ("tf", "the logits"),
    ]
    assert report.first_difference == report.differences[0]
    assert "flax differs from torch first at the embeddings (numbers that are not finite)" in report.summary
    assert "tf differs from torch first at the logits (shape (2, 5) instead of (2, 4))" in report.summary


def test_a_reference_that_is_not_finite_fails(frameworks: dict[str, Any]) -> None:
    for name in FRAMEWORKS:
        frameworks[name]["hidden_states.1"] = np.full((2, 4), np.inf, np.float32)
    report = verify("my-model")
    assert not report.passed
    assert report.differences[0].framework == "torch"
    assert report.summary.startswith("torch has numbers that are not finite first at layer 0; tf differs")


def test_one_framework_alone_passes_if_its_numbers_are_finite(frameworks: dict[str, Any]) -> None:
    report = verify("my-model", ["flax"])
    assert report.passed
    assert report.comparisons == ()
    assert report.summary == "only flax ran, so there is nothing to compare with; all its numbers are finite"
    frameworks["flax"]["logits"][0, 0] = np.nan
    report = verify("my-model", ["flax"])
    assert not report.passed
    assert report.summary == "flax has numbers that are not finite first at the logits"


def test_frameworks_that_are_not_installed_are_in_the_report(
    frameworks: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {"jax": object(), "flax": object(), "tensorflow": object()}
    monkeypatch.setattr(conversion.proof.frameworks.importlib.util, "find_spec", installed.get)
    report = verify("my-model")
    assert (report.reference, report.not_installed) == ("tf", ("torch",))
    assert report.summary.startswith("tf and flax agree")
    assert report.summary.endswith("; not installed: torch")
    with pytest.raises(ImportError, match="torch is not installed"):
        verify("my-model", ["torch"])


def test_the_report_is_plain_json_also_of_what_is_not_finite(frameworks: dict[str, Any]) -> None:
    frameworks["flax"]["logits"] = np.full((2, 4), np.nan, np.float32)
    report = verify("my-model", tolerance=0.25)
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["passed"] is False
    assert document["first_difference"]["name"] == "logits"
    assert (document["reference"], document["tolerance"], document["source"]) == ("torch", 0.25, "my-model")
    by_framework = {each["framework"]: each for each in document["comparisons"] if each["name"] == "logits"}
    assert by_framework["tf"]["largest"] == 0
    assert by_framework["tf"]["differs"] is False
    assert by_framework["flax"]["largest"] is None
    assert by_framework["flax"]["differs"] is True
    assert document["runs"][2]["answers"][0][0][1] is None
    assert document["runs"][0]["seconds"] == 0.25
    assert set(document) == {
        "source", "task", "tolerance", "inputs", "not_installed", "runs", "comparisons", "differences", "reference",
        "passed", "first_difference", "summary",
    }  # fmt: skip


def test_answers_are_the_five_likeliest_of_each_input(frameworks: dict[str, Any]) -> None:
    labels = {number: f"class {number}" for number in range(7)}
    frameworks["config"] = ViTConfig(id2label=labels)
    frameworks["torch"]["logits"] = np.log(np.array([[1, 2, 3, 4, 5, 6, 7], [9, 1, 1, 1, 1, 1, 1]], np.float32))
    first, second = verify("my-model", ["torch"]).runs[0].answers
    assert [label for label, _ in first] == ["class 6", "class 5", "class 4", "class 3", "class 2"]
    assert [probability for _, probability in first] == pytest.approx([each / 28 for each in (7, 6, 5, 4, 3)])
    assert second[0] == ("class 0", pytest.approx(0.6))


@pytest.mark.parametrize("config", [ViTConfig(num_labels=1), ViTConfig(num_labels=4, problem_type="regression")])
def test_a_model_that_predicts_numbers_has_no_answers(frameworks: dict[str, Any], config: ViTConfig) -> None:
    frameworks["config"] = config
    assert verify("my-model", ["torch"]).runs[0].answers == ()


def test_what_is_asked_for_reaches_every_framework(frameworks: dict[str, Any]) -> None:
    started: list[str] = []
    options: dict[str, Any] = {"image": Path("a/cat.png"), "gradients": True, "seed": 3, "on_start": started.append}
    report = verify(Path("my-model"), ("torch", "flax", "torch"), **options, revision="v2", image_size=64)
    overrides = {"revision": "v2", "image_size": 64}
    assert frameworks["requests"] == [
        Request(name, "my-model", overrides, str(Path("a/cat.png")), 3, layers=True, gradients=True, repeats=5)
        for name in ("torch", "flax")
    ]
    assert started == ["torch", "flax"]
    assert report.inputs == ("cat.png", "random pixels 1", "random pixels 2")
    assert [run.framework for run in report.runs] == ["torch", "flax"]


def test_what_loading_warns_of_is_told_once(frameworks: dict[str, Any]) -> None:
    frameworks["notes"] = ("pooler.dense.weight is in the checkpoint, but this model has no such tensors.",)
    with pytest.warns(UserWarning, match="this model has no such tensors") as caught:
        verify("my-model")
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("framework", "error", "message"),
    [
        ("torch", ValueError("the file is corrupt."), "the file is corrupt."),
        ("flax", ValueError("no such option."), "flax, unlike what ran before: no such option."),
        ("flax", ChildProcessError("flax was ended by SIGKILL."), "flax was ended by SIGKILL."),
    ],
)
@pytest.mark.usefixtures("frameworks")
def test_what_fails_in_one_framework_only_names_it(
    monkeypatch: pytest.MonkeyPatch, framework: str, error: Exception, message: str
) -> None:
    run = MODULE.run_in_process

    def fail(request: Request, folder: Path, inputs: Path) -> Run:
        if request.framework == framework:
            raise error
        return run(request, folder, inputs)

    monkeypatch.setattr(MODULE, "run_in_process", fail)
    with pytest.raises(type(error)) as caught:
        verify("my-model")
    assert str(caught.value) == message


@pytest.mark.parametrize("tolerance", [-1e-5, math.inf, math.nan])
def test_a_tolerance_that_is_none_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match=r"tolerance is .*; give a number such as 1e-5"):
        verify("my-model", tolerance=tolerance)


def test_nothing_is_left_behind(frameworks: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(MODULE.tempfile, "tempdir", str(tmp_path))
    verify("my-model")
    assert len(frameworks["requests"]) == 3
    assert list(tmp_path.iterdir()) == []


# With the frameworks themselves

INSTALLED = [name for name in FRAMEWORKS if FRAMEWORKS[name].missing is None]


@pytest.mark.skipif(len(INSTALLED) < 2, reason="fewer than two frameworks are installed")
def test_the_bundled_digits_are_the_same_model_in_every_framework() -> None:
    """One test, since loading the frameworks is what takes the time."""
    report = verify("bundled/vit-digits", INSTALLED, image=DIGIT, gradients=True)
    assert report.passed, report.summary
    assert report.task == "image-classification"
    assert [run.framework for run in report.runs] == INSTALLED
    for name in INSTALLED[1:]:
        assert_everything_was_compared([each for each in report.comparisons if each.framework == name])
    assert report.inputs[0] == DIGIT.name
    for run in report.runs:
        assert_digit_was_read(run)
        assert_cost_was_measured(run)


def assert_everything_was_compared(comparisons: list[Comparison]) -> None:
    config = ViTConfig.from_pretrained("bundled/vit-digits")
    expected = {"logits", "loss"} | {f"hidden_states.{number}" for number in range(config.num_hidden_layers + 1)}
    expected |= {f"attentions.{number}" for number in range(config.num_hidden_layers)}
    expected |= {f"grad/{row.name}" for row in parameters(config, "image-classification")}
    names = [each.name for each in comparisons]
    assert set(names) == expected
    assert len(names) == len(expected)
    assert any(each.largest > 0 for each in comparisons)  # frameworks round differently, unless one is run twice


def assert_digit_was_read(run: FrameworkRun) -> None:
    assert [len(answers) for answers in run.answers] == [5, 5, 5]
    assert run.answers[0][0][0] == "7"


def assert_cost_was_measured(run: FrameworkRun) -> None:
    assert run.first_seconds > 0
    assert run.seconds is not None
    assert run.seconds > 0
    assert run.peak_bytes is None or run.peak_bytes > 2**20
