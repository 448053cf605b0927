"""A model's config from shapes alone, and what is assumed where shapes do not tell."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import conversion
from vit_core import ViTConfig, parameters
from vit_core.parameters import Task

Headers = Callable[..., Path]


@pytest.fixture
def headers(tmp_path: Path) -> Headers:
    """Writes a file in canonical names whose weights are a hole on the disk, so that sizes cost nothing."""

    def write(task: Task = "model", *, without: str = "?", add_pooling_layer: bool = False, **fields: Any) -> Path:
        config = ViTConfig(**({"num_hidden_layers": 1} | fields))
        header, end = {}, 0
        for row in parameters(config, task, add_pooling_layer=add_pooling_layer):
            if row.name.startswith(without):
                continue
            start, end = end, end + 4 * row.size
            header[row.name] = {"dtype": "F32", "shape": list(row.shape), "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        file = tmp_path / "vit.safetensors"
        with open(file, "wb") as stream:
            stream.write(struct.pack("<Q", len(text)) + text)
            stream.truncate(8 + len(text) + end)
        return file

    return write


def assumed(checkpoint: conversion.Checkpoint) -> dict[str, Any]:
    return {each.name: each.value for each in checkpoint.assumed}


#: Width and heads of the models in table 1 of Dosovitskiy et al. 2020 (B, L, H), table 1 of Touvron et al. 2020 (Ti, S)
#: and table 2 of Zhai et al. 2021 (g, G).
PUBLISHED = {
    "Ti": (192, 3),
    "S": (384, 6),
    "B": (768, 12),
    "L": (1024, 16),
    "H": (1280, 16),
    "g": (1408, 16),
    "G": (1664, 16),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_heads_are_those_of_the_published_model_of_that_width(headers: Headers, name: str) -> None:
    width, heads = PUBLISHED[name]
    found = conversion.load(headers(hidden_size=width, num_attention_heads=heads))
    assert found.config.num_attention_heads == heads
    (why,) = (each for each in found.assumed if each.name == "num_attention_heads")
    assert str(why) == f"num_attention_heads = {heads} (published models of width {width} have it)"


def test_heads_of_another_width_are_assumed_to_be_64_wide(headers: Headers) -> None:
    found = conversion.load(headers(hidden_size=512, num_attention_heads=4))
    assert found.config.num_attention_heads == 8
    assert assumed(found)["num_attention_heads"] == 8


def test_an_unknown_width_asks_for_the_number_of_heads(headers: Headers) -> None:
    file = headers(hidden_size=100, num_attention_heads=5)
    with pytest.raises(ValueError, match="no published model of width 100 does; give it as num_attention_heads"):
        conversion.load(file)
    found = conversion.load(file, num_attention_heads=5)
    assert found.config.num_attention_heads == 5
    assert "num_attention_heads" not in assumed(found)


@pytest.mark.parametrize(
    "fields",
    [
        {"image_size": 384, "patch_size": 32},
        {"image_size": 224, "patch_size": 14, "intermediate_size": 1000},
        {"image_size": 28, "patch_size": 7, "num_channels": 1},
        {"num_hidden_layers": 12, "qkv_bias": False},
        {"image_size": (448, 224), "patch_size": (32, 16)},
    ],
)
def test_sizes_are_told_by_shapes(headers: Headers, fields: dict[str, Any]) -> None:
    config = conversion.load(headers(**fields)).config
    assert {name: getattr(config, name) for name in fields} == fields


@pytest.mark.parametrize(("patch_size", "image_size", "patches"), [(16, (224, 384), 336), ((8, 4), (24, 16), 12)])
def test_positions_for_no_square_ask_for_the_size_of_the_image(
    headers: Headers, patch_size: Any, image_size: tuple[int, int], patches: int
) -> None:
    file = headers(image_size=image_size, patch_size=patch_size)
    with pytest.raises(ValueError, match=f"positions for {patches} patches .* give image_size as \\[height, width\\]"):
        conversion.load(file)
    for size in (image_size, list(image_size)):
        assert conversion.load(file, image_size=size).config.image_shape == image_size
    with pytest.raises(ValueError, match=f"positions for {patches} patches"):
        conversion.load(file, image_size=image_size[0])


def test_a_size_that_leaves_pixels_over_is_taken_if_its_patches_are_as_many(headers: Headers) -> None:
    file = headers(image_size=225, patch_size=16)
    assert conversion.load(file).config.image_size == 224
    assert conversion.load(file, image_size=225).config.image_size == 225


def test_a_head_for_1000_classes_is_imagenets(headers: Headers) -> None:
    found = conversion.load(headers("image-classification", num_labels=1000))
    labels = found.config.id2label
    assert len(labels) == 1000
    assert labels[0] == "tench, Tinca tinca"
    assert labels[281] == "tabby, tabby cat"
    assert labels[999] == "toilet tissue, toilet paper, bathroom tissue"
    assert assumed(found)["id2label"] == "ImageNet-1k's labels"


@pytest.mark.parametrize("count", [999, 1001, 21843])
def test_a_head_for_another_number_of_classes_has_no_names(headers: Headers, count: int) -> None:
    found = conversion.load(headers("image-classification", num_labels=count))
    assert found.config.num_labels == count
    assert found.config.id2label[count - 1] == f"LABEL_{count - 1}"
    assert "id2label" not in assumed(found)


def test_labels_that_are_given_are_not_assumed(headers: Headers) -> None:
    labels = {number: f"thing {number}" for number in range(1000)}
    found = conversion.load(headers("image-classification", num_labels=1000), id2label=labels)
    assert found.config.id2label == labels
    assert "id2label" not in assumed(found)


def test_the_pooler_and_the_decoder_tell_their_sizes(headers: Headers) -> None:
    found = conversion.load(headers(add_pooling_layer=True, pooler_output_size=100))
    assert (found.task, found.config.pooler_output_size) == ("model", 100)
    found = conversion.load(headers(add_pooling_layer=True))
    assert found.config.pooler_output_size is None
    found = conversion.load(headers("masked-image-modeling", encoder_stride=8))
    assert (found.task, found.config.encoder_stride) == ("masked-image-modeling", 8)


def test_what_a_format_has_for_granted_is_assumed_and_named(headers: Headers) -> None:
    found = conversion.load(headers())
    assert {name: assumed(found)[name] for name in ("hidden_act", "layer_norm_eps")} == {
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    }
    given = conversion.load(headers(), hidden_act="relu", layer_norm_eps=1e-6)
    assert (given.config.hidden_act, given.config.layer_norm_eps) == ("relu", 1e-6)
    assert not {"hidden_act", "layer_norm_eps"} & set(assumed(given))


@pytest.mark.parametrize("name", ["embeddings.cls_token", "embeddings.position_embeddings", "embeddings.patch"])
def test_without_its_embeddings_it_is_no_vision_transformer(headers: Headers, name: str) -> None:
    with pytest.raises(ValueError, match="Vision Transformer|no format that Trivit knows|no square image"):
        conversion.load(headers(without=name))  # without a class token it may be an I-JEPA, whose positions do not fit


def test_config_fields_that_do_not_exist_are_refused(headers: Headers) -> None:
    with pytest.raises(TypeError, match="'num_heads' is no field of a config"):
        conversion.load(headers(), num_heads=12)
