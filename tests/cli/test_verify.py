from __future__ import annotations

import dataclasses
import importlib
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vit_cli.verify
from conversion.proof.comparison import NOT_FINITE, Comparison
from conversion.proof.framework_process import Request, Run
from conversion.proof.frameworks import FRAMEWORKS
from conversion.proof.verifier import Difference, FrameworkRun, Report

Command = Callable[..., Any]

ANSWERS = ((("seven", 0.9), ("eight", 0.05)), (("one", 0.5), ("two", 0.25)))
FLAX_ANSWERS = ((("seven", 0.9), ("nine", 0.04)), (("one", 0.5), ("two", 0.25)))
RUNS = (
    FrameworkRun("torch", 0.0123, 0.0045, 250_000_000, ANSWERS),
    FrameworkRun("tf", 1.5, 0.03, 1_500_000_000, ANSWERS),
    FrameworkRun("flax", 2.25, None, None, FLAX_ANSWERS),
)
NAMES = ["hidden_states.0", "hidden_states.4", "attentions.3", "logits", "loss", "grad/vit.embeddings.cls_token"]
SAME = tuple(
    Comparison(framework, name, number * 1e-7, 1e-8, 1e-5)
    for framework in ("tf", "flax")
    for number, name in enumerate(NAMES, start=1)
)
AGREEING = Report("my-model", "image-classification", 1e-5, ("seven.png", "random pixels 1"), (), RUNS, SAME, ())
DIFFERING = dataclasses.replace(
    AGREEING,
    comparisons=(
        *SAME[:6],
        Comparison("flax", "hidden_states.0", math.nan, math.nan, math.nan, NOT_FINITE),
        Comparison("flax", "logits", 0.0031, 0.001, 1e-5),
    ),
    differences=(Difference("flax", "hidden_states.0", "the embeddings", NOT_FINITE),),
)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Nothing is run: "report" is what comes out, and "calls" are noted."""
    made_up: dict[str, Any] = {"report": AGREEING, "calls": []}

    def verify(*arguments: Any, **options: Any) -> Report:
        made_up["calls"].append((arguments, options))
        return made_up["report"]

    monkeypatch.setattr(vit_cli.verify, "verify", verify)
    return made_up


def lines(text: str) -> list[list[str]]:
    """The words of each line that has any, without rules."""
    return [line.split() for line in text.splitlines() if line.strip() and "─" not in line]


@pytest.mark.usefixtures("verified")
def test_agreement_is_status_0_and_three_tables_with_a_sentence(trivit: Command) -> None:
    result = trivit("verify", "my-model")
    assert (result.status, result.err) == (0, "")
    assert lines(result.out) == [
        ["difference", "tf", "flax"],
        ["from", "torch", "largest", "mean", "where", "largest", "mean", "where"],
        ["hidden", "states", "2.0e-07", "1.0e-08", "layer", "3", "2.0e-07", "1.0e-08", "layer", "3"],
        ["attention", "maps", "3.0e-07", "1.0e-08", "layer", "3", "3.0e-07", "1.0e-08", "layer", "3"],
        ["logits", "4.0e-07", "1.0e-08", "4.0e-07", "1.0e-08"],
        ["loss", "5.0e-07", "1.0e-08", "5.0e-07", "1.0e-08"],
        ["gradients", "6.0e-07", "1.0e-08", "embeddings", "6.0e-07", "1.0e-08", "embeddings"],
        ["a", "batch", "of", "2", "images", "first", "pass", "later", "passes", "peak", "memory"],
        ["torch", "12.3", "ms", "4.5", "ms", "250.0", "MB"],
        ["tf", "1.50", "s", "30.0", "ms", "1.5", "GB"],
        ["flax", "2.25", "s", "unknown"],
        ["input", "answer", "torch", "tf", "flax"],
        ["seven.png", "seven", "90.0%", "90.0%", "90.0%"],
        ["eight", "5.0%", "5.0%"],
        ["nine", "4.0%"],
        ["random", "pixels", "1", "one", "50.0%", "50.0%", "50.0%"],
        ["two", "25.0%", "25.0%", "25.0%"],
        lines(AGREEING.summary)[0],
    ]
    assert AGREEING.summary == "torch, tf and flax agree: no difference is above 6% of the allowed"
    assert all(len(line) <= 80 for line in result.out.splitlines())


def test_a_difference_is_status_1_and_marked_without_colours(trivit: Command, verified: dict[str, Any]) -> None:
    verified["report"] = DIFFERING
    result = trivit("verify", "my-model")
    assert result.status == 1
    assert ["hidden", "states", "2.0e-07", "1.0e-08", "layer", "3", "!", "embeddings"] in lines(result.out)
    assert ["logits", "4.0e-07", "1.0e-08", "!3.1e-03", "1.0e-03"] in lines(result.out)
    said = " ".join(result.out.split())
    assert said.endswith("flax differs from torch first at the embeddings (numbers that are not finite)")


def test_one_framework_has_no_table_of_differences(trivit: Command, verified: dict[str, Any]) -> None:
    verified["report"] = dataclasses.replace(AGREEING, runs=RUNS[:1], comparisons=())
    result = trivit("verify", "my-model")
    assert result.status == 0
    assert "difference" not in result.out
    assert "only torch ran, so there is nothing to compare with" in " ".join(result.out.split())


def test_a_reference_that_is_not_finite_is_in_the_table(trivit: Command, verified: dict[str, Any]) -> None:
    broken = Comparison("torch", "hidden_states.2", math.nan, math.nan, math.nan, NOT_FINITE)
    differences = (Difference("torch", "hidden_states.2", "layer 1", NOT_FINITE),)
    verified["report"] = dataclasses.replace(AGREEING, comparisons=(broken,), differences=differences)
    result = trivit("verify", "my-model")
    assert result.status == 1
    assert ["hidden", "states", "!", "layer", "1"] in lines(result.out)
    assert "torch has numbers that are not finite first at layer 1" in result.out


def test_names_from_files_cannot_break_the_tables(trivit: Command, verified: dict[str, Any]) -> None:
    label = "\x1b[2J[red]" + "a very long label " * 5
    runs = tuple(dataclasses.replace(run, answers=(((label, 0.5),), ((label, math.nan),))) for run in RUNS)
    inputs = ("[bold]" + "long_name" * 12 + ".png", "random pixels 1")
    verified["report"] = dataclasses.replace(AGREEING, runs=runs, inputs=inputs)
    result = trivit("verify", "my-model")
    assert result.status == 0
    assert "\x1b" not in result.out
    assert "[red]" in result.out
    assert "[bold]" in result.out
    assert all(len(line) <= 80 for line in result.out.splitlines())


def test_json_is_one_document_of_finite_numbers(trivit: Command, verified: dict[str, Any]) -> None:
    verified["report"] = DIFFERING
    result = trivit("verify", "my-model", "--json")
    document = json.loads(result.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert result.status == 1
    assert document["passed"] is False
    assert document["first_difference"]["where"] == "the embeddings"
    assert document["comparisons"][6]["largest"] is None
    assert document["runs"][0]["answers"][0][0] == ["seven", 0.9]


def test_options_reach_verify(trivit: Command, verified: dict[str, Any]) -> None:
    settings = ["--set", "image_size=[64, 32]", "--set", "hidden_act=relu"]
    arguments = ["--frameworks", "flax,torch", "--image", "a.png", "--gradients", "--tolerance", "0.5"]
    assert trivit("verify", "my-model", *settings, *arguments, "--revision", "v2").status == 0
    assert trivit("verify", "other").status == 0
    assert verified["calls"] == [
        (
            ("my-model", ["flax", "torch"]),
            {
                "image": Path("a.png"), "gradients": True, "tolerance": 0.5, "on_start": None, "revision": "v2",
                "image_size": [64, 32], "hidden_act": "relu",
            },
        ),
        (
            ("other", list(FRAMEWORKS)),
            {"image": None, "gradients": False, "tolerance": 1e-5, "on_start": None},
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "Missing argument"),
        (["x", "--frameworks", "torch,mxnet"], 2, "there is no 'mxnet'; choose one of: torch, tf, flax"),
        (["x", "--frameworks", ""], 2, "there is no ''; choose one of"),
        (["x", "--tolerance", "-1"], 2, "Invalid value for '--tolerance'"),
        (["x", "--set", "image_size"], 1, "--set image_size names no field and value"),
    ],
)
@pytest.mark.usefixtures("verified")
def test_wrong_call_is_one_line(trivit: Command, arguments: list[str], status: int, words: str) -> None:
    result = trivit("verify", *arguments)
    assert (result.status, result.out) == (status, "")
    assert words in result.err
    assert result.err.count("\n") == 1


class Screen(io.StringIO):
    """A terminal, as far as can be told."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("is_terminal", "shown"), [(True, True), (False, False)])
def test_a_terminal_shows_which_framework_runs(
    monkeypatch: pytest.MonkeyPatch, verified: dict[str, Any], is_terminal: bool, shown: bool
) -> None:
    def verify(*_: Any, on_start: Any, **__: Any) -> Report:
        if on_start is not None:
            on_start("flax")
        return AGREEING

    monkeypatch.setattr(vit_cli.verify, "verify", verify)
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen() if is_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    vit_cli.verify.show_verification("my-model", frameworks=["flax"])
    assert ("running flax" in screen.getvalue()) == shown


# With the frameworks themselves


def test_a_model_that_differs_in_one_framework_is_found(trivit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "flax"):
        if FRAMEWORKS[name].missing:
            pytest.skip(f"{FRAMEWORKS[name].missing} is not installed")
    module = importlib.import_module("conversion.proof.verifier")
    run = module.run_in_process

    def run_another_model(request: Request, folder: Path, inputs: Path) -> Run:
        """Flax computes with another activation, which the MLP of the first layer is the first to use."""
        if request.framework == "flax":
            request = dataclasses.replace(request, overrides={"hidden_act": "quick_gelu"})
        return run(request, folder, inputs)

    monkeypatch.setattr(module, "run_in_process", run_another_model)
    result = trivit("verify", "bundled/vit-digits", "--frameworks", "torch,flax", "--json")
    document = result.json()
    assert result.status == 1
    assert document["passed"] is False
    assert (document["first_difference"]["framework"], document["first_difference"]["name"]) == (
        "flax",
        "hidden_states.1",
    )
    assert document["summary"].startswith("flax differs from torch first at layer 0 (by ")
    differs = {each["name"]: each["differs"] for each in document["comparisons"]}
    assert not differs["hidden_states.0"]
    assert not differs["attentions.0"]
    assert differs["attentions.1"]
    assert differs["logits"]
