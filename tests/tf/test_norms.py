"""Norms without a mean."""

import keras
import numpy as np
import pytest

from vit_core import VisionTransformerConfig
from vit_tf.norms import norm_of

INPUTS = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "float64"])
def test_a_root_mean_square_norm(dtype):
    norm = norm_of(VisionTransformerConfig(norm="rms", layer_norm_eps=0.5), "norm", keras.DTypePolicy(dtype))
    norm.build((None, 8))
    norm.gamma.assign(np.arange(8))
    found = norm(INPUTS)
    assert found.dtype == dtype.removeprefix("mixed_")
    expected = INPUTS / np.sqrt((INPUTS**2).mean(-1, keepdims=True) + 0.5) * np.arange(8)
    tolerance = 2e-2 if dtype == "mixed_bfloat16" else 1e-6
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, atol=tolerance, rtol=tolerance)
