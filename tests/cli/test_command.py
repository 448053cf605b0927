from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import conversion.proof.frameworks
import vit_cli

FRAMEWORKS = ["torch", "tensorflow", "keras", "jax", "flax", "optax", "vit_torch", "vit_tf", "vit_flax"]
HEAVY = [*FRAMEWORKS, "matplotlib", "PIL", "huggingface_hub", "numpy"]

#: Runs the command, then reports on standard error which heavy modules were imported.
WATCHED = f"""
import sys
from vit_cli import main
status = main(sys.argv[1:])
print(*[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
sys.exit(status)
"""

Run = Callable[..., Any]


def in_new_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WATCHED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["classify", "--help"],
        ["attention", "--help"],
        ["reconstruct", "--help"],
        ["info", "--help"],
        ["verify", "--help"],
        ["--version"],
    ],
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    run = in_new_process(*arguments)
    assert run.returncode == 0, run.stderr
    assert run.stderr.split() == []


def test_info_loads_no_framework(fixture_folder: Path) -> None:
    run = in_new_process("info", str(fixture_folder / "hf_vit_classifier"))
    assert run.returncode == 0, run.stderr
    assert not {*FRAMEWORKS, "matplotlib"} & set(run.stderr.split())


def test_help_has_examples(trivit: Run) -> None:
    for arguments in ([], ["classify"], ["attention"], ["info"], ["verify"]):
        result = trivit(*arguments, "--help")
        assert result.status == 0
        assert "Examples" in result.out
        assert f"trivit {' '.join(arguments)}".strip() in result.out


def test_no_arguments_show_the_help(trivit: Run) -> None:
    result = trivit()
    assert result.status == 0
    assert "Usage: trivit" in result.out


def test_garbage_is_looked_for_seldom_as_long_as_a_command_runs(trivit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before, during = gc.get_threshold(), []

    def fail(arguments: Any) -> int:
        during.append(gc.get_threshold())
        raise ValueError("no")

    monkeypatch.setattr(vit_cli, "_run", fail)
    assert trivit("--version").status == 1
    assert during == [(100_000, *before[1:])]
    assert gc.get_threshold() == before


def test_version(trivit: Run) -> None:
    assert trivit("--version").out == f"trivit {version('trivit')}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["classify"], "Missing argument"),
        (["classify", "x.png", "--top-k", "0"], "greater than or equal to 1|not in the range"),
        (["classify", "x.png", "--colour"], "No such option.*--colour"),
        (["classify", "x.png", "--backend", "mxnet"], "no 'mxnet'; choose one of: torch, tf, flax"),
        (["attention", "x.png", "--head", "two"], "no 'two'; give the number of a head, all or rollout"),
        (["attention", "x.png", "--threshold", "0"], "0 is no share of the attention; give one above 0 and up to 1"),
        (["attention", "x.png", "--threshold", "nan"], "nan is no share of the attention"),
        (["attention", "x.png", "--layer", "-1"], "greater than or equal to 0|not in the range"),
        (["paint"], "No such command 'paint'"),
    ],
)
def test_wrong_call_is_one_line_and_status_2(trivit: Run, arguments: list[str], words: str) -> None:
    result = trivit(*arguments)
    assert result.status == 2
    assert result.out == ""
    assert re.fullmatch(rf"trivit: .*({words}).*; see trivit --help\n", result.err)


def test_failure_is_one_line_and_status_1(trivit: Run) -> None:
    result = trivit("info", "./gone")
    assert (result.status, result.out, result.err) == (
        1,
        "",
        "trivit: there is no folder or file ./gone; check the path.\n",
    )


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.fixture
def info_raises(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    import vit_cli.info

    return lambda error: monkeypatch.setattr(vit_cli.info, "show_info", failing(error))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\nlines"), "trivit: two lines\n"),
        (ValueError("\x1b[2Jcleared"), "trivit: \ufffd[2Jcleared\n"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), "trivit: a.png: No such file or directory\n"),
        (RuntimeError("odd"), "trivit: unexpected RuntimeError: odd (TRIVIT_TRACEBACK=1 shows where)\n"),
    ],
)
def test_every_error_is_one_line_without_a_traceback(
    trivit: Run, info_raises: Callable[[BaseException], None], error: Exception, line: str
) -> None:
    info_raises(error)
    result = trivit("info", "x")
    assert (result.status, result.err) == (1, line)


def test_developers_can_ask_for_the_traceback(
    trivit: Run, info_raises: Callable[[BaseException], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    info_raises(RuntimeError("odd"))
    monkeypatch.setenv("TRIVIT_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="odd"):
        trivit("info", "x")


def test_interruption_is_quiet_and_status_130(trivit: Run, info_raises: Callable[[BaseException], None]) -> None:
    info_raises(KeyboardInterrupt())
    result = trivit("info", "x")
    assert (result.status, result.out, result.err) == (130, "", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_ctrl_c_in_a_running_process_is_quiet() -> None:
    code = (
        "import signal, sys, time, vit_cli.info; from vit_cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background processes of a shell ignore it
        "def show_info(*_, **__): print('ready', flush=True); time.sleep(60)\n"
        "vit_cli.info.show_info = show_info; sys.exit(main(['info', 'x']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_reader_that_stops_reading_is_no_failure_to_talk_about(fixture_folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", "import sys, vit_cli; sys.exit(vit_cli.main())"]
    arguments = ["info", str(fixture_folder / "hf_vit_classifier")]
    run = subprocess.run(
        [*command, *arguments], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(writing)
    assert (run.returncode, run.stderr) == (1, "")


def test_warnings_are_lines_of_the_command(trivit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    import vit_cli.info

    def warn(*_: object, **__: object) -> None:
        warnings.simplefilter("always")
        warnings.warn("mind the gap", stacklevel=1)

    monkeypatch.setattr(vit_cli.info, "show_info", warn)
    result = trivit("info", "x")
    assert (result.status, result.err) == (0, "trivit: warning: mind the gap\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            [],
            'no framework is installed; run: pip install "trivit[torch]" or pip install "trivit[tf]" or '
            'pip install "trivit[flax]"',
        ),
        (["--backend", "torch"], 'torch is not installed; run: pip install "trivit[torch]"'),
        (["--backend", "tf"], 'tensorflow is not installed; run: pip install "trivit[tf]"'),
        (["--backend", "flax"], 'jax is not installed; run: pip install "trivit[flax]"'),
    ],
)
def test_missing_framework_names_the_extra(
    trivit: Run, images: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    monkeypatch.setattr(conversion.proof.frameworks.importlib.util, "find_spec", lambda _: None)
    result = trivit("classify", images, *options)
    assert result.status == 1
    assert result.err == f"trivit: {words}\n"


@pytest.mark.parametrize(("there", "missing"), [("jax", "flax"), ("flax", "jax")])
def test_jax_and_flax_are_of_no_use_without_each_other(
    trivit: Run, images: Path, monkeypatch: pytest.MonkeyPatch, there: str, missing: str
) -> None:
    found = {there: object()}
    monkeypatch.setattr(conversion.proof.frameworks.importlib.util, "find_spec", found.get)
    assert trivit("classify", images).err.startswith("trivit: no framework is installed; run: ")
    result = trivit("classify", images, "--backend", "flax")
    assert result.err == f'trivit: {missing} is not installed; run: pip install "trivit[flax]"\n'


def test_missing_command_line_packages_name_the_extra(trivit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    assert trivit("--help").err == 'trivit: typer is not installed; run: pip install "trivit[cli]"\n'
