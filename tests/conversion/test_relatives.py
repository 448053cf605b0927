"""Relatives of ViT: whose checkpoint it is, which class opens it, and where it can go."""

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
from conversion.casting import Cast
from conversion.checkpoint import model_in, open_for_loading
from conversion.formats import WRITABLE
from conversion.plan import Plan
from vit_core.families import FAMILIES
from vit_core.hub import locate
from vit_core.parameters import parameters

HEADS = {"num_attention_heads": 4}
MAE_HEADS = {**HEADS, "decoder_num_attention_heads": 2}
FOLDERS = {
    "hf_deit": ("deit", "image-classification-with-teacher"),
    "hf_deit_classifier": ("deit", "image-classification"),
    "hf_deit_masked": ("deit", "masked-image-modeling"),
    "hf_vit_mae": ("vit_mae", "pre-training"),
    "hf_beit_layerwise": ("beit", "image-classification"),
    "hf_beit_shared": ("beit", "image-classification"),
    "hf_beit_masked_grads": ("beit", "masked-token-modeling"),
    "hf_data2vec_vision": ("data2vec-vision", "image-classification"),
    "hf_vit_msn": ("vit_msn", "image-classification"),
    "hf_ijepa": ("ijepa", "image-classification"),
    "timm_beitv2": ("beit", "image-classification"),
    "hf_dinov2": ("dinov2", "image-classification"),
    "hf_dinov2_registers": ("dinov2_with_registers", "image-classification"),
    "hf_dinov2_swiglu": ("dinov2", "model"),
    "hf_dinov3": ("dinov3_vit", "model"),
    "hf_dinov3_gated": ("dinov3_vit", "model"),
    "hf_siglip_vision": ("siglip_vision_model", "model"),
    "hf_siglip_classifier": ("siglip_vision_model", "image-classification"),
    "hf_clip_vision": ("clip_vision_model", "model"),
    "hf_clip_projection": ("clip_vision_model", "image-projection"),
    "hf_clip_classifier": ("clip_vision_model", "image-classification"),
}
#: Those whose weights alone do not tell everything that is compared.
UNTELLING = ("timm_beitv2", "hf_vit_msn", "hf_dinov3", "hf_dinov3_gated")


@pytest.mark.parametrize(("source", "kind"), FOLDERS.items())
def test_a_folder_is_of_its_family_and_task(fixture_folder: Path, source: str, kind: tuple[str, str]) -> None:
    found = conversion.load(fixture_folder / source)
    family = FAMILIES[kind[0]]
    config_class = family.config_classes.get(kind[1], family.config_class)
    assert (type(found.config), found.task, found.left_out) == (config_class, kind[1], ())
    assert list(found.tensors) == [row.name for row in parameters(found.config, found.task)]
    assert model_in(locate(fixture_folder / source))[0] is family


@pytest.mark.parametrize(
    "source", ["hf_deit", "hf_beit_shared", "hf_beit_masked_grads", "hf_data2vec_vision", "hf_ijepa"]
)
def test_a_backend_gets_what_transformers_saved_as_it_is(fixture_folder: Path, source: str) -> None:
    folder, config_class = fixture_folder / source, FAMILIES[FOLDERS[source][0]].config_class
    opened = open_for_loading(locate(folder), {}, config_class=config_class)
    assert opened.tensors.keys() == load_file(folder / "model.safetensors").keys()
    assert opened.config["model_type"] == config_class.model_type


@pytest.mark.parametrize("source", [name for name in FOLDERS if name not in UNTELLING])
def test_tensors_alone_tell_the_family(fixture_folder: Path, tmp_path: Path, source: str) -> None:
    shutil.copy(fixture_folder / source / "model.safetensors", tmp_path / "weights.safetensors")
    whole = conversion.load(fixture_folder / source)
    lone = conversion.load(tmp_path / "weights.safetensors", **(MAE_HEADS if "mae" in source else HEADS))
    assert (type(lone.config), lone.task) == (type(whole.config), whole.task)
    assert list(lone.tensors) == list(whole.tensors)
    assert lone.config.architecture == whole.config.architecture
    sizes = ["hidden_size", "intermediate_size", "num_hidden_layers", "image_shape", "patch_shape"]
    sizes += ["num_labels"] if "classification" in whole.task else []
    sizes += ["vocab_size"] if whole.task == "masked-token-modeling" else []
    sizes += ["decoder_hidden_size", "decoder_intermediate_size"] if whole.task == "pre-training" else []
    assert [getattr(lone.config, name) for name in sizes] == [getattr(whole.config, name) for name in sizes]


def test_what_has_the_shape_of_a_vit_may_be_said_to_be_another(fixture_folder: Path, tmp_path: Path) -> None:
    shutil.copy(fixture_folder / "hf_vit_msn/model.safetensors", tmp_path / "weights.safetensors")
    assert conversion.load(tmp_path / "weights.safetensors", **HEADS).config.model_type == "vit"
    found = conversion.load(tmp_path / "weights.safetensors", **HEADS, model_type="vit_msn")
    assert (found.config.model_type, found.config.layer_norm_eps) == ("vit_msn", 1e-6)


def test_relative_positions_tell_the_number_of_heads(fixture_folder: Path, tmp_path: Path) -> None:
    shutil.copy(fixture_folder / "hf_beit_layerwise/model.safetensors", tmp_path / "weights.safetensors")
    assert conversion.load(tmp_path / "weights.safetensors").config.num_attention_heads == 4


@pytest.mark.parametrize(
    ("source", "wanted", "advice"),
    [
        ("hf_deit", "vit", "holds a model of DeiT, not of ViT; load it with DeiTForImageClassificationWithTeacher"),
        ("hf_beit_shared", "deit", "holds a model of BEiT, not of DeiT; load it with BeitForImageClassification"),
        (
            "hf_data2vec_vision",
            "beit",
            "holds a model of data2vec, not of BEiT; load it with Data2VecVisionForImageClassification",
        ),
        ("hf_vit_mae", "deit", "holds a model of MAE, not of DeiT; load it with ViTMAEForPreTraining"),
        ("timm_beitv2", "vit", "holds a model of BEiT, not of ViT; load it with BeitForImageClassification"),
        ("timm_deit_distilled/model.safetensors", "vit", "load it with DeiTForImageClassificationWithTeacher, or with"),
        (
            "timm_vit",
            "deit",
            "holds a model of ViT, not of DeiT; load it with ViTForImageClassification, or with one of the Auto",
        ),
    ],
)
def test_the_wrong_class_is_told_the_right_one(fixture_folder: Path, source: str, wanted: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice) as caught:
        open_for_loading(locate(fixture_folder / source), {}, config_class=FAMILIES[wanted].config_class)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["hf_vit_mae", "hf_vit_msn"])
def test_the_encoder_of_a_relative_that_is_a_vit_opens_as_one(fixture_folder: Path, source: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = open_for_loading(locate(fixture_folder / source), {})
    assert opened.config["model_type"] == "vit"
    assert opened.config["layer_norm_eps"] == conversion.load(fixture_folder / source).config.layer_norm_eps
    assert ("classifier.weight" in opened.tensors) == (source == "hf_vit_msn")
    assert all(
        name.startswith(("vit.", "classifier.", "embeddings.", "encoder.", "layernorm.")) for name in opened.tensors
    )


# Other formats


def test_a_norm_of_a_head_is_not_that_of_the_base_model(write: Callable[..., Path], convert: Any, bits: Any) -> None:
    """BEiT's model for visual tokens has both under the same name, but for what stands before the base model's."""
    source = write("beit", "masked-token-modeling", use_mean_pooling=False, use_mask_token=True, vocab_size=7)
    whole = bits(conversion.load(source).tensors)
    assert whole["layernorm.weight"] != whole["beit.layernorm.weight"]
    for to in ("transformers-bin", "transformers-flax"):
        assert bits(conversion.load(convert(source, to)).tensors) == whole


@pytest.mark.parametrize("to", WRITABLE)
@pytest.mark.parametrize("model_type", [name for name in FAMILIES if name != "vision_transformer"])
def test_a_format_has_a_place_for_a_family_or_says_that_it_has_none(
    write: Callable[..., Path], tmp_path: Path, model_type: str, to: str
) -> None:
    family = FAMILIES[model_type]
    heads = [task for task in family.models if "classification" in task or task == "pre-training"]
    task = next(iter(heads), "model")
    fields = {"intermediate_size": 48} if to == "clip" and model_type.startswith("clip") else {}
    source = write(model_type, task, **fields)
    form = WRITABLE[to].for_family(family)
    if form is None:
        with pytest.raises(ValueError, match=f"has no place for a {family.title}; convert to transformers"):
            conversion.convert(source, tmp_path / "out", to)
        assert not (tmp_path / "out").exists()
        return
    if model_type in ("beit", "data2vec-vision") and to == "timm":
        source = write(model_type, task, use_relative_position_bias=True)
    made = conversion.convert(source, tmp_path / "out", to)
    assert made.compared
    assert conversion.load(tmp_path / "out").config == made.config


def test_the_encoder_of_an_mae_goes_where_vits_go(fixture_folder: Path, convert: Any) -> None:
    whole = conversion.load(fixture_folder / "hf_vit_mae").tensors
    found = conversion.load(convert(fixture_folder / "hf_vit_mae", "dino"), **HEADS)
    assert (found.config.model_type, found.task) == ("vit", "model")
    for name, tensor in found.tensors.items():
        np.testing.assert_array_equal(tensor.numpy(), whole[f"vit.{name}"].numpy())


def test_an_encoder_alone_is_no_mae_in_the_format_of_mae(write: Callable[..., Path], tmp_path: Path) -> None:
    source = write("vit_mae", "model")
    with pytest.raises(ValueError, match=r"has no place for a MAE without decoder\.decoder_embed\.weight; convert"):
        conversion.convert(source, tmp_path / "out", "mae")


def test_a_config_of_mae_beside_its_encoder_alone_is_read(write: Callable[..., Path], convert: Any) -> None:
    folder = convert(write("vit_mae", "pre-training"), "dino")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "vit_mae", "mask_ratio": 0.5}
    (folder / "config.json").write_text(json.dumps(config))
    found = conversion.load(folder)
    assert (found.format, found.config.model_type, found.config.num_attention_heads) == ("dino", "vit", 3)


def test_mae_comes_back_from_its_own_format_as_its_bytes(fixture_folder: Path, convert: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    folder = convert(fixture_folder / "mae_vit/pretrain.pth", "mae", **MAE_HEADS)
    theirs = torch.load(fixture_folder / "mae_vit/pretrain.pth", weights_only=True)["model"]
    ours = torch.load(folder / "mae.pth", weights_only=True)
    assert ours.keys() == {"model"}  # where MAE's own code looks
    assert ours["model"].keys() == theirs.keys()
    assert all(torch.equal(ours["model"][name], tensor) for name, tensor in theirs.items())


def test_a_distilled_checkpoint_of_deit_is_known_by_its_entry(fixture_folder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    arrays = load_file(fixture_folder / "timm_deit_distilled/model.safetensors")
    torch.save({"model": {name: torch.from_numpy(array) for name, array in arrays.items()}}, tmp_path / "deit.pth")
    found = conversion.load(tmp_path / "deit.pth", **HEADS)
    assert (found.format, found.task) == ("deit-distilled", "image-classification-with-teacher")
    assert found.preprocessing["image_mean"] == [0.485, 0.456, 0.406]


def test_what_is_no_beit_of_timm_is_not_taken_for_one(fixture_folder: Path, tmp_path: Path) -> None:
    """EVA's models have biases of queries and values, too, and other MLPs or positions that no tensor shows."""
    arrays = load_file(fixture_folder / "timm_beitv2/model.safetensors")
    kept = {name: array for name, array in arrays.items() if "gamma" not in name and "relative" not in name}
    save_file(kept | {"pos_embed": np.zeros((1, 17, 32), "f4")}, tmp_path / "eva.safetensors")
    with pytest.raises(ValueError, match="its head reads the mean|which such models do not have"):
        conversion.load(tmp_path / "eva.safetensors", **HEADS)


def test_a_mask_token_stays_behind_where_there_is_no_place_for_it(write: Callable[..., Path], convert: Any) -> None:
    source = write("beit", "image-classification", use_mask_token=True, use_relative_position_bias=True)
    found = conversion.load(convert(source, "timm"))
    assert found.config.use_mask_token is False
    assert not any("mask_token" in name for name in found.tensors)


def test_a_plan_says_what_it_is_of(fixture_folder: Path) -> None:
    plan = Plan.of(conversion.load(fixture_folder / "hf_deit"), Cast(), WRITABLE["timm"])
    assert (plan.form.name, plan.task, plan.left_out) == ("timm-deit", "image-classification-with-teacher", ())
    assert {"dist_token", "head.weight", "head_dist.weight"} <= plan.spelt().keys()


@pytest.fixture
def write(write_checkpoint: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Writes a checkpoint of a family into a new folder."""

    def written(model_type: str, task: str, **fields: Any) -> Path:
        sizes = {"hidden_size": 12, "num_attention_heads": 3}
        decoder = {f"decoder_{name}": size for name, size in sizes.items()}
        decoder |= {"decoder_num_hidden_layers": 1, "decoder_intermediate_size": 9}
        more = decoder if model_type == "vit_mae" else {}
        folder = tmp_path / f"source {len(list(tmp_path.iterdir()))}"
        return write_checkpoint(folder, task, model_type=model_type, **more, **fields)

    return written


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        ("hf_vit_mae", "decoder.decoder_layers.", "decoder.decoder_encoder.layer."),
        ("hf_vit_msn", "vit.encoder.layer.", "encoder.layer."),
    ],
)
def test_names_that_only_transformers_5_writes_are_those_of_everyone_else(fixture_folder, tmp_path, source, old, new):
    tensors = load_file(fixture_folder / source / "model.safetensors")
    renamed = {new + name.removeprefix(old) if name.startswith(old) else name: each for name, each in tensors.items()}
    assert renamed.keys() != tensors.keys()
    save_file(renamed, tmp_path / "model.safetensors")
    shutil.copy(fixture_folder / source / "config.json", tmp_path)
    found = conversion.load(tmp_path).tensors
    assert found.keys() == tensors.keys()
    opened = open_for_loading(locate(tmp_path), {}, config_class=type(conversion.load(tmp_path).config)).tensors
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name].read(), array)
        np.testing.assert_array_equal(opened[name].read(), array)
