"""What is minimised: losses that scripts make in `call`, override as `hf_compute_loss`, or pass to `compile`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from vit_tf import TFSequenceClassificationLoss, TFViTForImageClassification, TFViTModel, TFViTPreTrainedModel

IMAGES = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
LABELS = np.array([0, 1, 4, 3])
TOLERANCE = 1e-5


class TenTimes(TFViTForImageClassification):
    """A loss that is added to the output."""

    def call(self, pixel_values=None, labels=None, training=False):
        output = super().call(pixel_values, labels=labels, training=training)
        if labels is not None:
            output.loss = 10 * output.loss
        return output


class TenTimesOfWhateverComes(TFViTForImageClassification):
    def call(self, *args, **kwargs):
        output = super().call(*args, **kwargs)
        if output.loss is not None:
            output.loss = 10 * output.loss
        return output


class TenTimesEach(TFViTForImageClassification):
    """A loss that is overridden."""

    def hf_compute_loss(self, labels, logits):
        return 10 * super().hf_compute_loss(labels, logits)


class TenTimesInATuple(TFViTPreTrainedModel, TFSequenceClassificationLoss):
    """As transformers' own models are written."""

    def __init__(self, config, *inputs, **kwargs):
        super().__init__(config, *inputs, **kwargs)
        self.vit = TFViTModel(config, add_pooling_layer=False, name="vit")
        self.classifier = keras.layers.Dense(config.num_labels, name="classifier")

    def call(self, pixel_values=None, labels=None, return_dict=None, training=False):
        logits = self.classifier(self.vit(pixel_values, training=training)[0][:, 0])
        loss = None if labels is None else 10 * self.hf_compute_loss(labels=labels, logits=logits)
        return (logits,) if loss is None else (loss, logits)


def cross_entropy(model, images=IMAGES, labels=LABELS):
    output = model(images)
    logits = (output[0] if isinstance(output, tuple) else output.logits).numpy()
    shifted = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    return shifted


@pytest.mark.parametrize("subclass", [TenTimes, TenTimesOfWhateverComes, TenTimesEach, TenTimesInATuple])
def test_a_loss_of_the_scripts_own_is_minimised(one_layer, subclass):
    model = subclass(one_layer)
    model(IMAGES)
    model.compile(keras.optimizers.SGD(0.0), metrics=["accuracy"], jit_compile=False)
    losses = cross_entropy(model)
    for x, y in ((IMAGES, LABELS), ({"pixel_values": IMAGES, "labels": LABELS}, None), (IMAGES, {"labels": LABELS})):
        assert model.evaluate(x, y, verbose=0)[0] == pytest.approx(10 * losses.mean(), rel=TOLERANCE)
    model.fit(IMAGES, LABELS, verbose=0)
    found = model.train_on_batch(IMAGES, LABELS, sample_weight=np.array([1.0, 0, 0, 2]), return_dict=True)
    assert found["loss"] == pytest.approx(10 * (losses * [1, 0, 0, 2]).mean(), rel=TOLERANCE)
    assert model.predict(IMAGES, verbose=0) is not None


def test_a_loss_of_the_output_is_that_of_hf_compute_loss(one_layer):
    model = TenTimesEach(one_layer)
    assert model(IMAGES, labels=LABELS).loss.numpy() == pytest.approx(10 * cross_entropy(model).mean(), rel=TOLERANCE)


def test_one_number_cannot_be_weighted_and_says_so(one_layer):
    class Bare(TFViTForImageClassification):
        def call(self, pixel_values=None, labels=None, training=False):
            output = super().call(pixel_values, training=training)
            output.loss = ops.sum(output.logits)
            return output

    model = Bare(one_layer)
    model.compile("sgd", run_eagerly=True)
    model.train_on_batch(IMAGES, LABELS)
    with pytest.raises(ValueError, match="one number, and sample_weight"):
        model.train_on_batch(IMAGES, LABELS, sample_weight=np.ones(4))


@pytest.mark.parametrize(
    "wrap", [lambda model: model.hf_compute_loss, lambda model: lambda y, p: model.hf_compute_loss(y, p)]
)
def test_the_models_own_loss_is_a_loss_for_compile(one_layer, wrap):
    model = TFViTForImageClassification(one_layer)
    model.compile(keras.optimizers.SGD(0.0), wrap(model), ["accuracy"])
    expected = cross_entropy(model).mean()
    assert model.evaluate(IMAGES, LABELS, verbose=0)[0] == pytest.approx(expected, rel=TOLERANCE)
    assert model.evaluate(tf.data.Dataset.from_tensors((IMAGES, LABELS)), verbose=0)[0] == pytest.approx(
        expected, rel=TOLERANCE
    )


def test_compile_takes_metrics_third_as_scripts_for_transformers_do(one_layer):
    model = TFViTForImageClassification(one_layer)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, ["accuracy"], None, None, None, None)
    assert set(model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)) == {"loss", "accuracy"}


def test_each_batch_has_a_result_of_its_own(one_layer):
    model = TFViTForImageClassification(one_layer)
    model.compile(keras.optimizers.SGD(0.0))
    losses = cross_entropy(model)
    for part in (slice(0, 2), slice(2, 4)):
        expected = pytest.approx(losses[part].mean(), rel=TOLERANCE)
        assert model.train_on_batch(IMAGES[part], LABELS[part]) == expected
        assert model.test_on_batch(IMAGES[part], LABELS[part]) == expected
    model.test_on_batch(IMAGES[:2], LABELS[:2])
    assert model.test_on_batch(IMAGES[2:], LABELS[2:], reset_metrics=False) == pytest.approx(
        losses.mean(), rel=TOLERANCE
    )


def test_workers_of_keras_2_are_taken(one_layer):
    model = TFViTForImageClassification(one_layer)
    model.compile("sgd")
    options = {"workers": 2, "use_multiprocessing": True, "max_queue_size": 4, "verbose": 0}
    model.fit(IMAGES, LABELS, **options)
    model.evaluate(IMAGES, LABELS, **options)
    model.predict(IMAGES, **options)


def test_losses_metrics_and_targets_are_taken_by_the_name_of_the_logits(one_layer):
    model = TFViTForImageClassification(one_layer)
    loss = {"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    model.compile("sgd", loss=loss, metrics={"logits": ["accuracy"]})
    expected = pytest.approx(cross_entropy(model).mean(), rel=TOLERANCE)
    assert model.evaluate(IMAGES, {"logits": LABELS}, verbose=0)[0] == expected
