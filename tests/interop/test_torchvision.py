"""torchvision's `vit_*` models load what we write, and we load what they save.

Run by `nox -s interop`.
"""

from __future__ import annotations

import warnings

import pytest

pytest.importorskip("torchvision")
torch = pytest.importorskip("torch")

from torchvision.models import VisionTransformer, ViT_B_16_Weights  # noqa: E402

import vit_torch  # noqa: E402
from conversion import convert  # noqa: E402

SIZES = {"image_size": 32, "patch_size": 8, "num_layers": 3, "num_heads": 4, "hidden_dim": 32, "mlp_dim": 56,
         "num_classes": 10}  # fmt: skip
VARIANTS = {
    "plain": ({}, {}),
    "representation": (
        {"classifier_uses_pooler": True, "pooler_output_size": 24, "pooler_act": "tanh"},
        {"representation_size": 24},
    ),
    "representation as wide as the model": ({"classifier_uses_pooler": True}, {"representation_size": 32}),
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request):
    """Fields of our config, and arguments of theirs for the same model."""
    return request.param


def our_model(source, **fields):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return vit_torch.ViTForImageClassification.from_pretrained(source, **fields)


def assert_same_logits(ours, theirs, pixel_values):
    ours.eval(), theirs.eval()
    with torch.no_grad():
        mine, other = ours(pixel_values).logits, theirs(pixel_values)
    assert other.std() > 0.1  # otherwise much would be equal
    torch.testing.assert_close(mine, other, atol=1e-5, rtol=0)


def test_what_we_write_loads_strictly(variant, ours, images, tmp_path):
    fields, arguments = variant
    folder, model = ours(**fields)
    convert(folder, tmp_path / "vit.pth", to="torchvision")
    theirs = VisionTransformer(**SIZES, **arguments)
    theirs.load_state_dict(torch.load(tmp_path / "vit.pth", weights_only=True), strict=True)
    assert_same_logits(model, theirs, images(model.config))


def test_a_model_without_biases_of_query_key_and_value_is_written_with_zeros(ours, images, tmp_path):
    folder, model = ours(qkv_bias=False)
    done = convert(folder, tmp_path / "vit.pth", to="torchvision")
    assert any("zeros were written" in note for note in done.notes)
    theirs = VisionTransformer(**SIZES)
    theirs.load_state_dict(torch.load(tmp_path / "vit.pth", weights_only=True), strict=True)
    assert_same_logits(model, theirs, images(model.config))


def test_a_representation_of_another_activation_is_written_with_a_note(ours, tmp_path):
    folder, _ = ours(classifier_uses_pooler=True, pooler_act="relu")
    done = convert(folder, tmp_path / "vit.pth", to="torchvision")
    assert any("tanh" in note for note in done.notes)  # theirs is always that


@pytest.mark.parametrize("name", ["vit_tiny.pth", "checkpoint.pt"])
def test_what_they_save_loads_here(variant, name, spread, images, tmp_path):
    theirs = spread(VisionTransformer(**SIZES, **variant[1]))
    torch.save(theirs.state_dict(), tmp_path / name)
    ours = our_model(tmp_path / name, num_attention_heads=4)
    assert ours.config.layer_norm_eps == 1e-6
    assert_same_logits(ours, theirs, images(ours.config))


def test_a_wrapped_state_dict_in_a_training_checkpoint_loads_here(spread, images, tmp_path):
    theirs = spread(VisionTransformer(**SIZES))
    optimizer = torch.optim.AdamW(theirs.parameters())
    theirs(torch.randn(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    parallel = {f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}
    checkpoint = {"model": parallel, "optimizer": optimizer.state_dict(), "epoch": 3}  # as its references/ scripts do
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    ours = our_model(tmp_path / "checkpoint.pth", num_attention_heads=4)
    assert_same_logits(ours, theirs, images(ours.config))


def test_heads_are_taken_for_64_wide_with_a_warning_unless_told(spread, images, tmp_path):
    theirs = spread(VisionTransformer(**SIZES | {"hidden_dim": 128, "num_heads": 2}))
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    with pytest.warns(UserWarning, match="num_attention_heads = 2"):
        ours = vit_torch.ViTForImageClassification.from_pretrained(tmp_path / "vit.pth")
    assert_same_logits(ours, theirs, images(ours.config))


def test_preprocessing_of_a_model_for_224_pixels_is_that_of_the_published_weights(photograph, tmp_path):
    theirs = VisionTransformer(**SIZES | {"image_size": 224, "patch_size": 56})
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    processor = vit_torch.AutoImageProcessor.from_pretrained(tmp_path / "vit.pth")
    mine = torch.from_numpy(processor(photograph, return_tensors="np").pixel_values[0])
    expected = ViT_B_16_Weights.IMAGENET1K_V1.transforms()(photograph)
    torch.testing.assert_close(mine, expected, atol=1e-5, rtol=0)
