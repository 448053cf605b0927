"""Which file of weights is read, and what variants of it are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vit_core import ViTConfig
from vit_core.checkpoint import open_checkpoint, save_checkpoint
from vit_core.hub import locate
from vit_core.safetensors_file import map_safetensors
from vit_core.stored_tensor import from_numpy
from vit_core.weights_choice import WeightsChoice

SAFE, PYTORCH, TENSORFLOW, FLAX = "model.safetensors", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"


def tensors(value: float, count: int = 3) -> dict[str, object]:
    return {f"t{i}": from_numpy(np.full(4, value, np.float32)) for i in range(count)}


def value_in(folder: Path, variant: str | None = None) -> float:
    opened = open_checkpoint(locate(folder), choice=WeightsChoice.from_options(variant=variant))
    return float(opened.tensors["t2"].numpy()[0])


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ({}, (SAFE, PYTORCH, TENSORFLOW, FLAX)),
        ({"from_pt": True}, (PYTORCH, SAFE, TENSORFLOW, FLAX)),
        ({"from_tf": True}, (TENSORFLOW, SAFE, PYTORCH, FLAX)),
        ({"from_flax": True}, (FLAX, SAFE, PYTORCH, TENSORFLOW)),
        ({"use_safetensors": False}, (PYTORCH, TENSORFLOW, FLAX, SAFE)),
        ({"use_safetensors": True}, (SAFE,)),
        ({"variant": "fp16"}, (SAFE, PYTORCH)),
        ({"variant": "fp16", "use_safetensors": False}, (PYTORCH, SAFE)),
    ],
    ids=str,
)
def test_options_put_files_in_order(options, order):
    names = WeightsChoice.from_options(**options).names
    assert tuple(name for name in names if name != "model.weights.h5") == order


def test_variants_have_the_names_that_transformers_gives_them():
    choice = WeightsChoice.from_options(variant="fp16")
    assert choice.file_name(SAFE) == "model.fp16.safetensors"
    assert choice.index_name(SAFE) == "model.safetensors.index.fp16.json"
    assert choice.file_name(PYTORCH) == "pytorch_model.fp16.bin"
    assert choice.index_name(PYTORCH) == "pytorch_model.bin.index.fp16.json"


@pytest.mark.parametrize("variant", ["../x", "a/b", "a\\b", "", " ", "a..b", "*", "x" * 99])
def test_a_variant_is_a_plain_part_of_a_name(variant):
    if variant == "":
        assert WeightsChoice.from_options(variant=variant) == WeightsChoice()
        return
    with pytest.raises(ValueError, match="cannot be a part of a file's name"):
        WeightsChoice.from_options(variant=variant)
    with pytest.raises(TypeError, match="variant is 16"):
        WeightsChoice.from_options(variant=16)


@pytest.mark.parametrize("largest", ["5GB", 20], ids=["whole", "shards"])
def test_a_variant_is_saved_beside_the_others_and_replaces_itself_alone(largest, tmp_path):
    config = ViTConfig()
    save_checkpoint(tmp_path, config, tensors(1.0), largest)
    save_checkpoint(tmp_path, config, tensors(2.0), 20, variant="fp16")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"model.safetensors.index.fp16.json", "model.fp16-00003-of-00003.safetensors"} <= names
    assert (value_in(tmp_path), value_in(tmp_path, "fp16")) == (1.0, 2.0)
    save_checkpoint(tmp_path, config, tensors(3.0), variant="fp16")
    assert sorted(path.name for path in tmp_path.glob("*fp16*")) == ["model.fp16.safetensors"]
    assert (value_in(tmp_path), value_in(tmp_path, "fp16")) == (1.0, 3.0)
    save_checkpoint(tmp_path, config, tensors(4.0), variant="")
    assert (value_in(tmp_path), value_in(tmp_path, "fp16")) == (4.0, 3.0)


def test_a_variant_that_is_not_there_is_an_error_that_names_its_file(tmp_path):
    save_checkpoint(tmp_path, ViTConfig(), tensors(1.0))
    with pytest.raises(OSError, match=r"looked for model\.fp16\.safetensors"):
        value_in(tmp_path, "fp16")


def test_only_readable_files_are_looked_for(tmp_path):
    save_checkpoint(tmp_path, ViTConfig(), tensors(1.0))
    choice = WeightsChoice.from_options(from_tf=True)
    assert open_checkpoint(locate(tmp_path), {SAFE: map_safetensors}, choice).files[-1].name == SAFE
