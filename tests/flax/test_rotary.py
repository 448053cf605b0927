"""Rotary positions: turned as the core says, and moved at random in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_flax
from vit_core import rotary as core
from vit_flax.rotary import augmented, rotary_tables, rotated

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}


COLUMNS = {"rotary_first": "columns", "rotary_offset": 1.0, "rotary_stretch": False}


@pytest.mark.parametrize(("rotary", "options"), [("centres", {}), ("indices", {}), ("indices", COLUMNS)])
def test_queries_and_keys_of_patches_are_turned_as_the_core_says(rotary, options):
    config = vit_flax.VisionTransformerConfig(**SIZES, rotary_positions=rotary, rotary_grid=(4, 6), **options)
    heads = np.random.default_rng(0).normal(size=(2, 17, 4, 8))
    patches = heads[:, 2:].swapaxes(1, 2)
    tables = core.Rotary.of(config).tables(core.Rotary.of(config).coordinates((3, 5)))
    found = rotated(rotary, jnp.asarray(heads), rotary_tables(config, (3, 5), jnp.float32))
    np.testing.assert_array_equal(found[:, :2], np.float32(heads[:, :2]))
    np.testing.assert_allclose(found[:, 2:].swapaxes(1, 2), core.rotated(rotary, patches, tables), atol=1e-6)


def moved(count=50, **how_far):
    """Coordinates of two patches, moved by many keys."""
    config = vit_flax.DINOv3ViTConfig(**{"pos_embed_rescale": None, **how_far})
    keys = jax.random.split(jax.random.key(0), count)
    coordinates = jnp.array([[0.5, -0.25], [0.25, -0.5]])
    return jax.vmap(lambda key: augmented(config, coordinates, key))(keys), coordinates


def test_positions_are_shifted_axis_by_axis():
    places, coordinates = moved(pos_embed_shift=0.3)
    by = np.asarray(places - coordinates)
    np.testing.assert_allclose(by[:, 0], by[:, 1], atol=1e-6)
    assert by.min() < -0.2 < 0.2 < by.max()
    assert np.abs(by).max() <= 0.3 + 1e-6
    assert np.abs(by[:, 0, 0] - by[:, 0, 1]).max() > 0.1


@pytest.mark.parametrize("name", ["pos_embed_jitter", "pos_embed_rescale"])
def test_positions_are_stretched_each_axis_by_itself_or_both_alike(name):
    places, coordinates = moved(**{name: 2.0})
    by = np.asarray(places / coordinates)
    np.testing.assert_allclose(by[:, 0], by[:, 1], rtol=1e-5)
    assert 0.5 - 1e-6 <= by.min() < 0.7 < 1.5 < by.max() <= 2 + 1e-6
    assert np.allclose(by[:, 0, 0], by[:, 0, 1]) == (name == "pos_embed_rescale")


def test_positions_are_moved_in_training_by_the_key_and_alike_in_scanned_layers():
    config = vit_flax.DINOv3ViTConfig(**SIZES, num_register_tokens=2, initializer_range=0.2)
    images = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    model = vit_flax.FlaxDINOv3ViTModel(config)
    scanned = vit_flax.FlaxDINOv3ViTModel(config, scan_layers=True, _do_init=False)
    stacked = vit_flax.stack_layers(model.params)

    @jax.jit
    def run(key):
        options = {"dropout_rng": key, "train": True}
        one, other = model(images, **options), scanned(images, params=stacked, **options)
        return one.last_hidden_state, other.last_hidden_state, model(images).last_hidden_state

    (first, first_scanned, still), (second, *_) = run(jax.random.key(0)), run(jax.random.key(1))
    np.testing.assert_allclose(first, first_scanned, atol=1e-5)
    assert np.abs(first - second).max() > 1e-3
    assert np.abs(first - still).max() > 1e-3
    with pytest.raises(ValueError, match=r"positions are moved at random in training.*pass dropout_rng=jax.random.key"):
        model(images, train=True)
