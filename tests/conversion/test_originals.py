"""The files that the authors of DINO, DINOv2, DINOv3, CLIP and SigLIP published, or their code writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conversion
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


@pytest.mark.parametrize(("periods", "theta"), [([1, 7.0710678], 50.0), ([1, 10.01], 100.0)])
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
