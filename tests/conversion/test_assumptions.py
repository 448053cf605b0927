"""What `from_pretrained` warns of where no file tells it, and what silences that."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import conversion
from conversion.checkpoint import open_for_loading
from vit_core import ViTConfig
from vit_core.checkpoint import OpenCheckpoint
from vit_core.hub import locate

Folder = Callable[..., Path]
EPSILON, ACTIVATION = "layer_norm_eps = 1e-12", "hidden_act = gelu"


@pytest.fixture
def trained(write_checkpoint: Folder, tmp_path: Path) -> Folder:
    """Makes a folder as accelerate's save_model and Trainer write it: weights without a config.json."""

    def make(**fields: Any) -> Path:
        folder = write_checkpoint(tmp_path / "trained", **fields)
        (folder / "config.json").unlink()
        return folder

    return make


def opened(source: Path, **given: Any) -> tuple[OpenCheckpoint, list[str]]:
    """The checkpoint, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checkpoint = open_for_loading(locate(source), given)
    assert all(each.category is UserWarning for each in caught)
    return checkpoint, [str(each.message) for each in caught]


def test_one_warning_lists_all_that_changes_an_answer(trained: Folder) -> None:
    checkpoint, said = opened(trained(hidden_size=192, num_attention_heads=6, num_labels=3))
    assert len(said) == 1
    for words in ("num_attention_heads = 3", EPSILON, ACTIVATION, "id2label = LABEL_0 to LABEL_2"):
        assert words in said[0]
    assert said[0].count("\n") == 0
    assert checkpoint.config["num_attention_heads"] == 3


def test_labels_of_imagenet_are_an_assumption(trained: Folder) -> None:
    _, (said,) = opened(trained(num_labels=1000), num_attention_heads=3)
    assert "id2label = ImageNet-1k's labels" in said
    assert "num_attention_heads" not in said


def test_a_model_without_a_head_has_no_labels(trained: Folder) -> None:
    _, (said,) = opened(trained(task="model"), num_attention_heads=3)
    assert "label" not in said


@pytest.mark.parametrize("field", ["num_attention_heads", "layer_norm_eps", "hidden_act"])
def test_a_field_that_is_given_is_not_listed(trained: Folder, field: str) -> None:
    values = {"num_attention_heads": 6, "layer_norm_eps": 1e-6, "hidden_act": "relu"}
    _, (said,) = opened(trained(hidden_size=192), **{field: values[field]})
    assert field not in said
    assert all(other in said for other in values if other != field)


@pytest.mark.parametrize("labels", [{"id2label": dict(enumerate("abcde"))}, {"num_labels": 5}], ids=str)
def test_all_fields_together_silence_the_warning(trained: Folder, labels: Any) -> None:
    given = {"num_attention_heads": 3, "layer_norm_eps": 1e-6, "hidden_act": "gelu"} | labels
    assert opened(trained(), **given)[1] == []


def test_a_config_silences_the_warning(trained: Folder) -> None:
    folder = trained(hidden_act="relu", num_attention_heads=4)
    config = ViTConfig(hidden_size=12, num_attention_heads=4, hidden_act="relu")
    assert opened(folder, **config.to_dict())[1] == []


def test_a_folder_with_a_config_tells_everything(write_checkpoint: Folder, tmp_path: Path) -> None:
    assert opened(write_checkpoint(tmp_path / "saved"))[1] == []


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"])
def test_files_of_transformers_need_their_config(fixture_folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(fixture_folder / "hf_vit_classifier" / name, tmp_path)
    _, (said,) = opened(tmp_path, num_attention_heads=4)
    assert EPSILON in said
    assert ACTIVATION in said


@pytest.mark.parametrize("source", ["google_jax/published.npz", "google_jax/linen.npz"])
def test_what_the_files_of_a_format_never_tell_is_its_convention(fixture_folder: Path, source: str) -> None:
    assert opened(fixture_folder / source)[1] == []


@pytest.mark.parametrize(
    "source", ["dino_vit/backbone.pth", "torchvision_vit/vit.pth", "mae_vit/pretrain.pth", "timm_vit/model.safetensors"]
)
def test_with_heads_given_nothing_else_is_said_of_them(fixture_folder: Path, tmp_path: Path, source: str) -> None:
    alone = shutil.copy(fixture_folder / source, tmp_path)
    assert opened(Path(alone), num_attention_heads=4)[1] == []


@pytest.mark.parametrize("form", ["timm", "dino", "torchvision"])
def test_heads_that_are_guessed_by_a_published_width_are_said(trained: Folder, convert: Any, form: str) -> None:
    source = trained(hidden_size=192, num_attention_heads=6)
    suffix = ".safetensors" if form == "timm" else ".pth"
    file = convert(source, form, f"lone{suffix}", num_attention_heads=6)
    _, (said,) = opened(file)
    assert "num_attention_heads = 3 (published models of width 192 have it)" in said
    assert "layer_norm_eps" not in said


def test_a_width_that_tells_nothing_asks_for_the_heads(trained: Folder) -> None:
    with pytest.raises(ValueError, match="give it as num_attention_heads"):
        open_for_loading(locate(trained()), {})


# timm's architectures


def timm_folder(folder: Path, convert: Any, config: Any, **fields: Any) -> Path:
    made = convert(folder, "timm", "for timm", **fields)
    (made / "config.json").write_text(json.dumps(config))
    return made


@pytest.mark.parametrize(
    ("said", "heads"),
    [
        ({"architecture": "vit_tiny_patch16_224"}, 3),
        ({"architecture": "vit_tiny_patch16_224.augreg_in21k"}, 3),
        ({"architecture": "deit_tiny_patch16_224"}, 3),
        ({"architecture": "vit_tiny_patch16_224", "model_args": {"num_heads": 6}}, 6),
        ({"architecture": "vit_base_patch16_224", "model_args": {"embed_dim": 192}}, 12),
        ({"architecture": "vit_base_patch16_224", "model_args": {"embed_dim": 192, "num_heads": 2}}, 2),
    ],
    ids=str,
)
def test_an_architecture_of_timm_and_its_arguments_tell_the_heads(
    trained: Folder, convert: Any, said: Any, heads: int
) -> None:
    source = trained(hidden_size=192, num_attention_heads=6)
    checkpoint, warned = opened(timm_folder(source, convert, said, num_attention_heads=6))
    assert checkpoint.config["num_attention_heads"] == heads
    assert warned == []


def test_test_vit_has_two_heads_at_width_64(trained: Folder, convert: Any) -> None:
    source = trained(hidden_size=64, num_attention_heads=2)
    folder = timm_folder(source, convert, {"architecture": "test_vit"}, num_attention_heads=2)
    assert opened(folder)[0].config["num_attention_heads"] == 2


@pytest.mark.parametrize("said", [{"architecture": "my_vit"}, {"pretrained_cfg": {}}, {"architecture": "vit_tinyish"}])
def test_where_an_architecture_does_not_tell_the_heads_are_an_assumption(
    trained: Folder, convert: Any, said: Any
) -> None:
    source = trained(hidden_size=192, num_attention_heads=6)
    checkpoint, (warned,) = opened(timm_folder(source, convert, said, num_attention_heads=6))
    assert checkpoint.config["num_attention_heads"] == 3
    assert "num_attention_heads = 3" in warned


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_an_architecture_of_another_width_does_not_tell(trained: Folder, convert: Any, name: str) -> None:
    source = trained(hidden_size=192, num_attention_heads=6)
    folder = timm_folder(source, convert, {"architecture": "vit_base_patch16_224"}, num_attention_heads=6)
    checkpoint, (warned,) = opened(folder / name if name else folder)
    assert checkpoint.config["num_attention_heads"] == 3
    assert "num_attention_heads" in warned


@pytest.mark.parametrize("where", ["config", "arguments"])
def test_a_head_of_timm_that_reads_the_mean_is_no_vits(trained: Folder, convert: Any, where: str) -> None:
    said = {"architecture": "vit_tiny_patch16_224"}
    said |= {"global_pool": "avg"} if where == "config" else {"model_args": {"global_pool": "avg"}}
    source = trained(hidden_size=192, num_attention_heads=3)
    with pytest.raises(ValueError, match="holds a model of Vision Transformer, not of ViT; load it with VisionTransf"):
        open_for_loading(locate(timm_folder(source, convert, said, num_attention_heads=3)), {})


# What a model of someone's own adds


def test_tensors_of_a_subclass_are_passed_on_without_a_config_too(trained: Folder) -> None:
    folder = trained()
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"neck.weight": np.ones((4, 12), np.float32)}, folder / "model.safetensors")
    checkpoint, _ = opened(folder, num_attention_heads=3)
    assert checkpoint.tensors["neck.weight"].shape == (4, 12)
    assert checkpoint.tensors.keys() == tensors.keys() | {"neck.weight"}


def test_a_backbone_in_a_model_of_ones_own_keeps_the_head_beside_it(trained: Folder) -> None:
    folder = trained(task="model")
    tensors = {f"backbone.{name}": array for name, array in load_file(folder / "model.safetensors").items()}
    save_file(tensors | {"head.weight": np.ones((4, 12), np.float32)}, folder / "model.safetensors")
    checkpoint, _ = opened(folder, num_attention_heads=3)
    assert {"head.weight", "embeddings.cls_token"} <= checkpoint.tensors.keys()


def test_with_a_config_given_a_part_of_a_model_is_opened(trained: Folder) -> None:
    folder = trained()
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.bias"]
    save_file(tensors | {"classifier.weight": np.ones((5, 24), np.float32)}, folder / "model.safetensors")
    config = ViTConfig(hidden_size=12, num_attention_heads=3)
    checkpoint, said = opened(folder, **config.to_dict())
    assert said == []
    assert checkpoint.tensors.keys() == tensors.keys()
    with pytest.raises(ValueError, match="classifier"):
        open_for_loading(locate(folder), {"num_attention_heads": 3})


def test_loading_for_conversion_names_assumptions_without_a_warning(trained: Folder) -> None:
    found = conversion.load(trained(hidden_size=192))
    assert {"num_attention_heads", "layer_norm_eps", "hidden_act"} <= {each.name for each in found.assumed}
