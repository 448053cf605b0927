"""DINOv2, DINOv3, SigLIP and CLIP, whose published names are not the canonical ones, and files of both towers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import conversion
from conversion.checkpoint import open_for_loading
from conversion.formats import WRITABLE
from conversion.published import as_canonical, as_published
from vit_core.families import FAMILIES, family_of
from vit_core.hub import locate
from vit_core.parameters import parameters
from vit_core.stored_tensor import from_numpy

FOLDERS = [
    *("hf_dinov2", "hf_dinov2_registers", "hf_dinov2_swiglu", "hf_dinov3", "hf_dinov3_gated", "hf_siglip_vision"),
    *("hf_siglip_classifier", "hf_clip_vision", "hf_clip_projection", "hf_clip_classifier"),
]
OF_BOTH_TOWERS = {
    "hf_siglip_full": ("siglip_vision_model", "model"),
    "hf_clip_full": ("clip_vision_model", "image-projection"),
}


@pytest.mark.parametrize("source", FOLDERS)
def test_what_transformers_wrote_comes_back_as_its_bytes(fixture_folder: Path, convert: Any, source: str) -> None:
    written = convert(fixture_folder / source, "transformers")
    assert (written / "model.safetensors").read_bytes() == (fixture_folder / source / "model.safetensors").read_bytes()
    theirs = json.loads((fixture_folder / source / "config.json").read_text())
    ours = json.loads((written / "config.json").read_text())
    said = theirs.keys() - {"dtype", "initializer_factor"}
    assert {name: ours.get(name) for name in said - {"vision_config"}} == {
        name: theirs[name] for name in said - {"vision_config"}
    }
    tower = theirs.get("vision_config", {})
    assert {name: ours["vision_config"][name] for name in tower if name != "initializer_factor"} == {
        name: value for name, value in tower.items() if name != "initializer_factor"
    }


@pytest.mark.parametrize("source", FOLDERS)
def test_a_backend_gets_canonical_names(fixture_folder: Path, source: str) -> None:
    whole = conversion.load(fixture_folder / source)
    opened = open_for_loading(locate(fixture_folder / source), {}, config_class=type(whole.config))
    prefix = family_of(whole.config).prefix
    assert {name.removeprefix(prefix) for name in opened.tensors} == {
        name.removeprefix(prefix) for name in whole.tensors
    }
    assert opened.config["model_type"] == whole.config.model_type


@pytest.mark.parametrize(("source", "kind"), OF_BOTH_TOWERS.items())
def test_of_a_file_of_both_towers_the_image_tower_opens(
    fixture_folder: Path, convert: Any, source: str, kind: tuple[str, Any]
) -> None:
    found, family = conversion.load(fixture_folder / source), FAMILIES[kind[0]]
    assert (type(found.config), found.task) == (family.config_class, kind[1])
    assert list(found.tensors) == [row.name for row in parameters(found.config, found.task)]
    assert all(name.startswith(("text_", "logit_")) for name in found.left_out)
    described = json.loads((fixture_folder / source / "config.json").read_text())["vision_config"]
    assert found.config.image_size == described["image_size"]
    theirs = load_file(fixture_folder / source / "model.safetensors")
    written = load_file(convert(fixture_folder / source, "transformers") / "model.safetensors")
    assert written.keys() == theirs.keys() - set(found.left_out)
    assert all(np.array_equal(written[name], theirs[name]) for name in written)
    for config_class in (family.config_class, *family.config_classes.values()):
        opened = open_for_loading(locate(fixture_folder / source), {}, config_class=config_class)
        assert config_class.from_dict(opened.config).image_size == described["image_size"]


def test_a_tower_alone_has_the_projection_of_both(fixture_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(fixture_folder / "hf_clip_full", tmp_path, dirs_exist_ok=True)
    values = json.loads((tmp_path / "config.json").read_text())
    values["vision_config"]["projection_dim"] = 512  # files of old say so, whatever the width is
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert conversion.load(tmp_path).config.projection_dim == 20


@pytest.mark.parametrize("path", ["", "backbone."])
@pytest.mark.parametrize("source", FOLDERS)
def test_what_a_subclass_adds_keeps_its_name(fixture_folder: Path, path: str, source: str) -> None:
    whole, theirs = conversion.load(fixture_folder / source), load_file(fixture_folder / source / "model.safetensors")
    added = from_numpy(np.ones(3, np.float32))
    ours = {path + name: tensor for name, tensor in whole.tensors.items()} | {"my.norm1.weight": added}
    written = as_published(ours, whole.config)
    assert written.keys() == {path + name for name in theirs} | {"my.norm1.weight"}
    read = as_canonical(written, family_of(whole.config))
    prefix = "" if path else family_of(whole.config).prefix  # bare models take both
    assert {name.removeprefix(prefix) for name in read} == {name.removeprefix(prefix) for name in ours}
    for name, tensor in as_published(read, whole.config).items():
        np.testing.assert_array_equal(tensor.read(), written[name].read())


@pytest.mark.parametrize("source", FOLDERS)
def test_canonical_names_are_read_too(fixture_folder: Path, tmp_path: Path, source: str) -> None:
    whole = conversion.load(fixture_folder / source)
    save_file({name: tensor.read().copy() for name, tensor in whole.tensors.items()}, tmp_path / "model.safetensors")
    shutil.copy(fixture_folder / source / "config.json", tmp_path)
    opened = open_for_loading(locate(tmp_path), {}, config_class=type(whole.config))
    assert opened.tensors.keys() == whole.tensors.keys()
    assert all(opened.tensors[name].shape == tensor.shape for name, tensor in whole.tensors.items())


def test_large_models_are_written_in_shards_with_published_names(
    fixture_folder: Path, convert: Any, write_checkpoint: Callable[..., Path]
) -> None:
    written = convert(fixture_folder / "hf_clip_vision", "transformers", max_shard_size="40KB")
    index = json.loads((written / "model.safetensors.index.json").read_text())
    theirs = load_file(fixture_folder / "hf_clip_vision/model.safetensors")
    assert index["weight_map"].keys() == theirs.keys()
    found = conversion.load(written)
    for name, tensor in as_published(found.tensors, found.config).items():
        np.testing.assert_array_equal(tensor.read(), theirs[name])


TOWER = "clip/tfclip_vision_model/clip/vision_model"


@pytest.mark.parametrize(
    ("source", "to", "form", "name"),
    [
        ("hf_dinov2", "transformers-flax", "transformers-flax-dinov2", "dinov2/encoder/layer/0/layer_scale1/lambda1"),
        (
            "hf_clip_vision",
            "transformers-flax",
            "transformers-flax-clip",
            "vision_model/embeddings/position_embedding/embedding",
        ),
        ("hf_clip_classifier", "transformers-flax", "transformers-flax-clip", "classifier/kernel"),
        (
            "hf_clip_vision",
            "transformers-tf",
            "transformers-tf-clip",
            f"{TOWER}/encoder/layers_._1/self_attn/q_proj/kernel:0",
        ),
        (
            "hf_clip_full",
            "transformers-tf",
            "transformers-tf-clip",
            "clip/tfclip_vision_model_with_projection/clip/visual_projection/kernel:0",
        ),
        (
            "hf_siglip_vision",
            "transformers-tf",
            "transformers-tf",
            "vision_model/tf_siglip_vision_model/vision_model/pooler/probe:0",
        ),
    ],
)
def test_tensorflows_and_flaxs_files_have_their_published_names(
    fixture_folder: Path, convert: Any, names_in: Callable[[Path], set[str]], source: str, to: str, form: str, name: str
) -> None:
    written = convert(fixture_folder / source, to)
    (weights,) = (written / each for each in WRITABLE[to].files.values())
    assert name in names_in(weights)
    found, whole = conversion.load(written), conversion.load(fixture_folder / source)
    assert (found.format, found.config) == (form, whole.config)
    assert found.preprocessing == whole.preprocessing
    for key, tensor in whole.tensors.items():
        np.testing.assert_array_equal(found.tensors[key].read(), tensor.read())
