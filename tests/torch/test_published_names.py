"""Models whose files have other names than their modules: what is saved, and what `load_state_dict` takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import vit_torch
from vit_torch import AutoConfig

FOLDERS = {
    "hf_dinov2": "Dinov2ForImageClassification",
    "hf_dinov2_swiglu": "Dinov2Model",
    "hf_dinov2_registers": "Dinov2WithRegistersForImageClassification",
    "hf_dinov3": "DINOv3ViTModel",
    "hf_siglip_vision": "SiglipVisionModel",
    "hf_siglip_classifier": "SiglipForImageClassification",
    "hf_clip_vision": "CLIPVisionModel",
    "hf_clip_projection": "CLIPVisionModelWithProjection",
}


@pytest.mark.parametrize(("source", "model"), FOLDERS.items())
def test_state_dicts_have_either_names_and_files_have_the_published_ones(
    fixture_folder: Path, tmp_path: Path, source: str, model: str
) -> None:
    theirs = load_file(fixture_folder / source / "model.safetensors")
    made = getattr(vit_torch, model)(AutoConfig.from_pretrained(fixture_folder / source))
    assert str(made.load_state_dict(theirs)) == "<All keys matched successfully>"
    assert str(made.load_state_dict(made.state_dict())) == "<All keys matched successfully>"
    made.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (fixture_folder / source / "model.safetensors").read_bytes()
    made.save_pretrained(tmp_path, safe_serialization=False, max_shard_size="30KB")
    shards = sorted(tmp_path.glob("pytorch_model-*.bin"))
    written = {name: each for file in shards for name, each in torch.load(file, weights_only=True).items()}
    assert written.keys() == theirs.keys()
    loaded = getattr(vit_torch, model).from_pretrained(None, config=made.config, state_dict=theirs).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in made.state_dict().items())


class Described(vit_torch.CLIPPreTrainedModel):
    """A model of someone's own, with a part whose name the family's files have too."""

    def __init__(self, config: vit_torch.CLIPVisionConfig) -> None:
        super().__init__(config)
        self.backbone = vit_torch.CLIPVisionModel(config)
        self.norm1 = nn.LayerNorm(config.hidden_size)
        self.post_init()


def test_a_subclass_is_saved_as_transformers_saves_it(fixture_folder: Path, tmp_path: Path) -> None:
    made = Described(AutoConfig.from_pretrained(fixture_folder / "hf_clip_vision"))
    made.save_pretrained(tmp_path)
    theirs = load_file(fixture_folder / "hf_clip_vision/model.safetensors")
    assert load_file(tmp_path / "model.safetensors").keys() == {
        *(f"backbone.{name}" for name in theirs),
        *("norm1.weight", "norm1.bias"),
    }
    loaded = Described.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in made.state_dict().items())
