"""The files that the authors of DINO, DINOv2, DINOv3, CLIP and SigLIP published, or their code writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import conversion
from conversion.containers.weights_file import read_weights
from conversion.formats import WRITABLE
from vit_core.parameters import parameters

HEADS = {"num_attention_heads": 4}
#: For each file: what else has to be said, the model, and its format.
FILES: dict[str, tuple[dict[str, Any], str, str]] = {
    "dinov2_original/backbone.pth": (HEADS, "Dinov2WithRegistersModel", "dinov2-registers"),
    "dinov2_original_swiglu/backbone.pth": (HEADS, "Dinov2Model", "dinov2"),
    "dinov3_original/backbone.pth": ({}, "DINOv3ViTModel", "dinov3"),
    "dinov3_original_swiglu/backbone.pth": ({}, "DINOv3ViTModel", "dinov3"),
    "clip_original/clip.pt": (HEADS, "CLIPVisionModelWithProjection", "clip"),
    "big_vision_siglip/siglip.npz": ({}, "SiglipVisionModel", "big-vision-siglip"),
    "big_vision_siglip/siglip2_stacked.npz": ({}, "SiglipVisionModel", "big-vision-siglip"),
}
Expected = Callable[[str], Mapping[str, np.ndarray]]


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_a_model_of_its_family(fixture_folder: Path, tmp_path: Path, file: str) -> None:
    given, model, form = FILES[file]
    found = conversion.load(fixture_folder / file, **given)
    assert (found.format, found.config.architectures) == (form, [model])
    assert list(found.tensors) == [row.name for row in parameters(found.config, found.task)]
    made = conversion.convert(fixture_folder / file, tmp_path / "made", **given)
    again = conversion.load(tmp_path / "made")
    assert (again.config, made.compared) == (made.config, len(found.tensors))
    assert again.config.architecture == found.config.architecture


@pytest.mark.filterwarnings("ignore:.*the text tower, .* is left out")
@pytest.mark.parametrize("file", FILES)
def test_answers_are_the_originals(fixture_folder: Path, expected: Expected, file: str) -> None:
    vit_torch, torch = pytest.importorskip("vit_torch"), pytest.importorskip("torch")
    given, model, _ = FILES[file]
    made = getattr(vit_torch, model).from_pretrained(fixture_folder / file, **given)
    answers = expected(file.partition("/")[0])
    images = {"": "pixel_values", "large/": "pixel_values_large", "masked/": "pixel_values"}
    prefix = made.config.architecture.num_prefix_tokens
    for start, name in images.items():
        if name not in answers:
            continue
        is_masked = start == "masked/" and "bool_masked_pos" in answers
        masked = {"bool_masked_pos": torch.from_numpy(answers["bool_masked_pos"])} if is_masked else {}
        with torch.no_grad():
            output = made(torch.from_numpy(answers[name]), **masked)
        tokens = output.last_hidden_state
        told = {
            "x_norm_clstoken": tokens[:, 0],
            "x_norm_regtokens": tokens[:, 1:prefix],
            "x_storage_tokens": tokens[:, 1:prefix],
            "x_norm_patchtokens": tokens[:, prefix:],
            "encoded": tokens,
            "pre_logits": getattr(output, "pooler_output", None),
            "image_embeds": getattr(output, "image_embeds", None),
        }
        for key, answer in told.items():
            if start + key in answers:
                np.testing.assert_allclose(answer.numpy(), answers[start + key], atol=1e-5, rtol=0)


def test_dinos_positions_are_resampled_as_its_code_does_it(fixture_folder: Path, expected: Expected) -> None:
    vit_torch, torch = pytest.importorskip("vit_torch"), pytest.importorskip("torch")
    model = vit_torch.ViTModel.from_pretrained(
        fixture_folder / "dino_vit/backbone.pth", add_pooling_layer=False, **HEADS
    )
    answers = expected("dino_vit")
    images = torch.from_numpy(answers["pixel_values_large"])
    with torch.no_grad():
        found = model(images, interpolate_pos_encoding=True).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(found, answers["cls_large"], atol=1e-5, rtol=0)
    assert model.config.position_resampling == "offset"


def test_a_config_says_how_positions_are_resampled_where_transformers_would_do_it_otherwise(
    fixture_folder: Path, tmp_path: Path
) -> None:
    made = conversion.convert(fixture_folder / "dino_vit/backbone.pth", tmp_path / "made", **HEADS)
    assert any("resamples positions in another way" in note for note in made.notes)
    assert '"position_resampling": "offset"' in (tmp_path / "made/config.json").read_text()
    assert conversion.load(tmp_path / "made").config.architecture.position_resampling == "offset"
    again = conversion.convert(tmp_path / "made", tmp_path / "dino", "dino")
    assert not any("resamples" in note for note in again.notes)


def test_a_masked_bias_of_keys_is_none(fixture_folder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    config = conversion.load(fixture_folder / "dinov3_original/backbone.pth").config
    assert (config.query_bias, config.key_bias, config.value_bias) == (True, False, True)
    stored = torch.load(fixture_folder / "dinov3_original/backbone.pth", weights_only=True)
    open_mask = {name: torch.ones_like(each) if "bias_mask" in name else each for name, each in stored.items()}
    torch.save(open_mask, tmp_path / "open.pth")
    assert conversion.load(tmp_path / "open.pth").config.key_bias
    torch.save({**stored, "blocks.0.attn.qkv.bias_mask": torch.full((96,), torch.nan)}, tmp_path / "nan.pth")
    with pytest.raises(ValueError, match="bias_mask that is not made of zeros and ones"):
        conversion.load(tmp_path / "nan.pth")


@pytest.mark.parametrize(
    ("periods", "theta"),
    [([1, 7.0710678], 50.0), ([1, 3.15625, 10, 31.625], 100.0), ([1, 10.01], 100.2001)],  # the second in bfloat16
)
def test_the_periods_tell_the_base(fixture_folder: Path, tmp_path: Path, periods: list[float], theta: float) -> None:
    torch = pytest.importorskip("torch")
    stored = torch.load(fixture_folder / "dinov3_original/backbone.pth", weights_only=True)
    torch.save({**stored, "rope_embed.periods": torch.tensor(periods)}, tmp_path / "file.pth")
    assert conversion.load(tmp_path / "file.pth").config.rope_theta == pytest.approx(theta, abs=1e-3)


def test_other_periods_are_refused(fixture_folder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    stored = torch.load(fixture_folder / "dinov3_original/backbone.pth", weights_only=True)
    torch.save({**stored, "rope_embed.periods": torch.tensor([2.0, 3.0])}, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=r"periods \[2\.0, 3\.0\], which are no powers of one base"):
        conversion.load(tmp_path / "file.pth")


def test_openclip_may_have_another_activation(fixture_folder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    stored = torch.load(fixture_folder / "clip_original/clip.pt", weights_only=True)
    kept = {name: each for name, each in stored.items() if each.is_floating_point()}
    torch.save(kept, tmp_path / "open_clip.pt")
    found = conversion.load(tmp_path / "open_clip.pt", **HEADS)
    assert (found.format, found.config.hidden_act, found.config.projection_dim) == ("open-clip", "gelu", 20)
    assert "hidden_act" in {each.name for each in found.assumed}


# Written again

#: For each file: what else has to be said, the format it is written in, and the file there.
WRITTEN = {
    "dinov2_original/backbone.pth": (HEADS, "dinov2", "dinov2.pth"),
    "dinov2_original_swiglu/backbone.pth": (HEADS, "dinov2", "dinov2.pth"),
    "dinov3_original/backbone.pth": ({}, "dinov3", "dinov3.pth"),
    "dinov3_original_swiglu/backbone.pth": ({}, "dinov3", "dinov3.pth"),
    "clip_original/clip.pt": (HEADS, "clip", "clip.pt"),
    "big_vision_siglip/siglip.npz": ({}, "big-vision-siglip", "big-vision-siglip.npz"),
}


def arrays(path: Path) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in read_weights(path).items()}


@pytest.mark.parametrize("file", WRITTEN)
def test_what_the_authors_wrote_is_written_again(fixture_folder: Path, convert: Any, file: str) -> None:
    """With everything that is no part of the model: texts, and norms for the crops of training."""
    given, to, name = WRITTEN[file]
    theirs, ours = arrays(fixture_folder / file), arrays(convert(fixture_folder / file, to, **given) / name)
    assert ours.keys() == theirs.keys()
    for key, array in theirs.items():
        mask = theirs.get(f"{key}_mask", np.ones(1, np.float32))  # the biases of keys, which it multiplies by zero
        np.testing.assert_array_equal(ours[key], array * mask if key.endswith("qkv.bias") else array, err_msg=key)
        assert ours[key].dtype == array.dtype


@pytest.mark.parametrize(
    ("source", "to", "twin"),
    [
        ("hf_dinov2", "dinov2", "dinov2_original/backbone.pth"),
        ("hf_dinov2_registers", "dinov2", "dinov2_original/backbone.pth"),
        ("hf_dinov2_swiglu", "dinov2", "dinov2_original_swiglu/backbone.pth"),
        ("hf_dinov3", "dinov3", "dinov3_original/backbone.pth"),
        ("hf_siglip_full", "big-vision-siglip", "big_vision_siglip/siglip.npz"),
        ("hf_clip_projection", "open-clip", "clip_original/clip.pt"),
    ],
)
def test_a_model_of_transformers_has_the_authors_names(
    fixture_folder: Path, convert: Any, source: str, to: str, twin: str
) -> None:
    written = convert(fixture_folder / source, to)
    theirs = arrays(fixture_folder / twin)
    if source == "hf_dinov2":
        del theirs["register_tokens"]
    (ours,) = (arrays(written / name) for name in WRITABLE[to].files.values() if (written / name).is_file())
    images = {name for name in theirs if not OF_TEXTS.match(name)}
    number = re.compile(r"(?<=blocks[._])\d+")
    assert {number.sub("0", name) for name in ours} == {number.sub("0", name) for name in images}
    assert all(ours[name].ndim == theirs[name].ndim for name in ours.keys() & theirs.keys())


#: What belongs to texts in files of both towers.
OF_TEXTS = re.compile(
    r"params/(txt/|t$|b$)|(transformer|token_embedding|ln_final)\.|positional_embedding|text_projection|logit_scale"
    "|input_resolution|context_length|vocab_size"
)


@pytest.mark.parametrize(
    ("query", "key", "value", "mask"),
    [(True, False, True, [1, 0, 1]), (False, False, True, [0, 0, 1]), (True, True, True, None)],
)
def test_dinov3_masks_biases_that_a_model_has_not(
    tmp_path: Path, write_checkpoint: Any, query: bool, key: bool, value: bool, mask: list[int] | None
) -> None:
    fields = {"query_bias": query, "key_bias": key, "value_bias": value, "rope_theta": 33.0}
    source = write_checkpoint(tmp_path / "ours", "model", model_type="dinov3_vit", **fields)
    made = conversion.convert(source, tmp_path / "dinov3.pth", "dinov3")
    stored = arrays(tmp_path / "dinov3.pth")
    bias = stored["blocks.0.attn.qkv.bias"].reshape(3, -1)
    assert bias.any(axis=1).tolist() == [query, key, value]
    found = stored.get("blocks.0.attn.qkv.bias_mask")
    assert (None if found is None else found.reshape(3, -1)[:, 0].tolist()) == mask
    assert stored["rope_embed.periods"].tolist() == [1.0]
    assert not any("hidden_act" in note for note in made.notes)


def test_dinov2_always_has_a_mask_token(fixture_folder: Path, tmp_path: Path) -> None:
    config = json.loads((fixture_folder / "hf_dinov2_swiglu/config.json").read_text()) | {"use_mask_token": False}
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/config.json").write_text(json.dumps(config))
    stored = arrays(fixture_folder / "hf_dinov2_swiglu/model.safetensors")
    del stored["embeddings.mask_token"]
    save_file(stored, tmp_path / "ours/model.safetensors")
    made = conversion.convert(tmp_path / "ours", tmp_path / "theirs", "dinov2")
    assert "DINOv2 always has a mask token; zeros were written" in made.notes
    assert any("an offset of 0.1 and this model does not" in note for note in made.notes)
    assert not arrays(tmp_path / "theirs/dinov2.pth")["mask_token"].any()
    assert made.config.use_mask_token


def test_texts_go_where_their_names_are_known(fixture_folder: Path, tmp_path: Path) -> None:
    whole = fixture_folder / "clip_original/clip.pt"
    made = conversion.convert(whole, tmp_path / "open.safetensors", "open-clip", "float16", **HEADS)
    stored = read_weights(tmp_path / "open.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {"F16"}
    assert set(made.carried) == {name for name in stored if not name.startswith("visual.")}
    again = conversion.convert(
        tmp_path / "open.safetensors", tmp_path / "clip.pt", "clip", hidden_act="quick_gelu", **HEADS
    )
    assert read_weights(tmp_path / "clip.pt").keys() == read_weights(whole).keys() - {"context_length", "vocab_size"}
    assert any("heads 64 wide" in note for note in again.notes)
    ours = conversion.convert(whole, tmp_path / "ours", **HEADS)
    assert not ours.carried
    conversion.convert(tmp_path / "ours", tmp_path / "tower.pt", "clip")
    tower = read_weights(tmp_path / "tower.pt")
    assert {name for name in tower if not name.startswith("visual.")} == {"input_resolution"}
    found = conversion.load(tmp_path / "tower.pt", **HEADS)
    assert (found.format, found.config.hidden_act) == ("clip", "quick_gelu")


@pytest.mark.parametrize(
    ("model_type", "to", "fields", "what"),
    [
        ("dinov2", "dinov2", {"image_size": (16, 8)}, "positions of 2 x 1 patches, which are no square"),
        ("dinov2_with_registers", "dinov2", {"num_register_tokens": 0}, r".* without embeddings\.register_tokens"),
        ("clip_vision_model", "clip", {"patch_size": (8, 4)}, r"patches of 8 x 4 pixels, which are no squares"),
        ("clip_vision_model", "clip", {}, "an MLP of 20 in layers of 12, which is not 4 times as wide"),
        ("clip_vision_model", "open-clip", {"num_channels": 1}, "images of 1 channels"),
        ("siglip_vision_model", "big-vision-siglip", {"add_pooling_layer": False}, r"a SigLIP without pooler\.probe"),
    ],
)
def test_what_the_authors_code_has_no_place_for_is_refused(
    tmp_path: Path, write_checkpoint: Any, model_type: str, to: str, fields: dict[str, Any], what: str
) -> None:
    source = write_checkpoint(
        tmp_path / "ours", "model", model_type=model_type, **{"add_pooling_layer": True, **fields}
    )
    with pytest.raises(ValueError, match=f"has no place for {what}.*; convert to transformers"):
        conversion.convert(source, tmp_path / "out", to)
    assert not (tmp_path / "out").exists()


def test_scales_of_openclips_image_tower_are_not_taken_for_texts(fixture_folder: Path, tmp_path: Path) -> None:
    stored = arrays(fixture_folder / "clip_original/clip.pt")
    more = {"visual.transformer.resblocks.0.ls_1.gamma": np.ones(32, np.float32)}
    save_file(stored | more, tmp_path / "scaled.safetensors")
    with pytest.raises(ValueError, match=r"holds visual\.transformer\.resblocks\.0\.ls_1\.gamma"):
        conversion.load(tmp_path / "scaled.safetensors", **HEADS)
