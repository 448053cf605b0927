import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_core.position import resample_position_embeddings, resampling_matrix

lengths = st.integers(1, 40)


@given(lengths, lengths)
def test_rows_sum_to_one(old, new):
    matrix = resampling_matrix(old, new)
    assert matrix.shape == (new, old)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)


@given(lengths)
def test_equal_lengths_give_the_identity(length):
    np.testing.assert_array_equal(resampling_matrix(length, length), np.eye(length))


@given(lengths, lengths)
def test_resampling_is_symmetric(old, new):
    matrix = resampling_matrix(old, new)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-12)


def test_weights_are_those_of_the_kernel():
    # Twice as many values: centres a quarter off. Keys' kernel with a = -0.75 at distances 1.25, 0.25, 0.75 and 1.75.
    inner = resampling_matrix(8, 16)[7]
    np.testing.assert_allclose(inner[2:6], [-0.10546875, 0.87890625, 0.26171875, -0.03515625], atol=1e-12)


def test_a_grid_is_resampled_by_rows_and_by_columns():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(1, 1 + 3 * 5, 4)).astype(np.float32)
    resampled = resample_position_embeddings(embeddings, (3, 5), (7, 2))
    assert resampled.shape == (1, 15, 4)
    assert resampled.dtype == np.float32
    np.testing.assert_array_equal(resampled[:, 0], embeddings[:, 0])
    image = embeddings[0, 1:].reshape(3, 5, 4)
    expected = np.einsum("ai,bj,ijc->abc", resampling_matrix(3, 7), resampling_matrix(5, 2), image)
    np.testing.assert_allclose(resampled[0, 1:].reshape(7, 2, 4), expected, atol=1e-6)


def test_embeddings_for_another_grid_are_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 10, 4\) are not for a class token and a grid of 2 by 4 patches"):
        resample_position_embeddings(np.zeros((1, 10, 4)), (2, 4), (3, 3))


def test_nothing_cannot_be_resampled():
    with pytest.raises(ValueError, match="cannot resample 0 values to 3"):
        resampling_matrix(0, 3)
