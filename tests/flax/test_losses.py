import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_flax import ViTConfig
from vit_flax.losses import classification_loss, masked_reconstruction_loss

rng = np.random.default_rng(0)


def loss(logits, labels, **fields):
    return classification_loss(
        jnp.asarray(logits), jnp.asarray(labels), ViTConfig(num_labels=logits.shape[1], **fields)
    )


def random(*shape):
    return rng.normal(size=shape).astype(np.float32)


def cross_entropies(logits, classes):
    logits = np.float64(logits)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(classes)), classes]


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_integer_labels_mean_classes():
    logits = np.array([[0.0, 1.0], [2.0, 0.0]], np.float32)
    expected = (np.log1p(np.exp(-1.0)) + np.log1p(np.exp(2.0))) / 2
    for labels in (np.array([1, 1]), np.array([[1], [1]], np.int32), np.array([1, 1], np.uint8)):
        assert_close(loss(logits, labels), expected)


def test_ignored_labels_count_for_nothing():
    logits = random(3, 4)
    expected = cross_entropies(logits[[0, 2]], [1, 2]).mean()
    assert_close(loss(logits, np.array([1, -100, 2])), expected)
    gradient = jax.grad(lambda logits: loss(logits, np.array([1, -100, 2])))(jnp.asarray(logits))
    np.testing.assert_array_equal(gradient[1], np.zeros(4))
    probabilities = np.exp(logits[[0, 2]]) / np.exp(logits[[0, 2]]).sum(axis=1, keepdims=True)
    assert_close(gradient[np.array([0, 2])], (probabilities - np.eye(4)[[1, 2]]) / 2)


def test_float_labels_mean_several_classes():
    logits, labels = random(2, 3), np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    probabilities = 1 / (1 + np.exp(-np.float64(logits)))
    expected = -(labels * np.log(probabilities) + (1 - labels) * np.log(1 - probabilities)).mean()
    assert_close(loss(logits, labels), expected)


def test_one_label_means_a_number_whatever_its_dtype_and_shape():
    logits = np.array([[1.0], [3.0]], np.float32)
    for labels in (np.array([2.0, 1.0], np.float32), np.array([[2], [1]]), np.array([2, 1])):
        assert_close(loss(logits, labels), 2.5)


def test_problem_type_overrules_what_labels_imply():
    logits, several = random(2, 3), np.array([[1, 0, 1], [0, 0, 1]])
    expected = (np.log1p(np.exp(np.float64(logits))) - several * logits).mean()
    assert_close(loss(logits, several, problem_type="multi_label_classification"), expected)
    numbers = random(2, 3)
    assert_close(loss(logits, numbers, problem_type="regression"), ((logits - numbers) ** 2).mean())
    classes = np.array([2.0, 0.0], np.float32)
    assert_close(
        loss(logits, classes, problem_type="single_label_classification"), cross_entropies(logits, [2, 0]).mean()
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_averaged_in_float32(dtype):
    logits = np.array([[300.0], [-300.0]])  # whose squares overflow float16
    found = loss(jnp.asarray(logits, dtype), jnp.zeros(2, dtype))
    assert found.dtype == jnp.float32
    assert_close(found, 90000.0)
    logits = jnp.asarray(random(4, 3), dtype)
    for labels, expected in (
        (np.array([0, 2, 1, 1]), cross_entropies(logits.astype(jnp.float32), [0, 2, 1, 1]).mean()),
        (np.ones((4, 3), np.float32), np.log1p(np.exp(-np.float64(logits))).mean()),
    ):
        found = loss(logits, labels)
        assert found.dtype == jnp.float32
        assert_close(found, expected)


def test_float64_stays_float64():
    with jax.enable_x64(True):
        logits = rng.normal(size=(3, 4))
        found = loss(logits, np.array([0, 3, 1]))
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, cross_entropies(logits, [0, 3, 1]).mean(), rtol=1e-13)


@pytest.mark.parametrize(
    ("labels", "fields", "words"),
    [
        (np.array([0, 3]), {}, "labels hold 3; with num_labels=3 they go from 0 to 2, or are -100"),
        (np.array([0, -1]), {}, "labels hold -1;"),
        (
            np.array([0.0, np.nan]),
            {"problem_type": "single_label_classification"},
            "labels hold nan; with num_labels=3 they go from 0 to 2",
        ),
        (np.array([0]), {}, r"labels of shape \(1,\) do not give one class to each of 2 images"),
        (np.array([0.0, 1.0]), {}, r"labels have shape \(2,\); they need that of the logits, \(2, 3\)"),
        (np.zeros((2, 1)), {"problem_type": "regression"}, r"labels have shape \(2, 1\)"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels, fields, words):
    with pytest.raises(ValueError, match=words):
        loss(random(2, 3), labels, **fields)


def test_labels_of_the_wrong_shape_are_named_under_jit():
    with pytest.raises(ValueError, match=r"labels of shape \(1,\) do not give one class to each of 2 images"):
        jax.jit(loss)(random(2, 3), np.array([0]))


def test_labels_out_of_range_give_nan_under_jit():
    config = ViTConfig(num_labels=3, problem_type="single_label_classification")
    compiled = jax.jit(lambda labels: classification_loss(jnp.zeros((2, 3)), labels, config))
    for label in (3, -1, np.nan):
        assert np.isnan(compiled(np.array([0, label], np.float32)))
    for label in (2, -100):
        assert_close(compiled(np.array([0, label], np.float32)), np.log(3))  # the same function


@pytest.mark.parametrize("as_array", [np.asarray, jnp.asarray])
def test_labels_may_be_constants_of_a_compiled_function(as_array):
    labels = as_array([0, 2])
    assert_close(jax.jit(lambda logits: loss(logits, labels))(np.zeros((2, 3), np.float32)), np.log(3))


# Masked image modeling


def test_the_masked_loss_is_the_mean_error_of_the_masked_pixels():
    pixel_values, reconstruction = random(2, 8, 12, 3), random(2, 3, 8, 12)
    mask = np.array([[1, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1]])  # patches of 4 x 4, two rows of three
    error = np.abs(pixel_values.transpose(0, 3, 1, 2) - reconstruction)
    expected = np.mean([error[0, :, :4, :4], error[0, :, 4:, 4:8], error[1, :, 4:, 8:]])
    for dtype in (np.int32, bool, np.float32):
        found = masked_reconstruction_loss(pixel_values, reconstruction, jnp.asarray(mask.astype(dtype)), (4, 4))
        assert_close(found, expected)


def test_the_masked_loss_takes_rectangular_patches_and_leaves_out_what_is_beside_them():
    pixel_values, reconstruction = random(1, 9, 13, 1), random(1, 1, 8, 12)
    mask = np.array([[False, True, False, False]])  # patches of 4 x 6
    expected = np.abs(pixel_values[0, :4, 6:12, 0] - reconstruction[0, 0, :4, 6:]).mean()
    assert_close(masked_reconstruction_loss(pixel_values, reconstruction, jnp.asarray(mask), (4, 6)), expected)


def test_nothing_masked_costs_nothing():
    images, nothing = random(1, 8, 8, 3), jnp.zeros((1, 4), bool)
    value, gradient = jax.value_and_grad(
        lambda reconstruction: masked_reconstruction_loss(images, reconstruction, nothing, (4, 4))
    )(random(1, 3, 8, 8))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_large_masked_loss_in_half_precision_is_float32(dtype):
    found = masked_reconstruction_loss(
        jnp.full((1, 32, 32, 3), 1000, dtype), jnp.zeros((1, 3, 32, 32), dtype), jnp.ones((1, 16)), (8, 8)
    )
    assert found.dtype == jnp.float32
    assert_close(found, 1000)
