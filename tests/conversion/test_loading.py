"""Which config a checkpoint gets: from its own files, from a file beside it, from what the caller says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import conversion
from conversion.checkpoint import open_for_loading
from conversion.containers.hdf5_file import write_hdf5
from conversion.containers.weights_file import read_weights
from vit_core import resample_patch_projection
from vit_core.hub import locate
from vit_core.stored_tensor import StoredTensor

HEADS = {"num_attention_heads": 4}
GIVEN = {"layer_norm_eps": 1e-6, "hidden_act": "gelu"}
Folder = Callable[..., Path]


def assumed(checkpoint: conversion.Checkpoint) -> set[str]:
    return {each.name for each in checkpoint.assumed}


# Folders


def test_a_checkpoint_says_where_it_comes_from(fixture_folder: Path) -> None:
    folder = fixture_folder / "hf_vit_classifier"
    found = conversion.load(folder)
    assert found.files == (folder / "config.json", folder / "model.safetensors")
    assert found.preprocessing == json.loads((folder / "preprocessor_config.json").read_text())
    assert (found.assumed, found.left_out) == ((), ())


def test_safetensors_come_before_pickles_and_pickles_before_tensorflow(fixture_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(fixture_folder / "hf_vit_classifier", folder)
    for name in ("model.safetensors", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"):
        assert conversion.load(folder).files[-1].name == name
        (folder / name).unlink()
    (folder / "expected.npz").unlink()
    with pytest.raises(OSError, match=r"has no weights.*looked for model\.safetensors.*flax_model\.msgpack"):
        conversion.load(folder)


def test_a_single_other_file_of_weights_is_the_one(fixture_folder: Path, tmp_path: Path) -> None:
    shutil.copy(fixture_folder / "google_jax/published.npz", tmp_path / "ViT-B_16.npz")
    (tmp_path / "notes.txt").write_text("no weights")
    assert conversion.load(tmp_path).format == "google"
    shutil.copy(fixture_folder / "google_jax/linen.npz", tmp_path)
    with pytest.raises(OSError, match=r"several files of weights, ViT-B_16\.npz, linen\.npz; name the one to read"):
        conversion.load(tmp_path)
    assert conversion.load(tmp_path / "linen.npz").format == "google-linen"


def test_pickles_in_shards_are_one_model(fixture_folder: Path, tmp_path: Path, bits: Any) -> None:
    torch = pytest.importorskip("torch")
    folder = fixture_folder / "hf_vit_classifier"
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    shards = {"pytorch_model-00001-of-00002.bin": names[:20], "pytorch_model-00002-of-00002.bin": names[20:]}
    for file, part in shards.items():
        torch.save({name: torch.from_numpy(tensors[name]) for name in part}, tmp_path / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    shutil.copy(folder / "config.json", tmp_path)
    assert bits(conversion.load(tmp_path).tensors) == bits(conversion.load(folder).tensors)


def test_tensorflows_files_in_shards_are_one_model(fixture_folder: Path, tmp_path: Path, bits: Any) -> None:
    """As transformers 4.47.1 writes them: the model's name stands before each name in the index, and in no shard."""
    whole = fixture_folder / "hf_vit_classifier"
    shutil.copy(whole / "config.json", tmp_path)
    model = "tf_vi_t_for_image_classification/"
    tensors = {name.partition(model)[2]: each for name, each in read_weights(whole / "tf_model.h5").items()}
    weight_map = {}
    for number, start in enumerate((0, 20), start=1):
        names = list(tensors)[start : start + 20 if number == 1 else None]
        shard = f"tf_model-0000{number}-of-00002.h5"
        write_hdf5(tmp_path / shard, {name: tensors[name] for name in names})
        weight_map |= {model + name: shard for name in names}
    (tmp_path / "tf_model.h5.index.json").write_text(json.dumps({"weight_map": weight_map}))
    found = conversion.load(tmp_path)
    assert (found.format, found.task) == ("transformers-tf", "image-classification")
    assert bits(found.tensors) == bits(conversion.load(whole / "tf_model.h5").tensors)


def test_a_subfolder_is_read(fixture_folder: Path) -> None:
    assert conversion.load(fixture_folder, subfolder="timm_vit").format == "timm"


@pytest.mark.parametrize(
    "source",
    [
        "hf_vit_classifier",
        "hf_vit_classifier/tf_model.h5",
        "hf_vit_classifier/flax_model.msgpack",
        "google_jax/published.npz",
        "timm_vit",
        "dino_vit/full_checkpoint.pth",
    ],
)
def test_opening_reads_no_weights(fixture_folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    def refuse() -> np.ndarray:
        raise AssertionError("weights were read")

    def unread(path: Path, mmap: bool) -> dict[str, StoredTensor]:
        return {name: replace(tensor, read=refuse) for name, tensor in read_weights(path, mmap).items()}

    monkeypatch.setattr("conversion.sources.read_weights", unread)
    tensors = conversion.load(fixture_folder / source, **HEADS).tensors
    with pytest.raises(AssertionError, match="weights were read"):
        next(iter(tensors.values())).read()


# A config.json beside a file that was named


def beside(tmp_path: Path, weights: Path, config: Path) -> Path:
    shutil.copy(weights, tmp_path / f"named{weights.suffix}")
    shutil.copy(config, tmp_path / "config.json")
    return tmp_path / f"named{weights.suffix}"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"image_size": (24, 16), "patch_size": (8, 4)},
        {"classifier_uses_pooler": True, "pooler_output_size": 7},
        {"pooler_output_size": 12},
        {"qkv_bias": False, "hidden_act": "relu", "layer_norm_eps": 1e-3},
        {"pruned_heads": {0: [1]}},
    ],
    ids=lambda fields: " ".join(fields) or "plain",
)
def test_a_config_beside_a_named_file_is_used_if_it_fits(write_checkpoint: Folder, tmp_path: Path, fields: Any) -> None:
    folder = write_checkpoint(tmp_path / "model", **fields)
    found = conversion.load(folder / "model.safetensors")
    assert found.config == conversion.load(folder).config
    assert not assumed(found) & {"num_attention_heads", "hidden_act", "layer_norm_eps"}


def test_a_pooler_of_the_models_own_width_may_be_said_so(write_checkpoint: Folder, tmp_path: Path) -> None:
    """transformers 4.48 and later write `pooler_output_size` into every config."""
    folder = write_checkpoint(tmp_path / "model", "model", add_pooling_layer=True, pooler_output_size=12)
    found = conversion.load(folder / "model.safetensors")
    assert found.config.num_attention_heads == 3
    assert "num_attention_heads" not in assumed(found)


def test_a_config_beside_a_named_file_that_does_not_fit_is_left_alone(
    fixture_folder: Path, tmp_path: Path, write_checkpoint: Folder
) -> None:
    other = write_checkpoint(tmp_path / "other", hidden_act="relu", num_labels=3, layer_norm_eps=1e-3)
    named = beside(tmp_path, fixture_folder / "timm_vit/model.safetensors", other / "config.json")
    found = conversion.load(named, **HEADS)
    assert (found.config.hidden_size, found.config.hidden_act, found.config.num_labels) == (32, "gelu", 10)
    assert {"hidden_act", "layer_norm_eps"} <= assumed(found)


def test_a_config_of_timm_that_does_not_fit_says_nothing_of_preprocessing(
    fixture_folder: Path, tmp_path: Path, write_checkpoint: Folder
) -> None:
    config = json.loads((fixture_folder / "timm_vit/config.json").read_text())
    config["pretrained_cfg"]["mean"] = [0.1, 0.2, 0.3]
    (tmp_path / "config.json").write_text(json.dumps(config))
    folder = write_checkpoint(tmp_path / "other")
    shutil.copy(folder / "model.safetensors", tmp_path / "named.safetensors")
    found = conversion.load(tmp_path / "named.safetensors", num_attention_heads=3)
    assert found.preprocessing["image_mean"] == [0.5, 0.5, 0.5]
    assert "preprocessing" in assumed(found)


def test_every_framework_leaves_a_config_alone_that_does_not_fit(write_checkpoint: Folder, tmp_path: Path) -> None:
    """What `from_pretrained` opens is what `conversion.load` opens."""
    one = write_checkpoint(tmp_path / "one", hidden_size=24)
    other = write_checkpoint(tmp_path / "other", hidden_act="relu")
    named = beside(tmp_path, one / "model.safetensors", other / "config.json")
    with pytest.warns(UserWarning, match="layer_norm_eps = 1e-12"):
        opened = open_for_loading(locate(named), {"num_attention_heads": 3})
    assert (opened.config["hidden_size"], opened.config["hidden_act"]) == (24, "gelu")


def test_a_config_of_another_model_refuses_a_folder(tmp_path: Path, write_checkpoint: Folder) -> None:
    folder = write_checkpoint(tmp_path / "model")
    (folder / "config.json").write_text('{"model_type": "swin", "hidden_size": 12}')
    with pytest.raises(ValueError, match="has a config.json of model_type 'swin'; Trivit has no such model"):
        conversion.load(folder)


# What the caller says


def test_fields_that_are_given_come_before_those_of_files(fixture_folder: Path) -> None:
    found = conversion.load(fixture_folder / "hf_vit_classifier", hidden_act="relu", num_attention_heads=8)
    assert (found.config.hidden_act, found.config.num_attention_heads) == ("relu", 8)
    found = conversion.load(fixture_folder / "google_jax/published.npz", layer_norm_eps=1e-3)
    assert found.config.layer_norm_eps == 1e-3
    assert "layer_norm_eps" not in assumed(found)


def test_a_field_that_contradicts_a_shape_is_refused(fixture_folder: Path) -> None:
    for fields in ({"intermediate_size": 60}, {"num_labels": 11}, {"hidden_size": 64}):
        with pytest.raises(ValueError, match="the file or a given field is wrong"):
            conversion.load(fixture_folder / "google_jax/published.npz", **fields)


def test_layers_that_split_their_width_differently_are_refused(fixture_folder: Path, tmp_path: Path) -> None:
    """The shapes say 4 heads in two layers and 8 in the third; no config says that."""
    with np.load(fixture_folder / "google_jax/published.npz") as file:
        arrays = dict(file)
    for name, array in arrays.items():
        if "encoderblock_2/MultiHead" in name and "/out/" not in name:
            arrays[name] = array.reshape(*array.shape[:-2], 8, 4)
    np.savez(tmp_path / "vit.npz", **arrays)
    with pytest.raises(ValueError, match="heads"):
        conversion.load(tmp_path / "vit.npz")


def test_a_shape_that_tells_the_number_of_heads_is_believed_rather_than_a_config_beside(
    fixture_folder: Path, tmp_path: Path
) -> None:
    config = json.loads((fixture_folder / "hf_vit_classifier/config.json").read_text())
    named = tmp_path / "vit.npz"
    shutil.copy(fixture_folder / "google_jax/published.npz", named)
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_attention_heads": 8}))
    assert conversion.load(named).config.num_attention_heads == 4


# timm's own config.json


@pytest.fixture
def timm(fixture_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """timm's fixture with another `config.json`: of each part of it, fields to set."""

    def write(top: Any = (), model_args: Any = (), pretrained_cfg: Any = ()) -> Path:
        folder = tmp_path / "timm"
        shutil.copytree(fixture_folder / "timm_vit", folder, dirs_exist_ok=True)
        config = json.loads((fixture_folder / "timm_vit/config.json").read_text())
        config["model_args"] |= dict(model_args)
        config["pretrained_cfg"] |= dict(pretrained_cfg)
        (folder / "config.json").write_text(json.dumps(config | dict(top)))
        return folder

    return write


def test_arguments_of_timm_are_fields_of_a_config(timm: Any) -> None:
    found = conversion.load(timm())
    assert (found.config.num_attention_heads, found.config.image_size, found.config.hidden_size) == (4, 32, 32)
    assert (found.config.intermediate_size, found.config.num_labels) == (64, 10)
    assert (found.config.hidden_act, found.config.layer_norm_eps) == ("gelu", 1e-6)
    assert "num_attention_heads" not in assumed(found)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("gelu_tanh", "gelu_pytorch_tanh"), ("quick_gelu", "quick_gelu"), ("relu", "relu"), ("silu", "silu")],
)
def test_an_activation_of_timm_has_a_name_here(timm: Any, theirs: str, ours: str) -> None:
    assert conversion.load(timm(model_args={"act_layer": theirs})).config.hidden_act == ours


@pytest.mark.parametrize("name", ["swish_jit", ["gelu"], {"name": "gelu"}, 3])
def test_an_activation_that_trivit_lacks_is_named(timm: Any, name: Any) -> None:
    with pytest.raises(ValueError, match="act_layer="):
        conversion.load(timm(model_args={"act_layer": name}))


def test_labels_of_timm_have_their_descriptions(timm: Any) -> None:
    names = [f"n{number}" for number in range(10)]
    found = conversion.load(timm({"label_names": names, "label_descriptions": {"n3": "a cat"}}))
    assert [found.config.id2label[number] for number in (2, 3)] == ["n2", "a cat"]


@pytest.mark.parametrize(
    ("said", "size", "crop"),
    [
        ({"crop_pct": 0.9}, {"shortest_edge": 35}, {"height": 32, "width": 32}),  # floor(32 / 0.9)
        ({"crop_pct": 0.875}, {"shortest_edge": 36}, {"height": 32, "width": 32}),
        ({"crop_pct": 1.0}, {"shortest_edge": 32}, {"height": 32, "width": 32}),
        ({"crop_pct": 1.0, "crop_mode": "squash"}, {"height": 32, "width": 32}, None),
    ],
)
def test_the_evaluation_of_timm_is_the_preprocessing(timm: Any, said: Any, size: Any, crop: Any) -> None:
    said = said | {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear"}
    found = conversion.load(timm(pretrained_cfg=said)).preprocessing
    assert (found["image_mean"], found["image_std"], found["resample"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6], 2)
    assert (found["size"], found.get("crop_size")) == (size, crop)


def test_older_files_of_timm_are_flat(fixture_folder: Path, tmp_path: Path) -> None:
    shutil.copy(fixture_folder / "timm_vit/model.safetensors", tmp_path)
    flat = {
        "architecture": "vit_tiny_patch16_224",
        "mean": [0.1, 0.2, 0.3],
        "crop_pct": 1.0,
        "interpolation": "bicubic",
    }
    (tmp_path / "config.json").write_text(json.dumps(flat))
    found = conversion.load(tmp_path, **HEADS).preprocessing
    assert (found["image_mean"], found["resample"], found["size"]) == ([0.1, 0.2, 0.3], 3, {"shortest_edge": 32})


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("pretrained_cfg", {"crop_pct": crop})
        for crop in (-1, 1e-320, 1e308, 1e-5, "much", [0.9], {"a": 1}, True, float("nan"), float("inf"))
    ]
    + [
        ("pretrained_cfg", {"mean": 5}),
        ("pretrained_cfg", {"mean": ["a", "b", "c"]}),
        ("pretrained_cfg", {"std": [0, 0, 0]}),
        ("pretrained_cfg", {"interpolation": ["bicubic"]}),
        ("pretrained_cfg", {"interpolation": {}}),
        ("top", {"pretrained_cfg": 5}),
        ("top", {"model_args": 5}),
        ("top", {"label_names": [["a"]] * 10}),
        ("top", {"label_names": [{}] * 10, "label_descriptions": {"a": 1}}),
        ("top", {"label_names": ["a"]}),
        ("top", {"label_descriptions": 5}),
        ("top", {"trivit_config": 5}),
        ("top", {"trivit_config": {"hidden_size": "x"}}),
        ("top", {"architecture": 5}),
        ("model_args", {"img_size": 1.5}),
        ("model_args", {"img_size": "large"}),
        ("model_args", {"img_size": [32, 32, 32]}),
        ("model_args", {"img_size": [[32], 32]}),
        ("model_args", {"num_heads": "four"}),
        ("model_args", {"depth": -1}),
        ("model_args", {"patch_size": [8]}),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else value,
)
def test_nonsense_in_a_config_of_timm_is_a_valueerror_or_passed_over(timm: Any, part: str, fields: Any) -> None:
    folder = timm(**{part: fields})
    try:
        found = conversion.load(folder, **(HEADS if "model_args" in fields else {}))
    except ValueError as error:
        said = str(error)
        assert said.endswith(".")
        assert "to unpack" not in said
    else:
        assert found.config.hidden_size == 32


NONSENSE = [1.5, "abc", ["a", "b"], [1, 2, 3], {"a": 1}, [[1], [2]], [16], True, None, -16, 0, 1e400]


@pytest.mark.parametrize("field", ["image_size", "patch_size", "hidden_size", "id2label", "pruned_heads", "hidden_act"])
@pytest.mark.parametrize("value", NONSENSE, ids=str)
def test_nonsense_in_a_config_is_a_valueerror_or_passed_over(
    tmp_path: Path, write_checkpoint: Folder, field: str, value: Any
) -> None:
    folder = write_checkpoint(tmp_path / "model", num_hidden_layers=0)
    config = json.loads((folder / "config.json").read_text()) | {field: value}
    (folder / "config.json").write_text(json.dumps(config))
    try:
        found = conversion.load(folder)
    except ValueError as error:
        said = str(error)
        assert said.endswith(".")
        assert "to unpack" not in said
    else:
        assert found.config.hidden_size == 12


# KerasHub's own config.json


def test_a_preset_of_keras_hub_is_read(fixture_folder: Path, convert: Any, bits: Any) -> None:
    source = conversion.load(fixture_folder / "google_jax/published.npz", hidden_act="gelu")
    folder = convert(fixture_folder / "google_jax/published.npz", "keras-hub", hidden_act="gelu")
    preset = {
        "module": "keras_hub.src.models.vit.vit_backbone",
        "class_name": "ViTBackbone",
        "config": {
            "name": "vi_t_backbone",
            "trainable": True,
            "image_shape": [32, 32, 3],
            "patch_size": [8, 8],
            "num_layers": 3,
            "num_heads": 4,
            "hidden_dim": 32,
            "mlp_dim": 56,
            "dropout_rate": 0.1,
            "attention_dropout": 0.2,
            "layer_norm_epsilon": 1e-5,
            "use_mha_bias": True,
            "use_mlp_bias": True,
        },
        "registered_name": "keras_hub>ViTBackbone",
    }
    (folder / "config.json").write_text(json.dumps(preset))
    found = conversion.load(folder)
    assert found.format == "keras-hub"
    config = found.config
    assert (config.layer_norm_eps, config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (1e-5, 0.1, 0.2)
    assert (config.image_size, config.patch_size, config.num_attention_heads, config.num_labels) == (32, 8, 4, 10)
    assert assumed(found) & {"layer_norm_eps", "num_attention_heads"} == set()
    assert bits(found.tensors) == bits(source.tensors)


# What a checkpoint does not have


def test_a_tensor_that_such_models_do_not_have_is_named(fixture_folder: Path, tmp_path: Path) -> None:
    tensors = load_file(fixture_folder / "timm_vit/model.safetensors") | {"blocks.0.attn.extra": np.zeros(3, "f4")}
    save_file(tensors, tmp_path / "vit.safetensors")
    with pytest.raises(ValueError, match=r"recognised as timm, but holds .?blocks\.0\.attn\.extra"):
        conversion.load(tmp_path / "vit.safetensors", **HEADS)


def test_the_decoder_of_mae_is_left_out_where_a_vit_is_wanted(fixture_folder: Path) -> None:
    for source in ("mae_vit/pretrain.pth", "hf_vit_mae"):
        found = open_for_loading(locate(fixture_folder / source), HEADS | GIVEN)
        assert not any("decoder" in name for name in (*found.tensors, *found.config))
        assert found.config["model_type"] == "vit"
        assert conversion.load(fixture_folder / source, **HEADS, model_type="vit").task == "model"


# Patches of another size


@pytest.mark.parametrize("source", ["hf_vit_classifier", "timm_vit", "google_jax/published.npz"])
def test_a_patch_size_that_is_given_is_that_of_the_model(fixture_folder: Path, source: str) -> None:
    trained = conversion.load(fixture_folder / source, **HEADS)
    found = conversion.load(fixture_folder / source, patch_size=(4, 12), image_size=48, **HEADS)
    assert (found.config.patch_size, found.config.image_size) == ((4, 12), 48)
    assert assumed(found) - assumed(trained) == {"patch_resampling"}
    name = "vit.embeddings.patch_embeddings.projection.weight"
    wanted = resample_patch_projection(trained.tensors[name].numpy(), (4, 12))
    np.testing.assert_array_equal(found.tensors[name].numpy(), wanted)
    positions = found.tensors["vit.embeddings.position_embeddings"]
    assert positions.shape == (1, 1 + 12 * 4, 32)
    chosen = conversion.load(fixture_folder / source, patch_size=16, patch_resampling="bilinear", **HEADS)
    assert assumed(chosen) == assumed(trained)
    bilinear = resample_patch_projection(trained.tensors[name].numpy(), 16, "bilinear")
    np.testing.assert_array_equal(chosen.tensors[name].numpy(), bilinear)


def test_a_checkpoint_in_half_precision_stays_so_with_patches_of_another_size(
    fixture_folder: Path, tmp_path: Path
) -> None:
    conversion.convert(fixture_folder / "hf_vit_classifier", tmp_path / "half", dtype="bfloat16")
    conversion.convert(tmp_path / "half", tmp_path / "other", patch_size=4)
    other = conversion.load(tmp_path / "other")
    assert other.config.patch_size == 4
    assert {tensor.dtype for tensor in other.tensors.values()} == {"BF16"}


def test_a_flexible_model_of_timm_is_resampled_as_it_was_trained(fixture_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(fixture_folder / "timm_siglip", tmp_path / "flexible")
    file = tmp_path / "flexible/config.json"
    fields = json.loads(file.read_text())
    fields["architecture"] = "flexivit_small"
    fields["model_args"] = {"no_embed_class": True, **fields["model_args"]}
    file.write_text(json.dumps(fields))
    found = conversion.load(tmp_path / "flexible", patch_size=16)
    assert found.config.position_resampling == "bilinear"
    assert "patch_resampling" not in assumed(found)


def test_a_model_that_predicts_pixels_keeps_its_patches(fixture_folder: Path) -> None:
    with pytest.raises(ValueError, match="predicts the pixels of patches"):
        conversion.load(fixture_folder / "hf_vit_mae", patch_size=4)
