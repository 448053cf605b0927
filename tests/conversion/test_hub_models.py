from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conversion

FOREIGN = [
    ("timm_vit", ["config.json", "model.safetensors"], "timm"),
    ("hf_vit_classifier", ["config.json", "pytorch_model.bin"], "transformers"),
    ("hf_vit_classifier", ["config.json", "tf_model.h5"], "transformers-tf"),
    ("hf_vit_classifier", ["config.json", "flax_model.msgpack"], "transformers-flax"),
]


@pytest.mark.parametrize(("folder", "names", "form"), FOREIGN, ids=[names[-1] for _, names, _ in FOREIGN])
def test_a_model_on_the_hub_is_read_in_its_format(
    hub: Any, fixture_folder: Path, tmp_path: Path, folder: str, names: list[str], form: str
) -> None:
    hub.add("org/model", {name: (fixture_folder / folder / name).read_bytes() for name in names})
    found = conversion.load("org/model", cache_dir=tmp_path)
    here = conversion.load(fixture_folder / folder / names[-1])
    assert (found.format, found.config) == (form, here.config)
    for name, tensor in here.tensors.items():
        np.testing.assert_array_equal(found.tensors[name].read(), tensor.read())


def test_a_model_on_the_hub_is_converted(hub: Any, fixture_folder: Path, tmp_path: Path) -> None:
    names = ("config.json", "model.safetensors")
    hub.add("org/timm", {name: (fixture_folder / "timm_vit" / name).read_bytes() for name in names})
    made = conversion.convert("org/timm", tmp_path / "out", cache_dir=tmp_path / "cache")
    assert made.source.format == "timm"
    local = conversion.convert(fixture_folder / "timm_vit", tmp_path / "local")
    assert made.files == local.files
    weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("out", "local")]
    assert weights[0] == weights[1]


def test_a_model_that_cannot_be_reached_is_asked_for_once(hub: Any, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="org/gone"):
        conversion.load("org/gone", cache_dir=tmp_path)
    assert {request.path.rpartition("/")[2] for request in hub.requests} == {"config.json"}
