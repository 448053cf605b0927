"""Rotary positions, and the ways of resampling that came with the models that have them, against the core's numbers."""

import math

import numpy as np
import pytest
import torch

import vit_torch
from vit_core.position import resample_position_embeddings
from vit_core.rotary import Rotary
from vit_core.rotary import rotated as rotated_by_the_core
from vit_torch.layers import ViTSelfAttention
from vit_torch.position import resample_grid
from vit_torch.rotary import RotaryCoordinates, RotaryPositionEmbedding, rotated

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
#: Positions, and the other options that make their tables.
OPTIONS = [
    ("centres", {}),
    ("indices", {}),
    ("indices", {"rotary_first": "columns", "rotary_offset": 1.0}),
    ("centres", {"rotary_first": "columns"}),
]
TOKENS = torch.zeros(1, 1, 32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grid", [None, (3, 5)])
@pytest.mark.parametrize(("rotary", "options"), OPTIONS)
def test_heads_are_turned_as_the_core_does_it(rotary, options, grid, dtype):
    config = vit_torch.VisionTransformerConfig(
        **SIZES, rotary_positions=rotary, register_tokens=2, rope_theta=50.0, rotary_grid=(6, 7), **options
    )
    rope = RotaryPositionEmbedding(config)
    tables = rope(TOKENS.to(dtype), grid)
    assert {table.dtype for table in tables} == {dtype}
    patches = math.prod(grid or config.grid)
    heads = torch.randn(2, 4, 3 + patches, 8)
    turned = rotated(rotary, heads.to(dtype), tables)
    assert torch.equal(turned[:, :, :3], heads[:, :, :3].to(dtype))  # class token and registers stand nowhere
    core = Rotary.of(config)
    tables = core.tables(core.coordinates(grid or config.grid))
    expected = rotated_by_the_core(rotary, heads[:, :, 3:].numpy(), tables)
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    assert np.abs(turned[:, :, 3:].float().numpy() - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("rotary", ["centres", "indices"])
def test_an_open_grid_has_the_tables_of_a_known_one(rotary):
    options = {"rotary_first": "columns", "rotary_offset": 1.0, "rotary_stretch": False}
    rope = RotaryPositionEmbedding(vit_torch.VisionTransformerConfig(**SIZES, rotary_positions=rotary, **options))
    found = rope._coordinates((3, 5), torch.device("cpu"))
    np.testing.assert_allclose(found, rope.rotary.coordinates((3, 5)), atol=1e-6)


def test_each_head_is_turned_by_trained_frequencies():
    config = vit_torch.VisionTransformerConfig(**SIZES, rotary_positions="mixed", rotary_first="columns")
    core, attention = Rotary.of(config), ViTSelfAttention(config)
    frequencies = core.starting_frequencies(4)
    np.testing.assert_allclose(attention.rope.frequencies.detach(), frequencies, atol=1e-7)
    heads = torch.randn(2, 4, 1 + 15, 8)
    tables = attention.rope(RotaryCoordinates(config)(TOKENS, (3, 5)))
    turned = rotated("mixed", heads, tables)
    assert torch.equal(turned[:, :, :1], heads[:, :, :1])
    expected = rotated_by_the_core(
        "mixed", heads[:, :, 1:].numpy(), core.mixed_tables(core.coordinates((3, 5)), frequencies)
    )
    np.testing.assert_allclose(turned[:, :, 1:].detach(), expected, atol=1e-5)


def test_heads_with_trained_frequencies_are_pruned():
    config = vit_torch.VisionTransformerConfig(**{**SIZES, "num_hidden_layers": 2}, rotary_positions="mixed")
    model, images = vit_torch.VisionTransformerModel(config).eval(), torch.randn(1, 3, 32, 32)
    mask = torch.tensor([[1.0, 0, 1, 1], [1, 1, 0, 0]])
    expected = model(images, head_mask=mask).last_hidden_state
    model.prune_heads({0: [1], 1: [2, 3]})
    assert model.encoder.layer[1].attention.attention.rope.frequencies.shape == (2, 2, 4)
    torch.testing.assert_close(model(images).last_hidden_state, expected, atol=1e-6, rtol=0)


def test_tables_made_in_inference_serve_training():
    config = vit_torch.DINOv3ViTConfig(**SIZES, rope_theta=77.0, pos_embed_rescale=None)
    model = vit_torch.DINOv3ViTModel(config)
    with torch.inference_mode():
        model(torch.zeros(1, 3, 32, 32))
    model(torch.zeros(1, 3, 32, 32)).pooler_output.sum().backward()
    assert model.encoder.layer[0].attention.attention.query.weight.grad is not None


@pytest.mark.parametrize(("field", "value", "axes"), [("shift", 0.25, 2), ("jitter", 1.5, 2), ("rescale", 2.0, 1)])
def test_coordinates_move_in_training_alone(field, value, axes):
    fields = {"pos_embed_rescale": None, f"pos_embed_{field}": value}
    rope = RotaryPositionEmbedding(vit_torch.DINOv3ViTConfig(**SIZES, **fields))
    still = rope.eval()(TOKENS)
    rope.train()
    moved = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        moved.append(rope(TOKENS))
    torch.testing.assert_close(moved[0], moved[1], atol=0, rtol=0)
    assert not torch.equal(moved[0][0], moved[2][0])
    torch.manual_seed(0)
    drawn = torch.empty(axes).uniform_(-1, 1)
    core = Rotary("centres", 8, 100.0)
    coordinates = torch.from_numpy(core.coordinates((4, 4))).float()
    expected = coordinates + drawn * value if field == "shift" else coordinates * (drawn * math.log(value)).exp()
    for table, reference in zip(moved[0], core.tables(expected.double().numpy()), strict=True):
        torch.testing.assert_close(table[1:].double(), torch.from_numpy(reference), atol=1e-5, rtol=0)
    torch.testing.assert_close(rope.eval()(TOKENS), still, atol=0, rtol=0)


@pytest.mark.parametrize("grid", [(4, 4), (4, 7), (3, 2), (9, 9)])
@pytest.mark.parametrize("resampling", ["bicubic", "antialiased", "offset", "bilinear", "catmull-rom"])
def test_positions_are_resampled_as_the_core_does_it(resampling, grid):
    positions = np.random.default_rng(0).standard_normal((1, 16, 6)).astype("float32")
    found = resample_grid(torch.from_numpy(positions)[0].unflatten(0, (4, 4)), grid, resampling=resampling)
    expected = positions
    if grid != (4, 4):  # which an offset leaves alone
        expected = resample_position_embeddings(positions, (4, 4), grid, 0, resampling)
    assert np.abs(found.flatten(0, 1).numpy() - expected[0]).max() <= 1e-6


def test_every_layer_may_be_skipped_as_often():
    config = vit_torch.Dinov2Config(**{**SIZES, "num_hidden_layers": 3}, drop_path_rate=0.3)
    assert [layer.drop_path.rate for layer in vit_torch.Dinov2Model(config).encoder.layer] == [0.3] * 3


def test_the_pooler_of_a_classifier_is_there_and_idle():
    model = vit_torch.SiglipForImageClassification(vit_torch.SiglipConfig(vision_config=SIZES))
    calls = []
    model.vision_model.pooler.register_forward_hook(lambda *_: calls.append(1))
    model(torch.zeros(1, 3, 32, 32))
    assert not calls
    assert model.vision_model(torch.zeros(1, 3, 32, 32)).pooler_output.shape == (1, 32)
    assert model.vision_model.vision_model.encoder.layers is model.vision_model.encoder.layer


def test_images_with_as_many_patches_fit():
    model = vit_torch.SiglipVisionModel(vit_torch.SiglipVisionConfig(**{**SIZES, "image_size": 35})).eval()
    images = torch.randn(1, 3, 35, 35)
    torch.testing.assert_close(model(images).to_tuple(), model(images[..., :32, :32]).to_tuple())
    with pytest.raises(ValueError, match="40 x 32 pixels do not fit a model for 35 x 35"):
        model(torch.zeros(1, 3, 40, 32))
