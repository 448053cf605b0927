"""Backbones that we save open in transformers, and the other way round, with the same feature maps.

Run by `nox -s interop`.
"""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import vit_torch  # noqa: E402

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
CASES = [
    ("dinov2", {"out_indices": [0, 2, 3]}),
    ("dinov2", {"out_indices": [-1], "reshape_hidden_states": False}),
    ("dinov2_with_registers", {"out_features": ["stage1", "stage2"], "apply_layernorm": False}),
    ("dinov3_vit", {"out_features": ["stage2", "stage3"], "num_register_tokens": 2}),
    ("dinov3_vit", {"out_indices": [1, -1], "num_register_tokens": 2, "apply_layernorm": False}),
    ("dinov3_vit", {"reshape_hidden_states": False, "num_register_tokens": 2, "return_class_token": True}),
]


@pytest.mark.parametrize(("model_type", "fields"), CASES)
def test_a_backbone_is_the_same_there_and_back(spread, tmp_path, model_type, fields):
    ours = spread(vit_torch.AutoBackbone.from_config(vit_torch.AutoConfig.for_model(model_type, **SIZES, **fields)))
    if not hasattr(transformers, type(ours).__name__):
        pytest.skip(f"transformers {transformers.__version__} has no {type(ours).__name__}")
    ours.save_pretrained(tmp_path / "ours")
    theirs = getattr(transformers, type(ours).__name__).from_pretrained(tmp_path / "ours").eval()
    assert (theirs.out_features, theirs.channels) == (ours.out_features, ours.channels)
    theirs.save_pretrained(tmp_path / "theirs")
    again = vit_torch.AutoBackbone.from_pretrained(tmp_path / "theirs")
    assert type(again) is type(ours)
    images = torch.randn(2, 3, 40, 24)
    with torch.no_grad():
        expected = theirs(images, output_hidden_states=True)
        for model in (ours, again):
            found = model(images, output_hidden_states=True)
            assert list(found.keys()) == list(expected.keys())
            torch.testing.assert_close(found.to_tuple(), expected.to_tuple(), atol=1e-5, rtol=0)
