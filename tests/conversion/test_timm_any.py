"""timm's Vision Transformers of any make, which become models of our own config."""

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
from vit_core import VisionTransformerConfig
from vit_core.parameters import parameters

#: For each folder, options that only the name of its architecture tells.
FOLDERS: dict[str, dict[str, Any]] = {
    "timm_avg": {"layer_norm_eps": 1e-6, "classifier_reads": "pooler", "pooler": "mean-norm", "final_norm": False},
    "timm_clip": {"layer_norm_eps": 1e-5, "hidden_act": "quick_gelu", "embedding_norm": True, "pooler": None},
    "timm_deit3": {"positioned": "patches", "register_tokens": 0, "layer_scale": 1e-6},
    "timm_dinov2_reg4": {"positioned": "patches", "register_tokens": 4, "classifier_reads": "class-token"},
    "timm_dinov3": {"rotary_positions": "centres", "rope_theta": 100.0, "layer_norm_eps": 1e-5, "qkv_bias": False},
    "timm_eva02": {"rotary_positions": "indices", "rope_theta": 10000.0, "rotary_grid": (16, 16), "gated_mlp": True},
    "timm_aimv2": {"patch_norm": True, "norm": "rms", "gated_mlp": True, "hidden_act": "silu", "layer_norm_eps": 1e-5},
    "timm_pe": {
        **{"rotary_first": "columns", "rotary_offset": 1.0, "rotary_grid": (14, 14), "rotary_stretch": True},
        **{"pooler": "attention", "pooler_attention_heads": 2, "pooler_intermediate_size": 32},
    },
    "timm_xp": {"halves": "parallel", "norm": "rms", "query_key_norm": True, "embedding_norm": True, "qkv_bias": False},
    "timm_rope_mixed": {"rotary_positions": "mixed", "rotary_first": "columns", "rotary_stretch": False},
    "timm_siglip": {"pooler": "attention", "prefix_tokens": (), "hidden_act": "gelu"},
}
Expected = Callable[[str], Mapping[str, np.ndarray]]


@pytest.mark.parametrize(("source", "options"), FOLDERS.items())
def test_a_folder_says_what_a_model_is_made_of(fixture_folder: Path, source: str, options: dict[str, Any]) -> None:
    found = conversion.load(fixture_folder / source)
    assert (found.format, type(found.config), found.left_out) == ("timm-any", VisionTransformerConfig, ())
    assert {name: getattr(found.config, name) for name in options} == options
    assert list(found.tensors) == [row.name for row in parameters(found.config, found.task)]


@pytest.mark.parametrize("source", FOLDERS)
def test_answers_are_timms(fixture_folder: Path, expected: Expected, source: str) -> None:
    vit_torch, torch = pytest.importorskip("vit_torch"), pytest.importorskip("torch")
    model = vit_torch.VisionTransformerForImageClassification.from_pretrained(fixture_folder / source)
    answers = expected(source)
    images = torch.from_numpy(answers["pixel_values"])
    with torch.no_grad():
        logits, features = model(images).logits.numpy(), model.base_model(images).last_hidden_state.numpy()
    np.testing.assert_allclose(logits, answers["logits"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(features, answers["features"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("source", FOLDERS)
def test_a_folder_is_written_back_as_it_was(fixture_folder: Path, convert: Any, source: str) -> None:
    written = convert(fixture_folder / source, "timm")
    theirs, ours = (load_file(folder / "model.safetensors") for folder in (fixture_folder / source, written))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], tensor) for name, tensor in theirs.items())
    assert conversion.load(written).config == conversion.load(fixture_folder / source).config
    folders = (written, fixture_folder / source)
    described, said = (json.loads((folder / "config.json").read_text()) for folder in folders)
    assert described["global_pool"] == said["global_pool"]


def changed(fixture_folder: Path, folder: Path, source: str, **values: Any) -> Path:
    shutil.copytree(fixture_folder / source, folder, dirs_exist_ok=True)
    said = json.loads((folder / "config.json").read_text())
    arguments = {**said["model_args"], **values.pop("model_args", {})}
    (folder / "config.json").write_text(json.dumps({**said, **values, "model_args": arguments}))
    return folder


@pytest.mark.parametrize(
    ("source", "values", "reason"),
    [
        ("timm_deit3", {"architecture": "my_vit"}, "its architecture, 'my_vit', is none that is known here"),
        ("timm_deit3", {"model_args": {"block_fn": "ParallelThingsBlock"}}, "builds it with block_fn='Parallel"),
        ("timm_dinov3", {"model_args": {"rope_grid_offset": 1.0}}, "'dinov3', have rope_grid_offset=1.0, which Trivit"),
        ("timm_pe", {"model_args": {"rope_rotate_half": True}}, "the type 'cat', have rope_rotate_half=True, which"),
        ("timm_aimv2", {"model_args": {"embed_norm_layer": "layernorm"}}, "are normed by embed_norm_layer='layernorm'"),
        (
            "timm_dinov3",
            {"architecture": "vit_large_patch16_sapiens2"},
            "with (num_kv_heads|attn_only_layer_scale)=T",
        ),
        ("timm_avg", {"model_args": {"global_pool": "max"}, "global_pool": "max"}, "global_pool='max', which Trivit"),
        ("timm_avg", {"model_args": {"pool_include_prefix": True}}, "the mean of all tokens, the class token and"),
        ("timm_clip", {"model_args": {"act_layer": "mish"}}, "asks for act_layer='mish', which Trivit does not have"),
    ],
)
def test_what_cannot_be_exact_is_refused(
    fixture_folder: Path, tmp_path: Path, source: str, values: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        conversion.load(changed(fixture_folder, tmp_path, source, **values))


def test_weights_alone_do_not_tell_an_architecture(fixture_folder: Path, tmp_path: Path) -> None:
    for source in FOLDERS:
        shutil.copy(fixture_folder / source / "model.safetensors", tmp_path / f"{source}.safetensors")
        with pytest.raises(ValueError, match="not supported|in no format|do not have|not the class token"):
            conversion.load(tmp_path / f"{source}.safetensors", num_attention_heads=4)


def test_other_arguments_are_followed(fixture_folder: Path, tmp_path: Path) -> None:
    folder = changed(fixture_folder, tmp_path, "timm_clip", model_args={"act_layer": "gelu"}, global_pool="avg")
    assert conversion.load(folder).config.hidden_act == "gelu"


def test_a_plain_model_of_another_kind_is_not_taken_for_a_vit(fixture_folder: Path, tmp_path: Path) -> None:
    """No tensor shows it: only the name says that its activation is QuickGELU's and its epsilon 1e-5."""
    folder = changed(fixture_folder, tmp_path, "timm_vit", architecture="vit_base_patch16_clip_quickgelu_224")
    config = conversion.load(folder).config
    assert (config.model_type, config.hidden_act, config.layer_norm_eps) == ("vision_transformer", "quick_gelu", 1e-5)


ATTENDS = {"pooler": "attention", "classifier_reads": "pooler", "layer_norm_eps": 1e-6, "hidden_act": "gelu"}


def test_timm_has_no_place_for_every_combination(tmp_path: Path, write_checkpoint: Callable[..., Path]) -> None:
    for number, (options, reason) in enumerate(
        [
            ({"layer_norm_eps": 1e-3, "pooler": None}, "layer_norm_eps=0.001 with norm='layer'"),
            ({"pooler": None, "layer_norm_eps": 1e-6, "relative_positions": "layers"}, "relative positions"),
            ({"pooler": None, "layer_norm_eps": 1e-5, "gated_mlp": True}, r"such layers \(gated\)"),
            ({"pooler": None, "layer_norm_eps": 1e-6, "patch_norm": True}, r"such layers \(with normed patches\)"),
            ({**ATTENDS, "pooler_attention_heads": 2}, "a pooler with sizes of its own"),
            ({**ATTENDS, "pooler": "patch-attention", "rotary_positions": "indices"}, "attends to patches alone"),
        ]
    ):
        source = write_checkpoint(tmp_path / f"from {number}", model_type="vision_transformer", **options)
        with pytest.raises(ValueError, match=reason):
            conversion.convert(source, tmp_path / f"to {number}", "timm")


def test_separate_projections_become_one_and_stay_right(fixture_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(fixture_folder / "timm_eva02", tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in [name for name in tensors if name.endswith("attn.qkv.weight")]:
        start = name.removesuffix("qkv.weight")
        parts = np.split(tensors.pop(name), 3)
        for part, each in zip("qkv", parts, strict=True):
            tensors[f"{start}{part}_proj.weight"] = np.ascontiguousarray(each)
        for part in "qv":
            tensors[f"{start}{part}_proj.bias"] = tensors.pop(f"{start}{part}_bias")
    save_file(tensors, tmp_path / "model.safetensors")
    whole, split = conversion.load(fixture_folder / "timm_eva02"), conversion.load(tmp_path)
    assert split.config == whole.config
    for name, tensor in whole.tensors.items():
        np.testing.assert_array_equal(split.tensors[name].read(), tensor.read())
