"""Backbones of every framework make the same feature maps."""

import numpy as np
import pytest
import torch

import vit_torch
from vit_core import DINOv3ViTConfig, VisionTransformerConfig

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
IMAGES = {"image_size": (24, 32), "patch_size": (4, 8)}
VARIANTS = {
    "registers": VisionTransformerConfig(
        **{**SIZES, **IMAGES, "register_tokens": 2, "positioned": "class-token"},
        **{"rotary_positions": "centres", "norm": "rms", "out_features": ["stem", "stage2"]},
    ),
    "patches alone": VisionTransformerConfig(
        **{**SIZES, **IMAGES, "prefix_tokens": (), "classifier_reads": "mean"},
        **{"relative_positions": "layers", "final_norm": False, "out_features": ["stem", "stage2"]},
    ),
    "tokens of DINOv3": DINOv3ViTConfig(
        **{**SIZES, **IMAGES, "num_register_tokens": 2, "out_indices": [0, -1]},
        **{"apply_layernorm": False, "reshape_hidden_states": False, "return_class_token": True},
    ),
}


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("framework", ["tf", "flax"])
def test_feature_maps_and_intermediate_layers_are_those_of_torch(tmp_path, framework, config):
    package = pytest.importorskip(f"vit_{framework}")
    torch.manual_seed(0)
    model = vit_torch.AutoBackbone.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        model.save_pretrained(tmp_path)
        images = np.random.default_rng(0).standard_normal((2, 3, 32, 24)).astype("float32")
        expected = model(images, interpolate_pos_encoding=True)
        layers = model.get_intermediate_layers(images, [0], norm=False, interpolate_pos_encoding=True)
    other = package.AutoBackbone.from_pretrained(tmp_path)
    found = other(images, interpolate_pos_encoding=True)
    assert found.feature_maps[0].shape == ((2, 32, 8, 3) if config.reshape_hidden_states else (2, 24, 32))
    for key in expected.keys():  # noqa: SIM118
        for ours, theirs in zip(found[key], expected[key], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    (found,) = other.get_intermediate_layers(images, [0], norm=False, interpolate_pos_encoding=True)
    np.testing.assert_allclose(found, layers[0], rtol=0, atol=1e-5)
