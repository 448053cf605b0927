"""Positions are resampled as the core says, also for grids that a graph leaves open."""

import numpy as np
import pytest
import tensorflow as tf

from vit_core.architecture import choices
from vit_core.position import resample_position_embeddings, resampling_matrix
from vit_tf import position

EMBEDDINGS = np.random.default_rng(0).normal(size=(1, 1 + 4 * 7, 3)).astype(np.float32)


@pytest.mark.parametrize("resampling", choices("position_resampling"))
def test_every_resampling_is_that_of_the_core(resampling):
    run = tf.function(lambda length: position.resampling_matrix(7, length, resampling=resampling))
    for length in (1, 3, 7, 16):
        expected = resampling_matrix(7, length, resampling=resampling)
        for found in (position.resampling_matrix(7, length, resampling=resampling), run(tf.constant(length))):
            np.testing.assert_allclose(found, expected, atol=1e-12)


def test_an_offset_does_nothing_to_a_grid_that_stays_the_same():
    patches = EMBEDDINGS[0, 1:].reshape(4, 7, 3)

    @tf.function
    def run(rows, columns):
        return position.resample_grid(tf.constant(patches), (rows, columns), resampling="offset")

    np.testing.assert_array_equal(position.resample_grid(patches, (4, 7), resampling="offset"), patches)
    np.testing.assert_array_equal(run(tf.constant(4), tf.constant(7)), patches)
    other = resample_position_embeddings(EMBEDDINGS, (4, 7), (4, 6), resampling="offset")[0, 1:].reshape(4, 6, 3)
    np.testing.assert_allclose(run(tf.constant(4), tf.constant(6)), other, atol=1e-6)
