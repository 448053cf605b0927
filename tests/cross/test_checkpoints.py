"""A checkpoint is the same bytes whichever framework saved it."""

import json

import numpy as np
import pytest
import torch

import vit_torch

ARCHITECTURES = ["ViTModel", "ViTForImageClassification", "ViTForMaskedImageModeling"]

FIELDS = [
    *((architecture, {}) for architecture in ARCHITECTURES),
    ("ViTForImageClassification", {"classifier_uses_pooler": True, "pooler_output_size": 24}),
]


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("architecture", "fields", "dtype"),
    [*((*each, "float32") for each in FIELDS), *((*FIELDS[-1], dtype) for dtype in ("float16", "bfloat16"))],
)
def test_every_framework_saves_the_same_bytes(framework, tiny_config, tmp_path, architecture, fields, dtype):
    tiny_config.num_labels, tiny_config.hidden_act = 3, "relu"
    vars(tiny_config).update(fields)
    if framework.prunes:
        tiny_config.pruned_heads = {1: [0, 3]}
    torch.manual_seed(0)
    model = getattr(vit_torch, architecture)(tiny_config).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path / "torch")
    model.save_pretrained(tmp_path / "torch_shards", max_shard_size="20KB")
    assert set(content(tmp_path / "torch")) == {"config.json", "model.safetensors"}
    assert len(content(tmp_path / "torch_shards")) > 3

    for source in ("torch", "torch_shards"):
        model = framework.from_pretrained(architecture, tmp_path / source, dtype)
        model.save_pretrained(tmp_path / "other")
        model.save_pretrained(tmp_path / "other_shards", max_shard_size="20KB")
        for suffix in ("", "_shards"):
            assert content(tmp_path / f"other{suffix}") == content(tmp_path / f"torch{suffix}")


@pytest.mark.parametrize(("architecture", "fields"), FIELDS)
def test_what_started_at_random_goes_through_torch_unchanged(framework, tiny_config, tmp_path, architecture, fields):
    vars(tiny_config).update(fields)
    framework.random_model(architecture, tiny_config).save_pretrained(tmp_path / "other")
    getattr(vit_torch, architecture).from_pretrained(tmp_path / "other").save_pretrained(tmp_path / "torch")
    assert content(tmp_path / "torch") == content(tmp_path / "other")
    assert json.loads((tmp_path / "torch" / "config.json").read_text())["architectures"] == [architecture]


@pytest.mark.parametrize("framework", ["keras", "flax"], indirect=True)
def test_heads_that_torch_pruned_are_not_there(framework, tiny_config, tmp_path):
    model = vit_torch.ViTForImageClassification(tiny_config).eval()
    model.prune_heads({0: [1], 1: [0, 2]})
    model.save_pretrained(tmp_path)
    loaded = framework.from_pretrained("ViTForImageClassification", tmp_path)
    assert loaded.config.pruned_heads == {0: [1], 1: [0, 2]}
    pixel_values = torch.randn(2, 3, 32, 32)
    output = loaded(pixel_values.numpy(), output_attentions=True)
    assert [attentions.shape[1] for attentions in output.attentions] == [3, 2]
    np.testing.assert_allclose(output.logits, model(pixel_values).logits.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("framework", ["keras", "flax"], indirect=True)
@pytest.mark.parametrize("name", ["hf_beit_shared", "hf_clip_classifier", "timm_siglip"])
def test_patches_of_another_size_are_the_same_in_every_framework(framework, fixture_folder, tmp_path, name):
    folder, options = fixture_folder / name, {"patch_size": [4, 12], "patch_resampling": "antialiased"}
    loaded = vit_torch.AutoModelForImageClassification.from_pretrained(folder, **options)
    assert loaded.config.patch_size == (4, 12)
    loaded.save_pretrained(tmp_path / "torch")
    framework.from_pretrained(type(loaded).__name__, folder, **options).save_pretrained(tmp_path / "other")
    assert content(tmp_path / "other") == content(tmp_path / "torch")
