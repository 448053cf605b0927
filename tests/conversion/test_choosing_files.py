"""Which of several files of weights `from_pretrained` opens, by the options that scripts give."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conversion.checkpoint import open_for_loading
from vit_core.hub import locate
from vit_core.weights_choice import WeightsChoice

SAFE, PYTORCH, TENSORFLOW, FLAX = "model.safetensors", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"


@pytest.fixture
def folder(fixture_folder: Path, tmp_path: Path) -> Path:
    """A folder in which a model lies four times."""
    shutil.copytree(fixture_folder / "hf_vit_classifier", tmp_path / "model")
    return tmp_path / "model"


def opened(folder: Path, **options: Any) -> str:
    choice = WeightsChoice.from_options(**options)
    return open_for_loading(locate(folder), {}, choice).files[-1].name


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, SAFE),
        ({"from_pt": True}, PYTORCH),
        ({"from_tf": True}, TENSORFLOW),
        ({"from_flax": True}, FLAX),
        ({"use_safetensors": False}, PYTORCH),
        ({"use_safetensors": False, "from_flax": True}, FLAX),
        ({"use_safetensors": True}, SAFE),
    ],
    ids=str,
)
def test_options_choose_among_several_files(folder, options, name):
    assert opened(folder, **options) == name


@pytest.mark.parametrize("option", ["from_pt", "from_tf", "from_flax"])
def test_where_one_kind_lies_alone_it_is_read_whatever_is_asked_for(folder, option):
    for name in (PYTORCH, TENSORFLOW, FLAX):
        (folder / name).unlink()
    assert opened(folder, **{option: True}, use_safetensors=False) == SAFE


def test_use_safetensors_reads_nothing_else(folder):
    (folder / SAFE).unlink()
    with pytest.raises(OSError, match=r"no weights.*looked for model\.safetensors, and for shards of them\."):
        opened(folder, use_safetensors=True)


def test_use_safetensors_takes_a_file_with_an_unusual_name(folder):
    (folder / SAFE).rename(folder / "step_10.safetensors")
    assert opened(folder, use_safetensors=True) == "step_10.safetensors"


@pytest.mark.parametrize(("name", "variant"), [(SAFE, "model.fp16.safetensors"), (PYTORCH, "pytorch_model.fp16.bin")])
def test_a_variant_is_read_instead_of_the_usual_file(folder, name, variant):
    shutil.copy(folder / name, folder / variant)
    assert opened(folder, variant="fp16") == variant
    assert opened(folder) == SAFE
    with pytest.raises(OSError, match="no weights"):
        opened(folder, variant="bf16")


def test_shards_of_a_variant_are_one_model(folder, convert: Callable[..., Path]):
    whole = convert(folder, "transformers", "sharded", max_shard_size="10KB")
    for path in whole.glob("model-*"):
        path.rename(whole / path.name.replace("model-", "model.fp16-"))
    index = whole / "model.safetensors.index.json"
    (whole / "model.safetensors.index.fp16.json").write_text(index.read_text().replace("model-", "model.fp16-"))
    index.unlink()
    sharded = open_for_loading(locate(whole), {}, WeightsChoice.from_options(variant="fp16"))
    assert len(sharded.files) > 3
    assert sharded.tensors.keys() == open_for_loading(locate(folder), {}).tensors.keys()
