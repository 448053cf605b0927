import json
import re
import struct

import pytest

from vit_core import ViTConfig, parameters
from vit_core.layouts import FLAX_SCANNED

FIXTURE_TASKS = {
    "hf_vit_model": "model",
    "hf_vit_classifier": "image-classification",
    "hf_vit_masked": "masked-image-modeling",
    "hf_vit_regression": "image-classification",
    "hf_vit_variant_gray_selu": "image-classification",
    "hf_vit_variant_no_qkv_bias_relu": "image-classification",
}


def shapes_in_header(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}


@pytest.mark.parametrize(("name", "task"), FIXTURE_TASKS.items())
def test_the_table_has_the_names_and_shapes_of_transformers_checkpoints(fixture_folder, name, task):
    config = ViTConfig.from_json_file(fixture_folder / name / "config.json")
    table = {row.name: row.shape for row in parameters(config, task)}
    assert table == shapes_in_header(fixture_folder / name / "model.safetensors")


def count(config, task="model", **options):
    return sum(row.size for row in parameters(config, task, **options))


def test_sizes_are_the_published_ones():
    base, large = (
        ViTConfig(num_labels=1000),
        ViTConfig(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, num_labels=1000
        ),
    )
    assert count(base, "image-classification") == 86_567_656  # ViT-B/16, as timm and torchvision count it
    assert count(large, "image-classification") == 304_326_632  # ViT-L/16
    assert count(base, add_pooling_layer=False) == 85_798_656
    assert count(base) - count(base, add_pooling_layer=False) == 768 * 768 + 768


def test_names_are_unique_and_rows_belong_to_a_part():
    rows = parameters(ViTConfig(), use_mask_token=True)
    assert len({row.name for row in rows}) == len(rows)
    assert {row.part for row in rows} == {"embeddings", "encoder", "layernorm", "pooler"}
    assert {row.part for row in parameters(ViTConfig(), "image-classification")} == {
        "embeddings",
        "encoder",
        "layernorm",
        "head",
    }


def test_rows_of_transformer_layers_know_their_layer_and_no_others_do():
    for task in ("model", "image-classification", "masked-image-modeling"):
        rows = parameters(ViTConfig(num_hidden_layers=12), task, use_mask_token=True)
        layers = {row.name: row.layer for row in rows}
        named = {
            name: int(found[1]) if (found := re.search(r"encoder\.layer\.(\d+)\.", name)) else None for name in layers
        }
        assert layers == named
        assert {row.layer for row in rows if row.part == "encoder"} == set(range(12))
        assert {row.layer for row in rows if row.part != "encoder"} == {None}  # "decoder.0.weight", too


def test_initialisers_are_those_of_the_reference():
    starts = {row.name: row.initializer for row in parameters(ViTConfig(num_hidden_layers=1), "masked-image-modeling")}
    assert starts["vit.embeddings.mask_token"] == "zeros"
    assert starts["vit.embeddings.cls_token"] == starts["vit.embeddings.position_embeddings"] == "normal"
    assert starts["decoder.0.weight"] == starts["vit.encoder.layer.0.output.dense.weight"] == "normal"
    assert starts["vit.encoder.layer.0.output.dense.bias"] == starts["vit.layernorm.bias"] == "zeros"
    assert starts["vit.layernorm.weight"] == "ones"


def test_a_row_knows_its_layer_wherever_its_model_stands():
    (row,) = (
        row for row in parameters(ViTConfig(num_hidden_layers=2)) if row.name == "encoder.layer.1.output.dense.bias"
    )
    for prefix in ("backbone.", "towers.1.", "model.vit."):
        there = row.under(prefix)
        assert there.layer == 1
        assert FLAX_SCANNED.path(there) == (*prefix.split(".")[:-1], "encoder", "layer", "output", "dense", "bias")


def test_pruned_heads_narrow_their_layer_only():
    config = ViTConfig(hidden_size=32, num_attention_heads=4, num_hidden_layers=2, pruned_heads={1: [0, 3]})
    shapes = {row.name: row.shape for row in parameters(config)}
    assert shapes["encoder.layer.0.attention.attention.query.weight"] == (32, 32)
    assert shapes["encoder.layer.1.attention.attention.query.weight"] == (16, 32)
    assert shapes["encoder.layer.1.attention.attention.value.bias"] == (16,)
    assert shapes["encoder.layer.1.attention.output.dense.weight"] == (32, 16)


def test_a_non_square_grid_has_a_position_for_each_patch():
    config = ViTConfig(image_size=(48, 80), patch_size=(16, 8))
    assert {row.name: row.shape for row in parameters(config)}["embeddings.position_embeddings"] == (1, 1 + 3 * 10, 768)


def test_without_labels_there_is_no_classifier():
    rows = parameters(ViTConfig(num_labels=0), "image-classification")
    assert not [row for row in rows if row.part == "head"]


def test_a_classifier_that_uses_the_pooler_has_one_and_reads_its_output():
    fields = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "num_labels": 5}
    plain = parameters(ViTConfig(**fields), "image-classification")
    fields |= {"pooler_output_size": 24, "classifier_uses_pooler": True}
    rows = parameters(ViTConfig(**fields), "image-classification")
    assert [row.name for row in rows if row not in plain] == [
        "vit.pooler.dense.weight",
        "vit.pooler.dense.bias",
        "classifier.weight",
    ]
    assert [(row.name, row.shape, row.part, row.initializer) for row in rows[-4:]] == [
        ("vit.pooler.dense.weight", (24, 32), "pooler", "normal"),
        ("vit.pooler.dense.bias", (24,), "pooler", "zeros"),
        ("classifier.weight", (5, 24), "head", "normal"),
        ("classifier.bias", (5,), "head", "zeros"),
    ]
    without_labels = parameters(ViTConfig(**fields | {"num_labels": 0}), "image-classification")
    assert without_labels == rows[:-2]


@pytest.mark.parametrize("task", ["model", "masked-image-modeling"])
def test_what_the_classifier_uses_changes_no_other_model(task):
    size = {"pooler_output_size": 24}
    assert parameters(ViTConfig(classifier_uses_pooler=True, **size), task) == parameters(ViTConfig(**size), task)


def test_a_config_that_was_made_impossible_is_refused():
    config = ViTConfig()
    config.hidden_size = 770
    with pytest.raises(ValueError, match="hidden_size is 770"):
        parameters(config)
