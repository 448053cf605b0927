"""Rotary positions are those of the core, also for grids that a graph leaves open, and move in training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from vit_core import DINOv3ViTConfig, VisionTransformerConfig
from vit_core.rotary import Rotary, rotated
from vit_tf.rotary import MixedRotary, RotaryTables, turned

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "image_size": 32, "patch_size": 8}
HEADS = np.random.default_rng(0).normal(size=(2, 17, 2, 8)).astype(np.float32)
#: The coordinates of these turn by 1/10 of a full circle at most, so that they can be read off the tables.
SLOWEST = 2 * np.pi / 10


OPTIONS = {
    "centres": {},
    "indices": {},
    "columns": {"rotary_positions": "indices", "rotary_first": "columns", "rotary_offset": 1.0},
    "places": {"rotary_positions": "indices", "rotary_stretch": False},
}


@pytest.fixture(scope="module", params=OPTIONS)
def tables(request):
    fields = {"rotary_positions": request.param, "register_tokens": 1, "rope_theta": 30.0, "rotary_grid": (4, 6)}
    return RotaryTables(VisionTransformerConfig(**SIZES, **{**fields, **OPTIONS[request.param]}))


def test_patches_alone_are_turned_as_the_core_says(tables):
    grid = (3, 5)
    kind = tables.rotary.kind
    known = tables.rotary.tables(tables.rotary.coordinates(grid))
    expected = rotated(kind, HEADS[:, 2:].transpose(0, 2, 1, 3), known).transpose(0, 2, 1, 3)
    found = np.asarray(turned(kind, HEADS, tables(grid=grid)))
    np.testing.assert_array_equal(found[:, :2], HEADS[:, :2])
    np.testing.assert_allclose(found[:, 2:], expected, atol=1e-5)


def test_a_grid_that_a_graph_leaves_open(tables):
    run = tf.function(lambda rows, columns: tables(grid=(rows, columns)))
    found = run(tf.constant(3), tf.constant(5))
    np.testing.assert_allclose(found, tables(grid=(3, 5)), atol=1e-5)


def test_trained_frequencies_turn_each_head_and_stay_exact_in_half_precision():
    config = VisionTransformerConfig(**SIZES, rotary_positions="mixed", rotary_first="columns", rotary_grid=(5, 7))
    core, rope = Rotary.of(config), MixedRotary(config, dtype="mixed_bfloat16")
    found = np.asarray(ops.cast(rope(grid=(3, 5)), "float32"))
    known = core.mixed_tables(core.coordinates((3, 5)), core.starting_frequencies(2))
    np.testing.assert_allclose(found[0, 1:].transpose(1, 0, 2), known[0], atol=2**-8)
    np.testing.assert_array_equal(found[:, 0], [np.ones((2, 8)), np.zeros((2, 8))])
    expected = rotated("mixed", HEADS[:, 1:16].transpose(0, 2, 1, 3), known).transpose(0, 2, 1, 3)
    rope = MixedRotary(config)
    np.testing.assert_allclose(turned("mixed", HEADS[:, :16], rope(grid=(3, 5)))[:, 1:], expected, atol=1e-5)


def moved(training=True, **fields):
    """The coordinates in training, of two passes under a seed."""
    keras.utils.set_random_seed(1)
    still = dict.fromkeys(("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale"))
    tables = RotaryTables(DINOv3ViTConfig(**SIZES, **{**still, **fields}))
    passes = [np.asarray(tables(training=training))[:, 1:] for _ in range(2)]
    return [np.arctan2(sines[:, [5, 7]], cosines[:, [5, 7]]) / SLOWEST for cosines, sines in passes]


COORDINATES = Rotary("centres", 8, 100.0).coordinates((4, 4))


@pytest.mark.parametrize("name", ["shift", "jitter", "rescale"])
def test_coordinates_move_in_training(name):
    first, second = moved(**{f"pos_embed_{name}": 1.5})
    assert np.abs(first - second).max() > 1e-4
    np.testing.assert_array_equal([first, second], moved(**{f"pos_embed_{name}": 1.5}))
    steps = first - COORDINATES if name == "shift" else first / COORDINATES
    np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-4)
    least, most = (-1.5, 1.5) if name == "shift" else (1 / 1.5, 1.5)
    assert (least <= steps[0]).all()
    assert (steps[0] <= most).all()
    assert (abs(steps[0, 0] - steps[0, 1]) < 1e-4) == (name == "rescale")


def test_coordinates_stay_where_the_config_moves_none_and_outside_of_training():
    for found in (*moved(), *moved(training=False, pos_embed_rescale=2.0), *moved(pos_embed_rescale=1.0)):
        np.testing.assert_allclose(found, COORDINATES, atol=1e-5)
