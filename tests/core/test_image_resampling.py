"""PIL's resizing as matrices, against PIL."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vit_core.pil_resampling import FILTERS, WEIGHT_HALF, WEIGHT_ONE, height_first, resampling_weights

CLASSIC = [filter_ for filter_ in Image.Resampling if filter_ <= 5]
NEWER = [filter_ for filter_ in Image.Resampling if filter_ > 5]


def resized(pixels, size, resample):
    values = pixels.astype(np.float64)
    for axis in (0, 1) if height_first(pixels.shape, size) else (1, 0):
        if pixels.shape[axis] != size[axis]:
            weights = resampling_weights(pixels.shape[axis], size[axis], resample)
            sums = weights @ values if axis == 0 else values @ weights.T
            values = np.clip((sums + WEIGHT_HALF) // WEIGHT_ONE, 0, 255)
    return values.astype(np.uint8)


sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))


@pytest.mark.parametrize("resample", CLASSIC, ids=lambda one: one.name)
@settings(max_examples=80)
@given(old=sizes, new=sizes, seed=st.integers(0, 2**32 - 1), extreme=st.booleans())
def test_the_matrices_give_the_pixels_of_pil(resample, old, new, seed, extreme):
    pixels = np.random.default_rng(seed).integers(0, 256, old).astype(np.uint8)
    if extreme:  # overshoots are clipped after each axis, which tells which was the first
        pixels = np.where(pixels > 127, 255, 0).astype(np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize(new[::-1], resample))
    np.testing.assert_array_equal(resized(pixels, new, resample), expected)


@pytest.mark.skipif(not NEWER, reason="this Pillow does not have the filters")
@settings(max_examples=80)
@given(resample=st.sampled_from(NEWER or CLASSIC), old=sizes, new=sizes, seed=st.integers(0, 2**32 - 1))
def test_filters_since_pillow_13_are_off_by_one_level_at_most(resample, old, new, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, old).astype(np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize(new[::-1], resample))
    assert np.abs(resized(pixels, new, resample).astype(int) - expected).max() <= 1


def test_there_is_a_function_for_every_filter_of_pil():
    assert {int(filter_) for filter_ in Image.Resampling} <= {0, *FILTERS}


def test_weights_of_doubling_with_the_triangle_filter():
    # Centres are a quarter of a pixel off: three quarters of the nearer, one quarter of the other.
    weights = resampling_weights(4, 8, Image.Resampling.BILINEAR) / WEIGHT_ONE
    np.testing.assert_array_equal(weights[2], [0.25, 0.75, 0, 0])
    np.testing.assert_array_equal(weights[0], [1, 0, 0, 0])
