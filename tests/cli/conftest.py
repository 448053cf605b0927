from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conversion.proof.frameworks import FRAMEWORKS
from vit_cli import main


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def trivit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command in this process, 80 columns wide."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("TRIVIT_TRACEBACK", raising=False)

    def run(*arguments: object) -> Result:
        status = main([str(argument) for argument in arguments])
        return Result(status, *capsys.readouterr())

    return run


@pytest.fixture(params=FRAMEWORKS)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend that is installed."""
    if FRAMEWORKS[request.param].missing:
        pytest.skip(f"{FRAMEWORKS[request.param].missing} is not installed")
    return request.param


@pytest.fixture
def checkpoint(tmp_path: Path, fixture_folder: Path) -> Callable[..., Path]:
    """Copies a fixture checkpoint; `changes` maps a JSON file to fields to set in it."""

    def copy(name: str = "hf_vit_classifier", changes: dict[str, dict[str, Any]] | None = None) -> Path:
        folder = tmp_path / name
        shutil.copytree(fixture_folder / name, folder)
        for file, fields in (changes or {}).items():
            path = folder / file
            path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        return folder

    return copy


@pytest.fixture
def pooling_checkpoint(checkpoint: Callable[..., Path]) -> Path:
    """The fixture classifier in another form, with the same answers: its classifier reads a pooler.

    The pooler puts out relu(x) and relu(-x) of the class token x, and the classifier W [relu(x) - relu(-x)] = W x.
    """
    fields = {"classifier_uses_pooler": True, "pooler_output_size": 64, "pooler_act": "relu"}
    folder = checkpoint(changes={"config.json": fields})
    tensors = load_file(folder / "model.safetensors")
    one, weight = np.eye(32, dtype="float32"), tensors["classifier.weight"]
    tensors["vit.pooler.dense.weight"] = np.concatenate([one, -one])
    tensors["vit.pooler.dense.bias"] = np.zeros(64, "float32")
    tensors["classifier.weight"] = np.concatenate([weight, -weight], axis=1)
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture
def images(tmp_path: Path, fixture_folder: Path) -> Path:
    """A folder with images of two sizes and modes, a folder in it, and a file that is no image."""
    folder = tmp_path / "images"
    (folder / "inner").mkdir(parents=True)
    for name in ("photo.jpg", "cat.png", "gray.png"):
        shutil.copy(fixture_folder / "image_processing" / name, folder)
    shutil.copy(fixture_folder / "image_processing/rgba.png", folder / "inner")
    (folder / "notes.txt").write_text("no image")
    return folder
