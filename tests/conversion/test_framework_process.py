"""Both ends of a framework's process, mostly without a framework: what is loaded, what is measured, how it fails."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import conversion.proof.frameworks
from conversion.proof import framework_process
from conversion.proof.framework_process import Request, Run, load_complete, run_in_process
from conversion.proof.frameworks import FRAMEWORKS, choose_framework, installed_frameworks, logits_of
from vit_core import ViTConfig

#: A process that does not load a framework but fails: `{}` is what it does instead.
FAILING = """
import os, signal, sys
sys.path.append(sys.argv[1])
import conversion.proof.framework_process as process
def fail(*_):
    {}
process._run = fail
process.main(sys.argv[2])
"""


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Has the process fail, and returns what comes of it."""
    monkeypatch.delenv("TRIVIT_TRACEBACK", raising=False)

    def fail(statement: str) -> Run:
        monkeypatch.setattr(framework_process, "START", FAILING.format(statement))
        return run_in_process(Request("flax", "my-model", {}), tmp_path, tmp_path / "inputs.npz")

    return fail


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        ("raise ValueError('the file is corrupt.')", ValueError, "the file is corrupt."),
        ("raise TypeError('there is no option x.')", TypeError, "there is no option x."),
        ("raise FileNotFoundError(2, 'No such file', 'a.png')", OSError, "a.png: No such file"),
        ("import a_module_that_is_not_there", ImportError, "No module named 'a_module_that_is_not_there'"),
        ("raise MemoryError('2 TB')", OSError, "flax failed when it ran my-model: MemoryError: 2 TB"),
        ("raise RuntimeError('two\\nlines')", OSError, "flax failed when it ran my-model: RuntimeError: two lines"),
    ],
)
def test_an_error_in_the_process_is_one_sentence(fails: Any, raised: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        fails(raised)
    assert str(caught.value) == message


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_process_that_is_killed_says_by_what(fails: Any) -> None:
    with pytest.raises(OSError, match="flax ran my-model was ended by SIGKILL; perhaps the machine lacks the memory"):
        fails("os.kill(os.getpid(), signal.SIGKILL)")


def test_a_process_that_ends_itself_is_quoted(fails: Any) -> None:
    with pytest.raises(OSError, match="flax ran my-model ended with status 7: libgpu is missing$"):
        fails("print('one\\nlibgpu is missing\\n', file=sys.stderr); os.write(2, b''); sys.stderr.flush(); os._exit(7)")
    with pytest.raises(OSError, match="ended with status 7: it said nothing$"):
        fails("os._exit(7)")


def test_what_the_process_writes_is_not_seen(fails: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="quiet"):
        fails("os.write(1, b'greetings'); os.write(2, b'chatter'); raise ValueError('quiet')")
    assert capfd.readouterr() == ("", "")


def test_developers_can_see_the_traceback(
    fails: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIVIT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="odd"):
        fails("raise ValueError('odd')")
    assert "Traceback" in capfd.readouterr().err


def test_files_in_the_current_folder_are_no_modules(
    fails: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    for name in ("numpy", "torch", "conversion", "json"):
        (tmp_path / f"{name}.py").write_text(f"open({str(canary)!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="the end"):
        fails("raise ValueError('the end')")
    assert not canary.exists()


def test_options_that_cannot_travel_are_refused(tmp_path: Path) -> None:
    request = Request("torch", "my-model", {"num_labels": 3, "hidden_act": len})
    with pytest.raises(TypeError, match="the options num_labels, hidden_act go to another process; give numbers"):
        run_in_process(request, tmp_path, tmp_path / "inputs.npz")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="where else memory counts so is not known")
def test_peak_memory_is_the_processes_own_and_not_its_parents() -> None:
    child = "from conversion.proof.framework_process import peak_memory; print(peak_memory())"
    parent = (
        "import subprocess, sys, numpy; numpy.ones(2**29, 'uint8');"
        f"subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    )
    run = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, timeout=60, check=True)
    assert 2**20 < int(run.stdout) < 2**29


# What is loaded


class FakePackage:
    """A framework's package whose checkpoint has some parameters."""

    needed = {  # noqa: RUF012
        "ViTForImageClassification": {"base", "classifier"},
        "ViTForMaskedImageModeling": {"base", "mask", "decoder"},
        "ViTModel": {"base", "pooler"},
        "ViTModel without pooler": {"base"},
    }

    def __init__(self, parameters: set[str], config: ViTConfig | Exception) -> None:
        self.parameters, self.config, self.tried = parameters, config, list[str]()
        self.AutoConfig = SimpleNamespace(from_pretrained=self._config)

    def __getattr__(self, architecture: str) -> Any:
        return SimpleNamespace(from_pretrained=lambda source, **options: self._load(architecture, **options))

    def _config(self, source: str, **location: Any) -> ViTConfig:
        if isinstance(self.config, Exception):
            raise self.config
        return self.config

    def _load(self, name: str, output_loading_info: bool, add_pooling_layer: bool = True, **_: Any) -> Any:
        name = name if add_pooling_layer else f"{name} without pooler"
        self.tried.append(name)
        missing = sorted(self.needed[name] - self.parameters)
        warnings.warn(f"{name} lacks {missing}", stacklevel=1)
        return name, {"missing_keys": missing, "mismatched_keys": []}


@pytest.mark.parametrize(
    ("architecture", "parameters", "model"),
    [
        ("ViTForImageClassification", {"base", "classifier"}, "ViTForImageClassification"),
        ("ViTModel", {"base", "classifier", "pooler"}, "ViTModel"),
        ("ViTModel", {"base"}, "ViTModel without pooler"),
        ("ViTForMaskedImageModeling", {"base", "mask", "decoder", "classifier"}, "ViTForMaskedImageModeling"),
        ("DeiTForImageClassification", {"base", "classifier"}, "ViTForImageClassification"),
        (None, {"base", "mask", "decoder"}, "ViTForMaskedImageModeling"),
        (None, {"base", "pooler"}, "ViTModel"),
        (None, {"base"}, "ViTModel without pooler"),
    ],
)
def test_the_model_is_the_one_that_the_checkpoint_is_for(
    architecture: str | None, parameters: set[str], model: str
) -> None:
    config = ViTConfig(architectures=architecture and [architecture])
    loaded, notes = load_complete(FakePackage(parameters, config), "my-model", {})  # type: ignore[arg-type]
    assert loaded == model
    assert notes == [f"{model} lacks []"]  # what was tried before is no news


def test_a_checkpoint_of_another_format_needs_no_config() -> None:
    package = FakePackage({"base", "classifier"}, OSError("there is no config.json"))
    assert load_complete(package, "my-model", {})[0] == "ViTForImageClassification"  # type: ignore[arg-type]


def test_a_config_beside_a_named_file_need_not_be_about_it(tmp_path: Path) -> None:
    (tmp_path / "weights.npz").touch()
    package = FakePackage({"base", "classifier"}, ViTConfig(architectures=["ViTModel"]))
    assert load_complete(package, str(tmp_path / "weights.npz"), {})[0] == "ViTForImageClassification"  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ["ViTForImageClassification", None])
def test_missing_weights_are_refused(architecture: str | None) -> None:
    package = FakePackage({"mask"}, ViTConfig(architectures=architecture and [architecture]))
    with pytest.raises(ValueError, match="my-model lacks base.*, which would start at random, differently in every"):
        load_complete(package, "my-model", {})  # type: ignore[arg-type]


def test_options_of_the_caller_reach_from_pretrained() -> None:
    package = FakePackage({"base", "pooler"}, ViTConfig(architectures=["ViTModel"]))
    assert load_complete(package, "my-model", {"add_pooling_layer": False})[0] == "ViTModel without pooler"  # type: ignore[arg-type]


def test_missing_weights_of_a_real_checkpoint_are_named(fixture_folder: Path, tmp_path: Path) -> None:
    package = pytest.importorskip("vit_torch")
    folder = fixture_folder / "hf_vit_model"
    fields = ViTConfig.from_pretrained(folder).to_dict() | {"architectures": ["ViTForImageClassification"]}
    ViTConfig.from_dict(fields).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="lacks classifier.weight, classifier.bias, which would start at random"):
        load_complete(package, str(tmp_path), {})


# Which frameworks there are


@pytest.fixture
def only_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch is installed, and no other framework."""
    monkeypatch.setattr(conversion.proof.frameworks.importlib.util, "find_spec", {"torch": object()}.get)


@pytest.mark.usefixtures("only_torch")
def test_frameworks_that_are_not_installed_are_left_out() -> None:
    assert installed_frameworks(["flax", "torch", "tf", "torch"]) == ["torch"]
    assert choose_framework() is choose_framework("torch") is FRAMEWORKS["torch"]


@pytest.mark.usefixtures("only_torch")
@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        (["tf"], ImportError, r'tensorflow is not installed; run: pip install "trivit\[tf\]"$'),
        (["tf", "flax"], ImportError, r'no framework .*"trivit\[tf\]" or pip install "trivit\[flax\]"$'),
        (["mxnet", "torch"], ValueError, "no framework 'mxnet'; choose from torch, tf, flax"),
        ([], ValueError, "no framework is named; choose from torch, tf, flax"),
    ],
)
def test_wrong_frameworks_are_refused(names: list[str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        installed_frameworks(names)


@pytest.mark.usefixtures("only_torch")
def test_a_framework_that_is_not_installed_runs_nothing() -> None:
    with pytest.raises(ImportError, match="jax is not installed"):
        logits_of("flax", "my-model", np.zeros((1, 3, 8, 8)))


def test_logits_are_those_of_the_reference(fixture_folder: Path) -> None:
    try:
        framework = installed_frameworks(FRAMEWORKS)[0]
    except ImportError as error:
        pytest.skip(str(error))
    folder = fixture_folder / "hf_vit_classifier"
    with np.load(folder / "expected.npz") as expected:
        logits = logits_of(framework, folder, expected["pixel_values"])
        assert np.abs(logits - expected["logits"]).max() <= 1e-5


def test_a_model_without_logits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    results = {"last_hidden_state": np.zeros(1), "pooler_output": np.zeros(1)}
    monkeypatch.setattr(framework_process, "forward_in_process", lambda *_: results)
    with pytest.raises(ValueError, match="my-model is no classifier: it returns last_hidden_state, pooler_output and"):
        logits_of("torch", "my-model", np.zeros((1, 3, 8, 8)))
