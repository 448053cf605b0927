"""Models of every framework merge the same tokens, which are those of a plain NumPy reference."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vit_torch
from vit_core import VisionTransformerConfig

sys.path.insert(0, str(Path(__file__).parent))
from numpy_merging import hidden_states, mergers, norm  # isort: skip

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
VARIANTS = {
    "two tokens before the patches, of which there is an odd number": VisionTransformerConfig(
        **{**SIZES, "image_size": (20, 28), "patch_size": 4, "register_tokens": 1, "halves": "post-norm"},
        **{"layer_scale": 0.5, "classifier_reads": "class-and-mean", "query_key_norm": True},
        pruned_heads={1: [0, 2]},
    ),
    "no token before the patches": VisionTransformerConfig(
        **{**SIZES, "image_size": 24, "patch_size": 4, "prefix_tokens": (), "layer_scale": 0.5},
        **{"pooler": "attention", "classifier_reads": "pooler"},
    ),
}
FRAMEWORKS = pytest.mark.parametrize("framework", ["torch", "tf", "flax"])


def images_of(config, count=3):
    shape = (count, config.num_channels, *config.image_shape)
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def package_of(framework):
    return pytest.importorskip(f"vit_{framework}")


def run(framework, model, images, **options):
    """What a model makes of images."""
    if framework == "tf":
        return model(images, **options)
    if framework == "torch":
        with torch.no_grad():
            return model(torch.from_numpy(images), **options)
    import jax

    # One compilation takes less time than one for each operation, and less if little is optimised.
    unoptimised = {"xla_backend_optimization_level": 0}
    compiled = jax.jit(lambda params, images: model(images, params=params, **options), compiler_options=unoptimised)
    return compiled(model.params, images)


@pytest.fixture(scope="module")
def digits():
    """Images of digits, and what the reference makes of them where each layer merges twelve tokens."""
    folder = Path(vit_torch.__file__).parents[1] / "vit_core" / "bundled" / "vit-digits"
    processor = vit_torch.AutoImageProcessor.from_pretrained("bundled/vit-digits")
    images = processor(sorted((folder / "test_images").glob("*.png"))[::4], return_tensors="np")["pixel_values"]
    model = vit_torch.ViTForImageClassification.from_pretrained("bundled/vit-digits")
    weights = {name.removeprefix("vit."): value.double().numpy() for name, value in model.state_dict().items()}
    with torch.no_grad():
        embedded = model.vit.embeddings(torch.from_numpy(images)).numpy()
    layers = [hidden_states(weights, model.config, each, (12,) * 4) for each in embedded]
    read = norm(np.stack([image[-1][0] for image in layers]), weights, "layernorm", model.config.layer_norm_eps)
    logits = read @ weights["classifier.weight"].T + weights["classifier.bias"]
    return images, [np.stack(layer) for layer in zip(*layers, strict=True)], logits


@FRAMEWORKS
def test_the_bundled_model_merges_as_the_reference_does(digits, framework):
    images, expected, logits = digits
    model = package_of(framework).AutoModelForImageClassification.from_pretrained("bundled/vit-digits")
    model.merge_tokens(12)
    np.testing.assert_allclose(run(framework, model, images).logits, logits, rtol=0, atol=1e-5)
    found = run(framework, model, images, output_hidden_states=True, output_attentions=True)
    for ours, theirs in zip(found.hidden_states[1:], expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    assert [each.shape[-1] for each in found.attentions] == [65, 53, 41, 29]
    assert len(np.unique(np.asarray(found.hidden_states[-1])[0], axis=0)) == 65 - 4 * 12


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("framework", ["tf", "flax"])
def test_other_layers_and_summaries_are_those_of_torch(tmp_path, framework, config):
    package = package_of(framework)
    torch.manual_seed(0)
    model = vit_torch.AutoModelForImageClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    model.save_pretrained(tmp_path)
    other = package.AutoModelForImageClassification.from_pretrained(tmp_path)
    images, asked = images_of(config), {"output_hidden_states": True, "output_attentions": True}
    plain = run("torch", model, images).logits
    for each in (model, other):
        each.merge_tokens(8, "decreasing")
    expected, found = run("torch", model, images, **asked), run(framework, other, images, **asked)
    assert not np.allclose(expected.logits, plain, atol=1e-3)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=0, atol=1e-5)
    for name in ("hidden_states", "attentions"):
        for ours, theirs in zip(found[name], expected[name], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@FRAMEWORKS
def test_of_equal_pairs_and_partners_the_first_are_taken(framework):
    """Keys along axes, whose similarity is 0 or 1 to the bit; a key of zeros is like no other."""
    package_of(framework)
    axes = [0, 1, 1, 1, 2, 0, 1, 2, 1, 1, 0]
    keys = np.eye(4, dtype="float32")[axes]
    found = importlib.import_module(f"vit_{framework}.token_merging").pairs(
        torch.from_numpy(keys)[None, None] if framework == "torch" else keys[None, :, None], 4, 1
    )
    into = {2 + 2 * int(even): 1 + 2 * int(odd) for even, odd in zip(found.merged[0], found.partners[0], strict=True)}
    assert into == mergers(keys, 4, 1) == {2: 1, 4: 7, 6: 1, 8: 1}
    assert np.asarray(found.kept[0]).tolist() == [4]


def test_large_images_merge_as_small_ones_do(monkeypatch):
    """In Flax, whose attention takes queries in blocks then."""
    package = package_of("flax")
    model = vit_torch.ViTForImageClassification.from_pretrained("bundled/vit-digits")
    other = package.FlaxViTForImageClassification.from_pretrained("bundled/vit-digits")
    monkeypatch.setattr(importlib.import_module("vit_flax.attention_blocks"), "LARGEST_WHOLE", 0)
    for each in (model, other):
        each.merge_tokens(12)
    images = images_of(model.config)
    expected = run("torch", model, images).logits
    np.testing.assert_allclose(run("flax", other, images).logits, expected, rtol=0, atol=1e-5)


@FRAMEWORKS
def test_no_file_knows_of_merging_and_it_is_taken_back(tmp_path, framework):
    package = package_of(framework)
    model = package.AutoModelForImageClassification.from_pretrained("bundled/vit-digits")
    plain = model.module if framework == "flax" else run(framework, model, images_of(model.config)).logits
    model.merge_tokens(12)
    model.save_pretrained(tmp_path)
    model.merge_tokens(0)
    if framework == "flax":
        assert model.module == plain
    else:
        np.testing.assert_array_equal(run(framework, model, images_of(model.config)).logits, plain)
    assert "merge" not in (tmp_path / "config.json").read_text()


@FRAMEWORKS
def test_layers_never_merge_more_than_half_of_the_patches(framework):
    package = package_of(framework)
    model = package.AutoModelForImageClassification.from_pretrained("bundled/vit-digits")
    model.merge_tokens(1000)
    found = run(framework, model, images_of(model.config, 1), output_attentions=True)
    assert [each.shape[-1] for each in found.attentions] == [65, 33, 17, 9]


@FRAMEWORKS
def test_models_that_cannot_merge_tokens_stay_as_they_are(framework):
    package = package_of(framework)
    config, options = {**SIZES, "image_size": 16, "patch_size": 4}, {}
    if framework == "flax":
        options = {"_do_init": False}
        model = package.AutoModel.from_config(VisionTransformerConfig(**config), scan_layers=True, **options)
        with pytest.raises(ValueError, match="scan_layers=True compiles one layer for all"):
            model.merge_tokens(2)
    model = package.AutoModel.from_config(VisionTransformerConfig(**config, rotary_positions="indices"), **options)
    with pytest.raises(ValueError, match="a merged token has no place"):
        model.merge_tokens(2)
    masked = package.AutoModelForMaskedImageModeling
    with pytest.raises(ValueError, match="reconstructs each patch"):
        masked.from_config(VisionTransformerConfig(**config, encoder_stride=4), **options).merge_tokens(2)


def test_maps_and_intermediate_layers_have_a_token_for_each_patch():
    model = vit_torch.AutoBackbone.from_pretrained("bundled/vit-digits", out_features=["stage2", "stage4"])
    model.merge_tokens(12)
    images = torch.from_numpy(images_of(model.config))
    with torch.no_grad():
        maps = model(images).feature_maps
        ((patches, class_token),) = model.get_intermediate_layers(images, reshape=True, return_class_token=True)
    assert [tuple(each.shape) for each in maps] == [(3, 56, 8, 8)] * 2
    assert len(np.unique(maps[0][0].flatten(1).T, axis=0)) == 64 - 2 * 12
    torch.testing.assert_close(patches, maps[1])
    assert class_token.shape == (3, 56)
