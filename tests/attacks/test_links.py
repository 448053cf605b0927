"""A stranger's folder with links to the user's own files: nothing behind them is opened, copied or uploaded.

The kind: link following, CWE-59, as archives with links do it (CVE-2007-4559).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import conversion
from conversion.checkpoint import open_for_loading
from vit_core import AutoImageProcessor
from vit_core.auto import AutoConfig
from vit_core.hub import locate
from vit_core.push import push_to_hub

FIXTURE = "hf_vit_classifier"
LINK = "is a link out of its folder"


@pytest.fixture
def private(tmp_path: Path, fixture_folder: Path) -> Path:
    """The user's own folder."""
    return shutil.copytree(fixture_folder / "hf_vit_sharded", tmp_path / "private")


@pytest.fixture
def strangers(tmp_path: Path, fixture_folder: Path) -> Path:
    return shutil.copytree(fixture_folder / "hf_vit_sharded", tmp_path / "strangers")


def replaced(file: Path, target: str | Path) -> None:
    file.unlink()
    file.symlink_to(target)


@pytest.mark.parametrize("target", ["{private}/{name}", "../private/{name}", "inner/{name}"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "model-00002-of-00003.safetensors"])
def test_a_file_that_is_a_link_out_of_its_folder_is_refused(
    private: Path, strangers: Path, name: str, target: str
) -> None:
    (strangers / "inner").symlink_to(private)  # a folder on the way may be the link, too
    replaced(strangers / name, target.format(private=private, name=name))
    for open_it in (
        conversion.load,
        lambda folder: open_for_loading(locate(folder), {}),
        lambda folder: conversion.convert(folder, strangers.parent / "never"),
    ):
        with pytest.raises(OSError, match=LINK):
            open_it(strangers)
    assert not (strangers.parent / "never").exists()


def test_settings_and_configs_and_subfolders_that_are_links_are_refused(
    strangers: Path, tmp_path: Path, fixture_folder: Path
) -> None:
    (strangers / "preprocessor_config.json").symlink_to(fixture_folder / FIXTURE / "preprocessor_config.json")
    (strangers / "inner").symlink_to(fixture_folder / FIXTURE)
    replaced(strangers / "config.json", fixture_folder / FIXTURE / "config.json")
    for open_it in (AutoImageProcessor.from_pretrained, AutoConfig.from_pretrained):
        with pytest.raises(OSError, match=LINK):
            open_it(strangers)
        with pytest.raises(OSError, match=LINK):
            open_it(strangers, subfolder="inner")


def test_a_link_is_not_uploaded(strangers: Path, private: Path) -> None:
    replaced(strangers / "config.json", private / "config.json")
    with pytest.raises(OSError, match=LINK):
        push_to_hub(strangers, "someone/vit")


def test_links_inside_of_a_folder_and_of_the_hubs_cache_are_followed(strangers: Path, tmp_path: Path) -> None:
    os.rename(strangers / "config.json", strangers / "other.json")
    (strangers / "config.json").symlink_to("other.json")
    assert conversion.load(strangers).tensors
    commit, blobs = tmp_path / "models--a--b/snapshots/0123", tmp_path / "models--a--b/blobs"
    commit.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(strangers.iterdir()):
        shutil.copy(file, blobs / str(number))
        (commit / file.name).symlink_to(f"../../blobs/{number}")
    assert conversion.load(commit).tensors
    (tmp_path / "named").symlink_to(commit)
    assert conversion.load(tmp_path / "named").tensors


def test_blobs_that_are_a_link_themselves_are_no_cache(strangers: Path, private: Path, tmp_path: Path) -> None:
    (tmp_path / "models--a--b").mkdir()
    commit = shutil.copytree(strangers, tmp_path / "models--a--b/snapshots/0123")
    (tmp_path / "models--a--b/blobs").symlink_to(private)
    replaced(commit / "config.json", "../../blobs/config.json")
    with pytest.raises(OSError, match=LINK):
        conversion.load(commit)


def test_a_link_that_the_user_names_is_followed(tmp_path: Path, fixture_folder: Path) -> None:
    (tmp_path / "vit:base.safetensors").symlink_to(fixture_folder / FIXTURE / "model.safetensors")  # of any name
    assert conversion.load(tmp_path / "vit:base.safetensors", num_attention_heads=4).tensors


#: transformers runs what `auto_map` names; Keras built what files named (CVE-2024-3660, CVE-2025-1550).
CODE = {"auto_map": {"AutoModel": "evil/code--model.Evil"}, "custom_objects": {"a": "os.system"}}


def with_fields(folder: Path, fields: dict) -> Path:
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **fields}))
    return folder


def test_what_names_code_is_not_saved_and_other_fields_are(fixture_folder: Path, tmp_path: Path) -> None:
    source, result = (
        with_fields(
            shutil.copytree(fixture_folder / FIXTURE, tmp_path / "source"),
            {
                **CODE,
                "own": [{**CODE, "kept": 1}],
                "label2id": {"auto_map": 0, "b": 1},
                "id2label": {"0": "auto_map", "1": "b"},
            },
        ),
        tmp_path / "result",
    )
    AutoConfig.from_pretrained(source).save_pretrained(result)
    AutoImageProcessor.from_pretrained(source).save_pretrained(result)
    for name in ("config.json", "preprocessor_config.json"):
        written = json.loads((result / name).read_text())
        assert not written.keys() & CODE.keys()
        assert written["own"] == [{"kept": 1}]
        assert written["label2id"] == {"auto_map": 0, "b": 1}


def test_what_names_code_is_not_converted(fixture_folder: Path, tmp_path: Path) -> None:
    code = {**CODE, "\x1b[2J": 1}
    folder = with_fields(shutil.copytree(fixture_folder / FIXTURE, tmp_path / "source"), code)
    notes = conversion.convert(folder, tmp_path / "result").notes
    for name in ("config.json", "preprocessor_config.json"):
        written = json.loads((tmp_path / "result" / name).read_text())
        assert not written.keys() & code.keys()
        assert written.keys() <= json.loads((folder / name).read_text()).keys() | {"num_labels", "id2label", "label2id"}
        assert any(f"{name} says of auto_map, custom_objects, '\\x1b[2J' is nothing" in note for note in notes), notes
