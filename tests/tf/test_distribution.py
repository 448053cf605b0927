"""Two replicas train and predict as one device does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_tf import TFViTForImageClassification, TFViTForMaskedImageModeling

IMAGES = np.random.default_rng(0).normal(size=(12, 3, 32, 32)).astype("float32")
LABELS = np.arange(12) % 5
MASKS = np.arange(16) % 3 == np.arange(12)[:, None] % 2 + 1  # five patches of each image
TOLERANCE = 1e-6


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def accuracy():
    return [keras.metrics.SparseCategoricalAccuracy()]


@pytest.mark.parametrize(
    ("model_class", "data", "loss", "metrics"),
    [
        (TFViTForImageClassification, (IMAGES, LABELS), cross_entropy, accuracy),
        (TFViTForMaskedImageModeling, {"pixel_values": IMAGES, "bool_masked_pos": MASKS}, None, None),
    ],
    ids=["classifier", "masked"],
)
def test_two_replicas_train_as_one_device(one_layer, strategy, model_class, data, loss, metrics):
    assert strategy.num_replicas_in_sync == 2
    dataset, results = tf.data.Dataset.from_tensor_slices(data).batch(4), []
    for scope in (tf.distribute.get_strategy().scope(), strategy.scope()):
        keras.utils.set_random_seed(0)
        with scope:
            model = model_class(one_layer)
            model.compile(
                keras.optimizers.SGD(0.1, momentum=0.9),
                loss and loss(),
                metrics=metrics and metrics(),
                jit_compile=False,
            )
        fit = model.fit(dataset, shuffle=False, verbose=0)  # three steps
        evaluated = model.evaluate(dataset, verbose=0)
        predicted = model.predict(IMAGES, batch_size=4, verbose=0)[0]
        results.append((fit.history["loss"], evaluated, predicted, model.get_weights()))
    (losses, evaluated, predicted, weights), (two_losses, two_evaluated, two_predicted, two_weights) = results
    assert two_losses == pytest.approx(losses, abs=TOLERANCE)
    assert two_evaluated == pytest.approx(evaluated, abs=TOLERANCE)
    np.testing.assert_allclose(two_predicted, predicted, atol=1e-5, rtol=0)
    for array, expected in zip(two_weights, weights, strict=True):
        np.testing.assert_allclose(array, expected, atol=TOLERANCE, rtol=0)


def test_predict_joins_the_outputs_of_replicas(one_layer, strategy):
    one_layer.output_hidden_states = True
    with strategy.scope():
        model = TFViTForImageClassification(one_layer)
    predicted = model.predict(IMAGES[:5], batch_size=4, verbose=0)
    expected = model(IMAGES[:5])
    assert list(predicted) == ["logits", "hidden_states"]
    np.testing.assert_allclose(predicted.logits, expected.logits, atol=1e-5, rtol=0)
    for array, tensor in zip(predicted.hidden_states, expected.hidden_states, strict=True):
        np.testing.assert_allclose(array, tensor, atol=1e-5, rtol=0)
