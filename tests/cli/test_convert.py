"""`trivit convert`, and `trivit info` and `trivit classify` on what it reads and writes."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import conversion
from conversion.formats import WRITABLE
from conversion.proof.frameworks import FRAMEWORKS
from vit_core.hub import BUNDLED

Run = Callable[..., Any]
Copy = Callable[..., Path]

MODULE = importlib.import_module("vit_cli.convert")
DIGITS = BUNDLED / "vit-digits"
IMAGES = sorted((DIGITS / "test_images").iterdir())
needs_framework = pytest.mark.skipif(
    all(framework.missing for framework in FRAMEWORKS.values()), reason="no framework is installed"
)


@pytest.fixture
def google(fixture_folder: Path) -> Path:
    return fixture_folder / "google_jax/published.npz"


def words(text: str) -> str:
    return " ".join(text.split())


# What is said


def test_what_was_read_assumed_written_and_verified_is_told(trivit: Run, google: Path, tmp_path: Path) -> None:
    result = trivit("convert", google, tmp_path / "vit", "--no-verify")
    assert (result.status, result.err) == (0, "")
    said = words(result.out)
    for fact in (
        "read Google's published .npz, image classification, 124.9 kB",
        "assumed hidden_act = gelu_pytorch_tanh (as Google's published .npz has it)",
        "layer_norm_eps = 1e-06 (as Google's published .npz has it)",
        "preprocessing = mean [0.5, 0.5, 0.5], std [0.5, 0.5, 0.5]",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ):
        assert fact in said
    assert "verified" not in said


@pytest.mark.parametrize("to", [name for name, form in WRITABLE.items() if "vit" in form.models])
def test_the_text_fits_80_columns(trivit: Run, fixture_folder: Path, tmp_path: Path, to: str) -> None:
    result = trivit("convert", fixture_folder / "hf_vit_masked", tmp_path / "x", "--to", to, "--no-verify")
    assert result.status == 0, result.err
    assert all(len(line) <= 80 for line in result.out.splitlines())
    assert ("has no place for" in words(result.out)) == (not to.startswith("transformers"))


def test_the_wrapper_and_what_was_left_out_are_told(trivit: Run, fixture_folder: Path, tmp_path: Path) -> None:
    arguments = ("--set", "num_attention_heads=4", "--no-verify")
    decoder = ("--set", "decoder_num_attention_heads=2")
    result = trivit("convert", fixture_folder / "mae_vit/pretrain.pth", tmp_path / "mae", *arguments, *decoder)
    assert "the model under 'model/'" in words(result.out)
    assert "left out" not in result.out
    result = trivit("convert", fixture_folder / "dino_vit/full_checkpoint.pth", tmp_path / "dino", *arguments)
    assert "the model under 'teacher/backbone.'" in words(result.out)
    assert "left out" not in result.out


def test_notes_are_told(trivit: Run, checkpoint: Copy, tmp_path: Path) -> None:
    said = words(trivit("convert", checkpoint(), tmp_path / "vit.npz", "--to", "google", "--no-verify").out)
    assert "computes with hidden_act=gelu_pytorch_tanh; this model has gelu, so its answers differ there" in said
    assert "the weights alone were written: a folder also gets config.json and preprocessor_config.json" in said


def test_the_document_for_programs(trivit: Run, google: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    found = trivit("convert", google, folder, "--to", "timm", "--no-verify", "--json").json()
    assert set(found) == {
        "format",
        "task",
        "assumed",
        "left_out",
        "config",
        "destination",
        "to",
        "files",
        "notes",
        "compared_tensors",
        "answers",
    }
    assert (found["format"], found["to"], found["task"]) == ("google", "timm", "image-classification")
    assert found["destination"] == str(folder)
    assert found["files"] == {file.name: file.stat().st_size for file in folder.iterdir()}
    assert set(found["assumed"]) == {"hidden_act", "layer_norm_eps", "preprocessing"}
    assert (found["compared_tensors"], found["answers"], found["left_out"]) == (0, None, [])
    assert found["config"]["hidden_size"] == 32


def test_strangers_text_cannot_steer_the_terminal(trivit: Run, checkpoint: Copy, tmp_path: Path) -> None:
    folder = checkpoint(changes={"config.json": {"hidden_act": "\x1b[2J"}})
    result = trivit("convert", folder, tmp_path / "out", "--no-verify")
    assert result.status == 1
    assert "\x1b" not in result.out + result.err


# Settings


def test_settings_are_fields_of_the_config(trivit: Run, fixture_folder: Path, tmp_path: Path) -> None:
    source = fixture_folder / "torchvision_vit/vit.pth"
    result = trivit("convert", source, tmp_path / "out", "--no-verify")
    assert (result.status, result.out) == (1, "")
    assert "give it as num_attention_heads" in result.err
    assert not (tmp_path / "out").exists()
    settings = ("--set", "num_attention_heads=4", "--set", "layer_norm_eps=1e-3", "--set", 'id2label={"0": "a"}')
    assert trivit("convert", source, tmp_path / "out", "--no-verify", *settings).status == 1  # there are ten
    assert trivit("convert", source, tmp_path / "out", "--no-verify", *settings[:4]).status == 0
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["num_attention_heads"], config["layer_norm_eps"]) == (4, 1e-3)


@pytest.mark.parametrize(
    ("setting", "error"),
    [("heads=4", "'heads' is no field of a config"), ("num_attention_heads", "names no field and value")],
)
def test_a_wrong_setting_is_one_line(trivit: Run, google: Path, tmp_path: Path, setting: str, error: str) -> None:
    result = trivit("convert", google, tmp_path / "out", "--set", setting)
    assert (result.status, result.out, result.err.count("\n")) == (1, "", 1)
    assert error in result.err


@pytest.mark.parametrize(("dtype", "size"), [("float16", 2), ("bfloat16", 2), ("float32", 4)])
def test_weights_are_converted_to_a_dtype(trivit: Run, google: Path, tmp_path: Path, dtype: str, size: int) -> None:
    assert trivit("convert", google, tmp_path / "out", "--dtype", dtype, "--no-verify").status == 0
    assert json.loads((tmp_path / "out/config.json").read_text())["torch_dtype"] == dtype
    found = conversion.load(tmp_path / "out")
    assert {tensor.nbytes // tensor.read().size for tensor in found.tensors.values()} == {size}


# What is refused


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--to", "onnx"], "'onnx'"),
        (["--dtype", "int8"], "'int8'"),
        (["--max-shard-size", "much"], "max_shard_size is 'much'"),
    ],
)
def test_a_wrong_option_is_one_line(trivit: Run, google: Path, tmp_path: Path, options: list[str], error: str) -> None:
    result = trivit("convert", google, tmp_path / "out", *options)
    assert result.status in (1, 2)
    assert (result.out, result.err.count("\n")) == ("", 1)
    assert error in result.err
    assert not (tmp_path / "out").exists()


def test_a_destination_is_kept_unless_it_may_be_overwritten(trivit: Run, google: Path, tmp_path: Path) -> None:
    file = tmp_path / "vit.npz"
    file.write_bytes(b"precious")
    result = trivit("convert", google, file, "--to", "google", "--no-verify")
    assert (result.status, result.out, file.read_bytes()) == (1, "", b"precious")
    assert "vit.npz exists and is kept" in result.err
    assert trivit("convert", google, file, "--to", "google", "--no-verify", "--overwrite").status == 0
    assert conversion.load(file).format == "google"


def with_nan(folder: Path) -> Path:
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"][3] = np.nan
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_nan_is_refused_unless_it_is_allowed(trivit: Run, checkpoint: Copy, tmp_path: Path) -> None:
    folder = with_nan(checkpoint())
    result = trivit("convert", folder, tmp_path / "out", "--to", "google", "--no-verify")
    assert (result.status, result.out) == (1, "")
    assert "classifier.bias has NaN" in result.err
    assert not (tmp_path / "out").exists()
    assert trivit("convert", folder, tmp_path / "out", "--to", "google", "--no-verify", "--allow-nan").status == 0


# The proof. Frameworks are stood in for: what they answer is for tests/conversion/test_numbers.py.


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What source and result answer, in this order; each run is noted as `told`."""
    made_up: list[dict[str, Any]] = [{"logits": np.ones((2, 10), "f4")}, {"logits": np.ones((2, 10), "f4")}]
    runs = iter(made_up)

    def run(framework: str, source: Any, images: np.ndarray, more: Any = None, **told: Any) -> Any:
        result = next(runs)
        result["told"] = {"source": str(source), "shape": images.shape, **told}
        return {name: array for name, array in result.items() if name != "told"}

    monkeypatch.setattr(MODULE, "run_forward", run)
    fake = {"torch": type("Fake", (), {"missing": None})()}
    monkeypatch.setattr(MODULE, "FRAMEWORKS", fake)
    return made_up


def test_equal_answers_are_said_to_be_so(trivit: Run, google: Path, tmp_path: Path, answers: Any) -> None:
    result = trivit("convert", google, tmp_path / "out")
    assert result.status == 0, result.err
    assert "verified 56 tensors read back, bit for bit the same" in words(result.out)
    assert "logits in torch: no difference" in words(result.out)
    assert answers[0]["told"] == {"source": str(google), "shape": (2, 3, 32, 32), "revision": "main"}
    assert answers[1]["told"] == {"source": str(tmp_path / "out"), "shape": (2, 3, 32, 32)}


@pytest.mark.parametrize(("difference", "status"), [(0.9e-5, 0), (1.1e-5, 1)])
def test_answers_may_differ_by_a_hundred_thousandth(
    trivit: Run, google: Path, tmp_path: Path, answers: Any, difference: float, status: int
) -> None:
    answers[0]["logits"][:] = 0
    answers[1]["logits"][:] = 0
    answers[1]["logits"][1, 3] = difference
    result = trivit("convert", google, tmp_path / "out")
    assert result.status == status
    assert ("source and result do not give the same answers" in result.out) == bool(status)
    assert f"largest difference {difference:.1e}" in words(result.out)


def test_a_file_alone_is_run_with_what_it_does_not_tell(
    trivit: Run, fixture_folder: Path, tmp_path: Path, answers: Any
) -> None:
    source = fixture_folder / "google_jax_representation/published.npz"
    assert trivit("convert", source, tmp_path / "vit.safetensors").status == 0
    told = answers[1]["told"]
    wanted = {
        "num_attention_heads": 4,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "image_size": 32,
        "classifier_uses_pooler": True,
    }
    assert {name: told.get(name) for name in wanted} == wanted


def test_nan_on_both_sides_is_no_difference(trivit: Run, checkpoint: Copy, tmp_path: Path, answers: Any) -> None:
    """Both answer NaN in the same places, since that is what the weights say."""
    for each in answers:
        each["logits"][0, 0] = np.nan
    result = trivit("convert", with_nan(checkpoint()), tmp_path / "out", "--allow-nan", "--json")
    assert (result.status, result.err) == (0, "")
    assert result.json()["answers"]["difference"] == 0


def test_nan_on_one_side_only_is_a_difference(trivit: Run, google: Path, tmp_path: Path, answers: Any) -> None:
    answers[1]["logits"][0, 0] = np.nan
    result = trivit("convert", google, tmp_path / "out", "--json")
    assert (result.status, result.err) == (1, "")
    assert result.json()["answers"]["difference"] is None


def test_a_head_that_was_left_out_is_not_compared(trivit: Run, checkpoint: Copy, tmp_path: Path, answers: Any) -> None:
    answers[1].clear()
    answers[1]["last_hidden_state"] = np.ones((2, 17, 32), "f4")
    result = trivit("convert", checkpoint(), tmp_path / "out", "--to", "dino")
    assert (result.status, result.err) == (0, "")
    assert "has no place for classifier.weight" in words(result.out)


def test_without_a_framework_it_is_said_that_answers_were_not_compared(
    trivit: Run, google: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "FRAMEWORKS", {})
    result = trivit("convert", google, tmp_path / "out")
    assert result.status == 0
    assert "answers were not compared" in words(result.out)


@needs_framework
def test_a_framework_proves_the_conversion(trivit: Run, google: Path, tmp_path: Path) -> None:
    result = trivit("convert", google, tmp_path / "vit.npz", "--to", "big-vision", "--json")
    assert result.status == 0, result.err
    found = result.json()["answers"]
    assert found["compared"] == ["logits"]
    assert found["difference"] <= 1e-5 < found["largest"]


# What else reads the result


@pytest.mark.parametrize("to", [name for name, form in WRITABLE.items() if "vit" in form.models])
def test_a_folder_of_any_format_is_described(trivit: Run, google: Path, tmp_path: Path, to: str) -> None:
    assert trivit("convert", google, tmp_path / "out", "--to", to, "--no-verify").status == 0
    assert (tmp_path / "out" / "preprocessor_config.json").is_file()
    found = trivit("info", tmp_path / "out", "--json").json()
    assert found["format"] == ("transformers" if to == "transformers-bin" else to)
    assert found["config"]["num_attention_heads"] == 4
    assert found["config"]["hidden_act"] == "gelu_pytorch_tanh"
    assert found["preprocessing"]["size"] == {"height": 32, "width": 32}
    assert "num_attention_heads" not in found["assumed"]


@needs_framework
@pytest.mark.parametrize(
    ("to", "name"), [("google", "vit.npz"), ("google", "folder"), ("timm", "folder"), ("transformers-flax", "folder")]
)
def test_a_converted_model_knows_its_digits(trivit: Run, tmp_path: Path, to: str, name: str) -> None:
    destination = tmp_path / name
    assert trivit("convert", "bundled/vit-digits", destination, "--to", to, "--no-verify").status == 0
    images = [image for image in IMAGES if image.suffix == ".png"][:4]
    found = trivit("classify", *images, "--model", destination, "--json", "--top-k", 1)
    assert found.status == 0, found.err
    own = trivit("classify", *images, "--model", "bundled/vit-digits", "--json", "--top-k", 1).json()
    answered, expected = ([each["predictions"][0] for each in answer] for answer in (found.json(), own))
    # A file alone has no names for its classes; LABEL_7 is the eighth.
    assert [each["label"].removeprefix("LABEL_") for each in answered] == [each["label"] for each in expected]
    # Flax' GELU, which a file of Google's stands for, is an approximation.
    scores = [[each["score"] for each in answer] for answer in (answered, expected)]
    np.testing.assert_allclose(*scores, atol=1e-2 if name == "vit.npz" else 1e-5)


@needs_framework
def test_a_lone_file_that_does_not_tell_its_heads_asks_for_them(trivit: Run, tmp_path: Path) -> None:
    assert trivit("convert", "bundled/vit-digits", tmp_path / "vit.pth", "--to", "timm", "--no-verify").status == 0
    result = trivit("classify", IMAGES[0], "--model", tmp_path / "vit.pth")
    assert (result.status, result.out) == (1, "")
    assert "num_attention_heads" in result.err


def test_the_source_may_be_overwritten_by_itself(trivit: Run, checkpoint: Copy) -> None:
    folder = checkpoint()
    for file in (*folder.glob("*.bin"), *folder.glob("*.h5"), *folder.glob("*.msgpack"), *folder.glob("*.npz")):
        file.unlink()
    shutil.copy(folder / "model.safetensors", folder.parent / "before")
    assert trivit("convert", folder, folder, "--overwrite", "--no-verify").status == 0
    assert (folder / "model.safetensors").read_bytes() == (folder.parent / "before").read_bytes()
