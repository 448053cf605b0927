import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_core import ViTConfig
from vit_tf.losses import classification_loss

rng = np.random.default_rng(0)


def loss(logits, labels, sample_weight=None, **fields):
    logits, labels = tf.constant(logits), tf.constant(labels)
    return classification_loss(logits, labels, ViTConfig(num_labels=logits.shape[1], **fields), sample_weight).numpy()


def random(*shape):
    return rng.normal(size=shape).astype(np.float32)


def cross_entropies(logits, classes):
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
    assert_close(loss(logits, [1, -100, 2]), cross_entropies(logits[[0, 2]], [1, 2]).mean())


def test_float_labels_mean_several_classes():
    logits, labels = random(2, 3), np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    probabilities = 1 / (1 + np.exp(-logits))
    expected = -(labels * np.log(probabilities) + (1 - labels) * np.log(1 - probabilities)).mean()
    assert_close(loss(logits, labels), expected)


def test_one_label_means_a_number_whatever_its_dtype_and_shape():
    logits = np.array([[1.0], [3.0]], np.float32)
    for labels in (np.array([2.0, 1.0], np.float32), np.array([[2], [1]]), np.array([[2.0, 1.0]])):
        assert_close(loss(logits, labels), 2.5)
    assert_close(loss(np.tile(logits, (2, 1)), np.array([[2, 1], [2, 1]])), 2.5)  # however they lie


def test_problem_type_overrules_what_labels_imply():
    logits, several = random(2, 3), np.array([[1, 0, 1], [0, 0, 1]])
    assert_close(
        loss(logits, several, problem_type="multi_label_classification"), loss(logits, several.astype(np.float32))
    )
    numbers = random(2, 3)
    assert_close(loss(logits, numbers, problem_type="regression"), ((logits - numbers) ** 2).mean())
    classes = np.array([2.0, 0.0], np.float32)
    assert_close(
        loss(logits, classes, problem_type="single_label_classification"), cross_entropies(logits, [2, 0]).mean()
    )


@pytest.mark.parametrize(
    ("labels", "fields", "losses"),
    [
        (np.array([2, 0]), {}, lambda logits, labels: cross_entropies(logits, labels)),
        (
            np.array([[1, 0, 1], [0, 0, 1]], np.float32),
            {},
            lambda logits, labels: (np.log1p(np.exp(logits)) - labels * logits).mean(axis=1),
        ),
        (random(2, 3), {"problem_type": "regression"}, lambda logits, labels: ((logits - labels) ** 2).mean(axis=1)),
    ],
    ids=["classes", "several classes", "numbers"],
)
@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_sample_weights_are_factors_for_each_image_of_the_mean(labels, fields, losses, shape):
    logits, weights = random(2, 3), np.array([0.25, 3.0], np.float32)
    expected = (losses(logits, labels) * weights).mean()
    assert_close(loss(logits, labels, weights.reshape(shape), **fields), expected)


def test_the_weighted_mean_is_the_one_that_keras_takes():
    logits, labels, weights = random(4, 3), np.array([0, 2, 1, 1]), np.array([0.5, 1.0, 0.0, 2.0], np.float32)
    reference = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert_close(loss(logits, labels, weights), reference(labels, logits, weights))


def test_half_precision_is_averaged_in_float32():
    logits = np.array([[300.0], [-300.0]], np.float16)  # whose squares overflow float16
    found = loss(logits, np.array([0.0, 0.0], np.float16))
    assert found.dtype == np.float32
    assert_close(found, 90000.0)


@pytest.mark.parametrize(
    ("labels", "fields", "words"),
    [
        (np.array([0, 3]), {}, "labels hold 3; with num_labels=3 they go from 0 to 2"),
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


def test_labels_out_of_range_stop_a_graph():
    compiled = tf.function(lambda labels: classification_loss(tf.zeros((2, 3)), labels, ViTConfig(num_labels=3)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels hold"):
        compiled(tf.constant([0, 3]))
    assert_close(compiled(tf.constant([0, 2])), np.log(3))  # the same graph


@pytest.mark.parametrize("label", [3, -1, float("nan")])
def test_labels_out_of_range_give_nan_where_xla_leaves_checks_out(label):
    config = ViTConfig(num_labels=3, problem_type="single_label_classification")
    compiled = tf.function(lambda labels: classification_loss(tf.zeros((2, 3)), labels, config), jit_compile=True)
    assert np.isnan(compiled(tf.constant([0, label])))
