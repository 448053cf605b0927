"""One tensor under two names: whoever opens the file must not have to guess which one another reader takes.

The kind is that of duplicate keys in safetensors' headers, which its audit found (Trail of Bits 2023, "polyglot"
files): two readers of one file see two models. Here the names differ in the file and become one when it is read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import conversion
from conversion.checkpoint import open_for_loading
from conversion.containers.weights_file import read_weights
from vit_core.hub import locate
from vit_core.loading_plan import plan_loading, unwrapped
from vit_core.parameters import parameters
from vit_core.renaming import TwoNamesError

HEADS = {"num_attention_heads": 4}
BLOCKS = "layers/vi_t_backbone/layers/vi_t_encoder/encoder_layers"
KERAS_HUB_NORM = BLOCKS + "/vi_t_encoder_block{}/layer_norm_1/vars/0"
SCANNED = "Transformer/encoderblock{}/LayerNorm_0/scale"

#: A fixture, a name that it has, and another name of the same tensor.
SPELLINGS = {
    "base model's prefix": ("hf_vit_model/model.safetensors", "embeddings.cls_token", "vit.embeddings.cls_token"),
    "no prefix": ("hf_vit_classifier/model.safetensors", "vit.embeddings.cls_token", "embeddings.cls_token"),
    "head's prefix": ("hf_vit_classifier/model.safetensors", "classifier.bias", "vit.classifier.bias"),
    "wrapped part": (
        "hf_vit_classifier/model.safetensors",
        "vit.encoder.layer.0.output.dense.bias",
        "vit.encoder.layer.0._orig_mod.output.dense.bias",
    ),
    "another base model": (
        "hf_vit_model/model.safetensors",
        "embeddings.patch_embeddings.projection.weight",
        "vit.embeddings.patch_embeddings.projection.weight",
    ),
    "dots and slashes": (
        "hf_vit_classifier/flax_model.msgpack",
        "vit/embeddings/patch_embeddings/projection/kernel",
        "vit.embeddings.patch_embeddings.projection.kernel",
    ),
    "two kinds of MLP": ("dinov2_original_swiglu/backbone.pth", "blocks.0.mlp.w3.bias", "blocks.0.mlp.fc2.bias"),
}


def refused(file: Path, *names: str) -> None:
    """By everyone who opens it, with both names."""
    for open_it in (conversion.load, lambda source, **fields: open_for_loading(locate(source), fields)):
        with pytest.raises(ValueError, match="two names of one tensor") as caught:
            open_it(file, **HEADS)
        assert all(name in str(caught.value) for name in names), caught.value


def written(folder: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "vit.safetensors")
    return folder / "vit.safetensors"


def arrays_of(source: Path) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in read_weights(source).items()}


@pytest.mark.parametrize("kind", SPELLINGS)
def test_two_spellings_of_one_name_are_refused_with_both(kind: str, fixture_folder: Path, tmp_path: Path) -> None:
    source, name, other = SPELLINGS[kind]
    arrays = arrays_of(fixture_folder / source)
    if (config := (fixture_folder / source).parent / "config.json").exists():
        shutil.copy(config, tmp_path)
    assert conversion.load(written(tmp_path, arrays), **HEADS).tensors  # it opens without the second one
    refused(written(tmp_path, {**arrays, other: arrays[name] + 1}), name.rpartition("/")[2], other.rpartition("/")[2])


def test_a_scanned_array_beside_a_single_layer_is_refused(fixture_folder: Path, tmp_path: Path) -> None:
    arrays = arrays_of(fixture_folder / "google_jax/linen.npz")
    layers = sum(SCANNED.format(f"_{number}") in arrays for number in range(9))
    stack = np.stack([arrays[SCANNED.format(f"_{number}")] + 1 for number in range(layers)])
    refused(written(tmp_path, {**arrays, SCANNED.format(""): stack}), SCANNED.format(""), SCANNED.format("_0"))


def test_keras_hubs_first_block_with_and_without_a_number_is_refused(fixture_folder: Path, tmp_path: Path) -> None:
    conversion.convert(fixture_folder / "google_jax/linen.npz", tmp_path / "as.h5", "keras-hub", **HEADS)
    arrays, name, other = arrays_of(tmp_path / "as.h5"), KERAS_HUB_NORM.format(""), KERAS_HUB_NORM.format("_0")
    refused(written(tmp_path, {**arrays, other: arrays[name] + 1}), "encoder_block/", "encoder_block_0/")


def test_published_and_canonical_names_of_one_tensor_are_refused(fixture_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fixture_folder / "hf_clip_classifier", tmp_path / "clip")
    config = type(conversion.load(folder).config)
    file = folder / "model.safetensors"
    arrays = load_file(file)
    name = next(name for name in arrays if name.endswith("pre_layrnorm.bias"))
    other = name.replace("pre_layrnorm", "embeddings.layernorm")
    save_file({**arrays, other: arrays[name] + 1}, file)
    with pytest.raises(ValueError, match="two names of one tensor"):
        open_for_loading(locate(folder), {}, config_class=config)


@pytest.mark.parametrize(
    ("name", "there", "added"),
    [
        ("hf_vit_model", "embeddings.cls_token", "vit.embeddings.cls_token"),
        ("hf_vit_classifier", "vit.encoder.layer.0.output.dense.bias", "encoder.layer.0.output.dense.bias"),
        ("hf_vit_classifier", "classifier.bias", "vit.classifier.bias"),
        ("hf_dinov2", "dinov2.embeddings.position_embeddings", "embeddings.position_embeddings"),
    ],
)
def test_a_models_own_folder_with_two_spellings_is_refused(
    fixture_folder: Path, tmp_path: Path, name: str, there: str, added: str
) -> None:
    folder = shutil.copytree(fixture_folder / name, tmp_path / "model")
    arrays = load_file(folder / "model.safetensors")
    save_file({**arrays, added: arrays[there] + 1}, folder / "model.safetensors")
    config = conversion.load(fixture_folder / name).config

    def load() -> None:
        checkpoint = open_for_loading(locate(folder), {}, config_class=type(config))
        plan_loading(parameters(config, "image-classification"), checkpoint, config, "the folder")

    with pytest.raises(ValueError, match="two names of one tensor") as caught:
        load()
    assert all(f"'{each}'" in str(caught.value) for each in (there, added))


def test_a_tensor_in_two_shards_is_refused(fixture_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fixture_folder / "hf_vit_sharded", tmp_path / "sharded")
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    name, other = min(index, key=index.get), max(index.values())
    save_file({**load_file(folder / other), name: load_file(folder / index[name])[name] + 1}, folder / other)
    with pytest.raises(ValueError, match=f"{name}.* in model-0000.-of-.* and in {other}, and nothing says"):
        conversion.load(folder)


def test_names_that_wrappers_change_into_one_are_refused() -> None:
    with pytest.raises(TwoNamesError, match=r"'module\.a\.b' and 'a\._orig_mod\.b'"):
        unwrapped({"module.a.b": 1, "a._orig_mod.b": 2}, ())
