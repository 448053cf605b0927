"""Checkpoints that are corrupt, or of models that are not supported, are refused in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import conversion
from conversion.checkpoint import open_for_loading
from conversion.containers.weights_file import read_weights
from vit_core.hub import locate

HEADS = {"num_attention_heads": 4}
MAE_HEADS = {"decoder_num_attention_heads": 2}
Arrays = dict[str, np.ndarray]
Change = Callable[[Arrays], object]

ATTENTION = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1"  # in a published .npz

#: A file of each kind.
FILES = [
    "timm_vit/model.safetensors",
    "torchvision_vit/vit.pth",
    "dino_vit/full_checkpoint.pth",
    "google_jax/published.npz",
    "hf_vit_model/tf_model.h5",
    "hf_vit_model/flax_model.msgpack",
]


def refused(source: Path, *words: str, given: Mapping[str, Any] = HEADS) -> None:
    """Nobody opens it: neither conversion nor any framework; and nothing is written."""
    for open_it in (
        lambda: conversion.load(source, **given),
        lambda: open_for_loading(locate(source), given),
        lambda: conversion.convert(source, source.parent / "never", **given),
    ):
        with pytest.raises(ValueError, match=words[0] if words else "") as caught:
            open_it()
        message = str(caught.value)
        assert all(word in message for word in words[1:]), message
        assert message.endswith(".")
        assert "\n" not in message
    assert not (source.parent / "never").exists()


# Broken files


@pytest.mark.parametrize("source", FILES)
def test_a_file_that_was_cut_short_is_refused(fixture_folder: Path, tmp_path: Path, source: str) -> None:
    data = (fixture_folder / source).read_bytes()
    file = tmp_path / Path(source).name
    steps = [0, 1, 7, 8, 9, 15, 16, 100, len(data) // 3, len(data) // 2, len(data) - 1000, len(data) - 9, len(data) - 1]
    for length in steps:
        file.write_bytes(data[:length])
        with pytest.raises((ValueError, OSError)) as caught:
            consume(file)
        assert "\n" not in str(caught.value), length
    assert {each.name for each in tmp_path.iterdir()} == {file.name}


@pytest.mark.parametrize("source", FILES)
def test_a_changed_byte_is_refused_or_a_changed_value(fixture_folder: Path, tmp_path: Path, source: str) -> None:
    """Whatever stands in a file, nothing comes of it but a checkpoint, a ValueError or an OSError."""
    data, random = (fixture_folder / source).read_bytes(), np.random.default_rng(0)
    file = tmp_path / Path(source).name
    ends = [*range(16), *range(len(data) - 24, len(data))]
    headers = random.integers(0, min(8000, len(data)), 20).tolist()
    anywhere = random.integers(0, len(data), 20).tolist()
    for position in (*ends, *headers, *anywhere):
        changed = bytearray(data)
        changed[position] ^= int(random.integers(1, 256))
        file.write_bytes(changed)
        try:
            consume(file)
        except (ValueError, OSError) as error:
            assert "\n" not in str(error), position  # noqa: PT017 - either is right


def consume(file: Path) -> None:
    """Open a file, read everything, and show that what is there is complete."""
    for tensor in conversion.load(file, **HEADS).tensors.values():
        assert tensor.read().shape == tensor.shape


def test_a_file_that_holds_no_weights_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    for name, data in {"photo.jpg": b"\xff\xd8\xff\xe0 a photograph", "notes": b"some words about a model"}.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, "is no file of weights", name, repr(data[:8]))


def test_there_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="there is no folder"):
        conversion.convert(tmp_path / "vit.npz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Tensors


def changed(fixture_folder: Path, tmp_path: Path, source: str, change: Change) -> Path:
    """A fixture with other tensors, as safetensors by itself."""
    arrays = {name: tensor.numpy().copy() for name, tensor in read_weights(fixture_folder / source).items()}
    change(arrays)
    save_file(arrays, tmp_path / "vit.safetensors")
    return tmp_path / "vit.safetensors"


@pytest.mark.parametrize(
    ("source", "name", "missing"),
    [
        ("timm_vit/model.safetensors", "blocks.1.norm2.bias", "blocks.1.norm2.bias"),
        ("timm_vit/model.safetensors", "blocks.1.attn.qkv.weight", "blocks.1.attn.qkv.weight"),
        ("timm_vit/model.safetensors", "norm.weight", "norm.weight"),
        ("torchvision_vit/vit.pth", "heads.head.bias", "heads.head.bias"),
        ("google_jax/published.npz", "Transformer/encoderblock_2/MlpBlock_3/Dense_1/bias", "encoderblock_2/MlpBlock_3"),
        ("dino_vit/backbone.pth", "norm.bias", "norm.bias"),
        ("mae_vit/pretrain.pth", "model/blocks.0.mlp.fc1.bias", "blocks.0.mlp.fc1.bias"),
        ("hf_vit_classifier/model.safetensors", "vit.layernorm.bias", "layernorm.bias"),
    ],
)
def test_a_missing_tensor_is_named_as_the_file_would(
    fixture_folder: Path, tmp_path: Path, source: str, name: str, missing: str
) -> None:
    file = changed(fixture_folder, tmp_path, source, lambda arrays: arrays.pop(name))
    given = HEADS | (MAE_HEADS if "mae" in source else {})
    refused(file, "lacks", missing, "get it again", given=given)


def test_a_layer_that_is_not_there_is_missed(fixture_folder: Path, tmp_path: Path) -> None:
    def without_layer(arrays: Arrays) -> None:
        for name in [name for name in arrays if name.startswith("blocks.1.")]:
            del arrays[name]

    refused(changed(fixture_folder, tmp_path, "timm_vit/model.safetensors", without_layer), r"lacks blocks\.1\.")


@pytest.mark.parametrize(
    ("source", "name", "shape"),
    [
        ("timm_vit/model.safetensors", "blocks.1.norm2.bias", (31,)),
        ("timm_vit/model.safetensors", "blocks.1.attn.qkv.weight", (95, 32)),
        ("timm_vit/model.safetensors", "blocks.1.attn.qkv.weight", ()),
        ("timm_vit/model.safetensors", "pos_embed", (17, 32)),
        ("timm_vit/model.safetensors", "pos_embed", (1, 18, 32)),
        ("timm_vit/model.safetensors", "cls_token", (1, 1, 0)),
        ("timm_vit/model.safetensors", "cls_token", (32,)),
        ("timm_vit/model.safetensors", "patch_embed.proj.weight", (32, 192)),
        ("timm_vit/model.safetensors", "patch_embed.proj.weight", (0, 3, 8, 8)),
        ("timm_vit/model.safetensors", "head.weight", ()),
        (
            "google_jax/published.npz",
            f"{ATTENTION}/query/kernel",
            (32, 32),
        ),
        (
            "google_jax/published.npz",
            f"{ATTENTION}/out/kernel",
            (4, 9, 32),
        ),
        ("google_jax/published.npz", "embedding/kernel", (8, 3, 32)),
        ("google_jax/published.npz", "head/kernel", (33, 10)),
    ],
)
def test_a_wrong_shape_is_named(
    fixture_folder: Path, tmp_path: Path, source: str, name: str, shape: tuple[int, ...]
) -> None:
    file = changed(fixture_folder, tmp_path, source, lambda arrays: arrays.update({name: np.zeros(shape, "f4")}))
    refused(file, "shape|positions for")


@pytest.mark.parametrize("dtype", ["int8", "int64", "bool", "uint16"])
def test_whole_numbers_are_no_weights(fixture_folder: Path, tmp_path: Path, dtype: str) -> None:
    def quantise(arrays: Arrays) -> None:
        arrays["blocks.0.mlp.fc1.weight"] = arrays["blocks.0.mlp.fc1.weight"].astype(dtype)

    file = changed(fixture_folder, tmp_path, "timm_vit/model.safetensors", quantise)
    refused(file, r"blocks\.0\.mlp\.fc1\.weight as (I8|I64|BOOL|U16); weights are of float16, bfloat16, float32")


# Models that are not supported


def add(**arrays: tuple[int, ...]) -> Change:
    """Adds tensors; two underscores in a name stand for a dot."""
    return lambda found: found.update({name.replace("__", "."): np.ones(shape, "f4") for name, shape in arrays.items()})


@pytest.mark.parametrize(
    ("source", "change", "words"),
    [
        ("timm_vit/model.safetensors", add(blocks__0__ls1__gamma=(32,)), "its layers scale what they add"),
        ("timm_vit/model.safetensors", add(blocks__2__gamma_1=(32,)), "its layers scale what they add"),
        ("timm_vit/model.safetensors", add(fc_norm__weight=(32,)), "the mean of the patches"),
        ("timm_vit/model.safetensors", add(reg_token=(1, 4, 32)), "register tokens"),
        ("timm_vit/model.safetensors", add(norm_pre__weight=(32,)), "before the first layer"),
        ("timm_vit/model.safetensors", add(blocks__0__attn__q_norm__weight=(8,)), "normalises queries and keys"),
        ("timm_vit/model.safetensors", add(attn_pool__latent=(1, 1, 32)), "pools by attention"),
        ("timm_vit/model.safetensors", add(pre_logits__fc__weight=(24, 32)), "a representation layer"),
        ("timm_vit/model.safetensors", add(blocks__0__attn__extra=(1,)), "which such models do not have"),
        ("torchvision_vit/vit.pth", add(conv_proj__0__0__weight=(3, 3)), "several convolutions"),
        (
            "google_jax/published.npz",
            lambda arrays: arrays.update({"conv_root/kernel": np.ones((7, 7, 3, 64), "f4")}),
            "a hybrid with a ResNet",
        ),
        (
            "google_jax/published.npz",
            lambda arrays: arrays.update({"block1/unit1/conv_proj/kernel": np.ones((1, 1, 3, 64), "f4")}),
            "which such models do not have",
        ),
        (
            "google_jax/linen.npz",
            lambda arrays: arrays.update({"MAPHead_0/probe": np.ones((1, 1, 32), "f4")}),
            "pools by attention, as SigLIP does",
        ),
    ],
)
def test_a_relative_of_vit_is_told_what_it_is(
    fixture_folder: Path, tmp_path: Path, source: str, change: Change, words: str
) -> None:
    refused(changed(fixture_folder, tmp_path, source, change), words)


@pytest.mark.parametrize("source", ["hf_deit", "hf_beit_shared"])
def test_the_folder_of_a_relative_is_refused(fixture_folder: Path, tmp_path: Path, source: str) -> None:
    with pytest.raises(ValueError, match=r"Google's published \.npz has no place for a (DeiT|BEiT); convert to trans"):
        conversion.convert(fixture_folder / source, tmp_path / "out", "google")
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_class_token_is_in_no_known_format(fixture_folder: Path, tmp_path: Path) -> None:
    """Such as big_vision's default, whose head reads the mean of the patches."""
    refused(
        changed(fixture_folder, tmp_path, "google_jax/linen.npz", lambda arrays: arrays.pop("cls")),
        "is in no format that Trivit knows",
    )


def test_the_folder_of_another_model_is_refused(fixture_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    tensors = load_file(fixture_folder / "timm_vit/model.safetensors")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="has a config.json of model_type 'resnet'; Trivit has no such model"):
        conversion.load(tmp_path)


def test_a_config_that_is_no_json_is_named(fixture_folder: Path, tmp_path: Path) -> None:
    shutil.copy(fixture_folder / "timm_vit/model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json"):
        conversion.load(tmp_path, **HEADS)


def test_names_of_a_stranger_do_not_fill_the_screen(tmp_path: Path) -> None:
    evil: dict[str, Any] = {"x" * 100_000 + "\x1b[2J": np.zeros(1, "f4"), "\u202e\n": np.zeros(1, "f4")}
    save_file(evil, tmp_path / "vit.safetensors")
    with pytest.raises(ValueError, match="names have at most 250 letters") as caught:
        conversion.load(tmp_path / "vit.safetensors")
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
