"""Configs and settings with values of kinds that nobody expects: what comes out is a ValueError, TypeError or OSError.

The kind: uncaught exceptions, CWE-248, and numbers that are none (CWE-20); a service that opens strangers' models must
be able to name what it catches.
"""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import conversion
from vit_cli import main
from vit_core import AutoImageProcessor
from vit_core.auto import AutoConfig
from vit_core.families import FAMILIES

EXPECTED = (ValueError, TypeError, OSError)
#: As they are written, since not all of them are JSON.
VALUES = [
    *("null", "5", "-1", "1e999", "NaN", "1" + "0" * 400, '"\\u001b[2J\\n"', '"\\ud800"', "[]", "[[]]", "[1e999]"),
    *('["a", {}]', "{}", '{"0": {}}', '{"0": [1e999]}', '{"config": []}', '{"height": 1e999, "width": []}'),
    *("[" * 900 + "]" * 900, f'"{"x" * 10_000}"', f'["{"x" * 10_000}"]', f'{{"{"x" * 10_000}": 1}}'),
]
#: What formats look for in a config of others, and what decides how a file is read.
FIELDS = ("model_type", "architectures", "architecture", "keras_hub_task", "pretrained_cfg", "model_args", "id2label")


def fails_as_expected(action: Callable[[], object]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            action()
        except EXPECTED as error:
            assert is_readable(str(error)), str(error)[:700]  # noqa: PT017 - or nothing is raised
    for warning in caught:
        assert is_readable(str(warning.message)), str(warning.message)[:700]


def is_readable(message: str) -> bool:
    return len(message) <= 550 and message.isprintable()


def variants(fields: Mapping[str, Any], names: Iterable[str], step: int = 1) -> Iterator[str]:
    """The text of a JSON object with one of its fields set to one of the values, for all of both.

    Args:
        fields: the other fields.
        names: of the fields to set.
        step: takes every such value, beginning with another one for each field.
    """
    for number, name in enumerate(dict.fromkeys(names)):
        rest = "".join(f", {json.dumps(other)}: {json.dumps(fields[other])}" for other in fields if other != name)
        yield from (f"{{{json.dumps(name)}: {value}{rest}}}" for value in VALUES[number % step :: step])


@pytest.mark.parametrize("model_type", FAMILIES)
def test_any_value_of_any_field_of_a_config_is_one_sentence(model_type: str, tmp_path: Path) -> None:
    config = FAMILIES[model_type].config_class().to_dict()
    for text in variants(config, [*config, "dtype", "vision_config"], 20 if len(config) > 50 else 2):
        (tmp_path / "config.json").write_text(text)
        fails_as_expected(lambda: AutoConfig.from_pretrained(tmp_path))


@pytest.mark.parametrize("source", ["hf_vit_classifier", "timm_vit"])
def test_any_value_of_what_formats_look_for_is_one_sentence(source: str, fixture_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fixture_folder / source, tmp_path / "vit")
    config = json.loads((folder / "config.json").read_text())
    for text in variants(config, FIELDS, 6):
        (folder / "config.json").write_text(text)
        fails_as_expected(lambda: conversion.load(folder))
    preset = {"registered_name": "keras_hub>ViTBackbone", "config": {}, "keras_hub_task": {}}
    for text in variants(preset, preset, 6):
        (folder / "config.json").write_text(text)
        fails_as_expected(lambda: conversion.load(folder))


@pytest.mark.parametrize("source", ["hf_vit_classifier", "hf_beit_grads", "hf_clip_classifier"])
def test_any_value_of_any_setting_of_images_is_one_sentence(source: str, fixture_folder: Path, tmp_path: Path) -> None:
    settings = json.loads((fixture_folder / source / "preprocessor_config.json").read_text())
    for text in variants(settings, settings):
        (tmp_path / "preprocessor_config.json").write_text(text)
        fails_as_expected(lambda: AutoImageProcessor.from_pretrained(tmp_path))


def test_a_home_of_nobody_is_a_name_like_others() -> None:
    with pytest.raises(OSError, match="no folder or file ~nobody-there/vit"):
        conversion.load("~nobody-there/vit")


def test_numbers_that_json_has_not_are_null_in_documents(
    fixture_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(fixture_folder / "hf_vit_classifier", tmp_path / "vit")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "own": [math.nan, {"more": math.inf}]}))
    assert main(["info", str(folder), "--json"]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert document["config"]["own"] == [None, {"more": None}]


def test_text_is_never_markup(fixture_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """rich, which lays out tables, would make a link of this name and stumble over that one."""
    folder = tmp_path / "photos[/i][link=example.com]"
    folder.mkdir(parents=True)
    for name in ("[red]a.png", ":smile:.png"):
        shutil.copy(fixture_folder / "image_processing/gray.png", folder / name)
    assert main(["classify", str(folder), "--model", "bundled/vit-digits"]) == 0
    printed = capsys.readouterr().out.replace("\n", "")
    assert all(text in printed for text in ("[red]a.png", ":smile:.png"))
    assert "photos[/i]" in printed
    assert "\x1b" not in printed


def test_info_prints_long_values_shortened(
    fixture_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(fixture_folder / "hf_vit_classifier", tmp_path / "vit")
    config = json.loads((folder / "config.json").read_text())
    labels = dict.fromkeys(config["id2label"], "x" * 100000)
    (folder / "config.json").write_text(json.dumps({**config, "id2label": labels, "label2id": None}))
    settings = {"image_processor_type": "ViTImageProcessor", "image_mean": [0.5] * 100_000, "size": 4}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    assert main(["info", str(folder)]) == 0
    assert len(capsys.readouterr().out) < 8000
