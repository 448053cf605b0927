from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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
def images(tmp_path: Path, fixture_folder: Path) -> Path:
    """A folder with images of two sizes and modes, a folder in it, and a file that is no image."""
    folder = tmp_path / "images"
    (folder / "inner").mkdir(parents=True)
    for name in ("photo.jpg", "cat.png", "gray.png"):
        shutil.copy(fixture_folder / "image_processing" / name, folder)
    shutil.copy(fixture_folder / "image_processing/rgba.png", folder / "inner")
    (folder / "notes.txt").write_text("no image")
    return folder
