"""What fit, evaluate and predict of Keras make of the models.

Steps run eagerly where a graph would prove nothing more: tracing one takes several times as long.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_tf import TFViTForImageClassification, TFViTForMaskedImageModeling, TFViTModel
from vit_tf.losses import classification_loss

IMAGES = np.random.default_rng(0).normal(size=(6, 3, 32, 32)).astype("float32")
LABELS = np.array([0, 4, 2, 2, 1, 3])
MASKS = np.arange(16) % 3 < np.array([[1], [2]] * 3)
TOLERANCE = 1e-5


class Batches(keras.utils.PyDataset):
    """Three batches of two images."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return IMAGES[2 * index :][:2], LABELS[2 * index :][:2]


def batches():
    for index in range(3):
        yield IMAGES[2 * index :][:2], LABELS[2 * index :][:2]


def sgd():
    return keras.optimizers.SGD(0.1)


def standing_still():
    return keras.optimizers.SGD(0.0)


def keras_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def cross_entropies(logits, labels):
    """Minus the logarithm of each label's probability."""
    logits = np.asarray(logits, "float64")
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    return -np.log(probabilities[np.arange(len(labels)), labels])


def assert_same_weights(model, weights, tolerance=TOLERANCE):
    for variable, expected in zip(model.weights, weights, strict=True):
        np.testing.assert_allclose(variable.numpy(), expected, atol=tolerance, rtol=0, err_msg=variable.path)


@pytest.fixture
def tiny_config(tiny_config):
    """One layer, since tracing a layer takes longer than running it."""
    tiny_config.num_hidden_layers = 1
    return tiny_config


@pytest.fixture
def model(tiny_config):
    return TFViTForImageClassification(tiny_config)


@pytest.fixture
def masked_model(tiny_config):
    return TFViTForMaskedImageModeling(tiny_config)


# Sources of batches


def test_every_source_trains_as_a_plain_keras_model_of_the_logits(model):
    start = model.get_weights()
    inputs = keras.Input((3, 32, 32))
    plain = keras.Model(inputs, model(inputs).logits)

    def trained(some_model, *data, **options):
        model.set_weights(start)
        some_model.compile(sgd(), keras_loss(), metrics=["accuracy"])
        history = some_model.fit(*data, **options, shuffle=False, verbose=0).history
        return history, model.get_weights()

    expected_history, expected_weights = trained(plain, IMAGES, LABELS, batch_size=2)
    assert expected_history.keys() == {"loss", "accuracy"}
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(2)
    for data, options in (
        ((IMAGES, LABELS), {"batch_size": 2}),
        ((dataset,), {}),
        ((batches(),), {"steps_per_epoch": 3}),
        ((Batches(),), {}),
    ):
        history, weights = trained(model, *data, **options)
        assert history.keys() == expected_history.keys()
        for name, values in expected_history.items():
            np.testing.assert_allclose(history[name], values, atol=TOLERANCE, rtol=0)
        for array, expected in zip(weights, expected_weights, strict=True):
            np.testing.assert_allclose(array, expected, atol=TOLERANCE, rtol=0)


def test_every_source_is_evaluated_and_predicted_alike(model):
    logits = model(IMAGES).logits.numpy()
    losses = cross_entropies(logits, LABELS)
    model.compile(loss=keras_loss(), metrics=["accuracy"])
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(2)
    expected = {"loss": losses.mean(), "accuracy": (logits.argmax(axis=1) == LABELS).mean()}
    for evaluated in (
        model.evaluate(IMAGES, LABELS, batch_size=2, return_dict=True, verbose=0),
        model.evaluate(dataset, return_dict=True, verbose=0),
        model.evaluate(batches(), steps=3, return_dict=True, verbose=0),
        model.evaluate(Batches(), return_dict=True, verbose=0),
    ):
        assert evaluated == pytest.approx(expected, abs=TOLERANCE)
    for source, options in (
        (IMAGES, {"batch_size": 2}),
        ({"pixel_values": IMAGES, "labels": LABELS}, {"batch_size": 2}),
        (dataset, {}),
        (batches(), {"steps": 3}),
        (Batches(), {}),
    ):
        predicted = model.predict(source, **options, verbose=0)
        np.testing.assert_allclose(predicted.logits, logits, atol=TOLERANCE, rtol=0)


# The models' own losses


@pytest.mark.parametrize(
    ("problem_type", "labels", "formula"),
    [
        (None, LABELS, lambda logits: cross_entropies(logits, LABELS).mean()),
        (
            "multi_label_classification",
            np.eye(5, dtype="float32")[LABELS],
            lambda logits: np.mean(np.log1p(np.exp(logits)) - logits * np.eye(5)[LABELS]),
        ),
        (
            "regression",
            np.eye(5, dtype="float32")[LABELS],
            lambda logits: np.mean((logits - np.eye(5)[LABELS]) ** 2),
        ),
    ],
)
def test_without_a_keras_loss_the_classifiers_own_is_minimised(tiny_config, problem_type, labels, formula):
    tiny_config.problem_type = problem_type
    model = TFViTForImageClassification(tiny_config)
    output = model(IMAGES, labels=labels)
    expected = formula(output.logits.numpy().astype("float64"))
    assert float(output.loss) == pytest.approx(expected, abs=TOLERANCE)
    own = classification_loss(output.logits, tf.constant(labels), tiny_config)
    assert float(own) == pytest.approx(expected, abs=TOLERANCE)
    model.compile(sgd(), run_eagerly=True)
    assert model.test_on_batch(IMAGES, labels) == pytest.approx(expected, abs=TOLERANCE)
    assert model.train_on_batch(IMAGES, labels) == pytest.approx(expected, abs=TOLERANCE)
    assert model.test_on_batch(IMAGES, labels) < expected


def test_labels_may_be_among_the_inputs(model):
    start = model.get_weights()
    model.compile(sgd(), metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")])
    expected = model.fit(IMAGES, LABELS, batch_size=3, shuffle=False, verbose=0).history
    weights = model.get_weights()
    batch = {"pixel_values": IMAGES, "labels": LABELS}
    dataset = tf.data.Dataset.from_tensor_slices(batch).batch(3)
    for data, options in ((batch, {"batch_size": 3}), (dataset, {})):
        model.set_weights(start)
        history = model.fit(data, **options, shuffle=False, verbose=0).history
        assert history["loss"] == pytest.approx(expected["loss"], abs=TOLERANCE)
        assert history["accuracy"] == pytest.approx(expected["accuracy"])
        assert_same_weights(model, weights)
    loss, accuracy = model.evaluate(batch, batch_size=3, verbose=0)
    logits = model(IMAGES).logits.numpy()
    assert loss == pytest.approx(cross_entropies(logits, LABELS).mean(), abs=TOLERANCE)
    assert accuracy == pytest.approx((logits.argmax(axis=1) == LABELS).mean())


def test_a_keras_loss_takes_labels_among_the_inputs(model):
    model.compile(loss=keras_loss(), run_eagerly=True)
    expected = cross_entropies(model(IMAGES).logits, LABELS).mean()
    batch = {"pixel_values": IMAGES, "labels": LABELS}
    assert model.evaluate(batch, verbose=0) == pytest.approx(expected, abs=TOLERANCE)


def test_masked_images_are_reconstructed(masked_model):
    batch = {"pixel_values": IMAGES, "bool_masked_pos": MASKS}
    expected = float(masked_model(**batch).loss)
    pixels = MASKS.reshape(6, 1, 4, 4).repeat(8, axis=2).repeat(8, axis=3) & np.ones((6, 3, 32, 32), bool)
    error = np.abs(masked_model(IMAGES, MASKS).reconstruction.numpy() - IMAGES)[pixels].mean()
    assert expected == pytest.approx(error, abs=TOLERANCE)
    masked_model.compile(standing_still(), run_eagerly=True)
    for data, options in ((batch, {"batch_size": 6}), (tf.data.Dataset.from_tensor_slices(batch).batch(6), {})):
        history = masked_model.fit(data, **options, shuffle=False, verbose=0).history
        assert history["loss"] == pytest.approx([expected], abs=TOLERANCE)
        assert masked_model.evaluate(data, **options, verbose=0) == pytest.approx(expected, abs=TOLERANCE)


def test_a_keras_loss_compares_the_reconstruction(masked_model):
    masked_model.compile(loss="mean_squared_error", run_eagerly=True)
    expected = np.mean((masked_model(IMAGES).reconstruction.numpy() - IMAGES) ** 2)
    assert masked_model.evaluate(IMAGES, IMAGES, verbose=0) == pytest.approx(expected, abs=TOLERANCE)


def test_the_base_model_learns_its_pooled_output(tiny_config):
    model = TFViTModel(tiny_config)
    targets = np.zeros((6, 32), "float32")
    expected = np.mean(model(IMAGES).pooler_output.numpy() ** 2)
    model.compile(sgd(), "mean_squared_error")
    history = model.fit(IMAGES, targets, batch_size=6, epochs=2, verbose=0).history
    assert history["loss"][0] == pytest.approx(expected, abs=TOLERANCE)
    assert history["loss"][1] < history["loss"][0]


# Validation and weights


def test_validation_data_and_a_split_are_evaluated(model):
    losses = cross_entropies(model(IMAGES).logits, LABELS)
    model.compile(standing_still())
    train, held_out = slice(0, 3), slice(3, 6)
    dictionary = {"pixel_values": IMAGES[held_out], "labels": LABELS[held_out]}
    for validation_data in (
        (IMAGES[held_out], LABELS[held_out]),
        dictionary,
        tf.data.Dataset.from_tensor_slices(dictionary).batch(3),
    ):
        fit = model.fit(IMAGES[train], LABELS[train], validation_data=validation_data, verbose=0)
        assert fit.history["loss"] == pytest.approx([losses[train].mean()], abs=TOLERANCE)
        assert fit.history["val_loss"] == pytest.approx([losses[held_out].mean()], abs=TOLERANCE)
    batch = {"pixel_values": IMAGES, "labels": LABELS}
    history = model.fit(batch, validation_split=0.5, verbose=0).history
    assert history["val_loss"] == pytest.approx([losses[held_out].mean()], abs=TOLERANCE)


@pytest.mark.parametrize("loss", [None, keras_loss()], ids=["own loss", "Keras loss"])
def test_weights_of_samples_and_classes_are_factors(model, loss):
    losses = cross_entropies(model(IMAGES).logits, LABELS)
    model.compile(standing_still(), loss, run_eagerly=loss is not None)
    sample_weight = np.linspace(0, 2, 6, dtype="float32")
    expected = np.mean(losses * sample_weight)
    history = model.fit(IMAGES, LABELS, sample_weight=sample_weight, batch_size=6, verbose=0).history
    assert history["loss"] == pytest.approx([expected], abs=TOLERANCE)
    evaluated = model.evaluate(IMAGES, LABELS, sample_weight=sample_weight, batch_size=6, verbose=0)
    assert evaluated == pytest.approx(expected, abs=TOLERANCE)
    class_weight = {0: 2.0, 1: 0.5, 2: 3.0, 3: 1.0, 4: 0.0}
    history = model.fit(IMAGES, LABELS, class_weight=class_weight, batch_size=6, verbose=0).history
    factors = np.array([class_weight[label] for label in LABELS])
    assert history["loss"] == pytest.approx([np.mean(losses * factors)], abs=TOLERANCE)


# Ways of running


def test_compiled_eager_and_grouped_steps_train_alike(model):
    start, results = model.get_weights(), {}
    for name, options in {
        "graph": {"jit_compile": False},
        "XLA": {"jit_compile": True},
        "eager": {"run_eagerly": True},
        "grouped": {"jit_compile": False, "steps_per_execution": 2},
    }.items():
        model.set_weights(start)
        model.compile(sgd(), metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")], **options)
        history = model.fit(IMAGES, LABELS, batch_size=2, shuffle=False, verbose=0).history
        results[name] = (history, model.get_weights())
    expected_history, expected_weights = results["eager"]
    for name, (history, weights) in results.items():
        assert history["loss"] == pytest.approx(expected_history["loss"], abs=TOLERANCE), name
        assert history["accuracy"] == pytest.approx(expected_history["accuracy"]), name
        for array, expected in zip(weights, expected_weights, strict=True):
            np.testing.assert_allclose(array, expected, atol=TOLERANCE, rtol=0, err_msg=name)


def test_a_masked_model_trains_compiled(masked_model):
    batch = {"pixel_values": IMAGES, "bool_masked_pos": MASKS}
    expected = float(masked_model(**batch).loss)
    masked_model.compile(standing_still(), jit_compile=True)
    assert masked_model.fit(batch, batch_size=6, verbose=0).history["loss"] == pytest.approx([expected], abs=TOLERANCE)


def test_a_training_step_is_traced_once(tiny_config):
    traces = []

    class Counting(TFViTForImageClassification):
        def compute_loss(self, *args, **kwargs):
            traces.append(args)
            return super().compute_loss(*args, **kwargs)

    model = Counting(tiny_config)
    model.compile(keras.optimizers.SGD(momentum=0.9), metrics=[keras.metrics.SparseCategoricalAccuracy()])
    batch = {"pixel_values": IMAGES[:5], "labels": LABELS[:5]}
    model.fit(batch, batch_size=2, epochs=2, validation_data=batch, verbose=0)
    assert len(traces) == 2  # one for training, one for validation


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")  # so Keras greets a generator's end
def test_each_batch_is_a_step_whatever_kind_of_batch_comes_next(model):
    def unweighted():
        yield from ((images, labels, None) for images, labels in batches())

    def labels_inside():
        yield from ({"pixel_values": images, "labels": labels} for images, labels in batches())

    model.compile(sgd())
    for count, source in enumerate((batches(), unweighted(), labels_inside(), batches()), start=1):
        model.fit(source, shuffle=False, verbose=0)
        assert model.optimizer.iterations == 3 * count


def test_frozen_layers_keep_their_weights(model):
    model.vit.trainable = False
    frozen, classifier = model.vit.get_weights(), model.classifier.get_weights()
    model.compile("sgd", run_eagerly=True)
    model.fit(IMAGES, LABELS, verbose=0)
    assert all(np.array_equal(*pair) for pair in zip(model.vit.get_weights(), frozen, strict=True))
    assert not any(np.array_equal(*pair) for pair in zip(model.classifier.get_weights(), classifier, strict=True))


@pytest.mark.parametrize("loss", [None, keras_loss()], ids=["own loss", "Keras loss"])
def test_a_config_that_asks_for_tuples_fits_as_well(tiny_config, loss):
    tiny_config.return_dict = False
    model = TFViTForImageClassification(tiny_config)
    (logits,) = model(IMAGES)
    model.compile(standing_still(), loss, run_eagerly=loss is not None)
    history = model.fit(IMAGES, LABELS, batch_size=6, verbose=0).history
    assert history["loss"] == pytest.approx([cross_entropies(logits, LABELS).mean()], abs=TOLERANCE)
    (predicted,) = model.predict(IMAGES, batch_size=4, verbose=0)
    np.testing.assert_allclose(predicted, logits, atol=TOLERANCE, rtol=0)


def test_masked_models_that_return_tuples_fit_as_well(tiny_config):
    tiny_config.return_dict = False
    model = TFViTForMaskedImageModeling(tiny_config)
    batch = {"pixel_values": IMAGES, "bool_masked_pos": MASKS}
    loss, reconstruction = model(batch)
    model.compile(standing_still(), run_eagerly=True)
    assert model.fit(batch, batch_size=6, verbose=0).history["loss"] == pytest.approx([float(loss)], abs=TOLERANCE)
    model.compile(standing_still(), "mean_squared_error", run_eagerly=True)
    expected = np.mean((reconstruction.numpy() - IMAGES) ** 2)
    assert model.evaluate(batch, IMAGES, batch_size=6, verbose=0) == pytest.approx(expected, abs=TOLERANCE)
    (predicted,) = model.predict(batch, batch_size=4, verbose=0)
    np.testing.assert_allclose(predicted, reconstruction, atol=TOLERANCE, rtol=0)


def test_base_models_that_return_tuples_learn_their_pooled_output(tiny_config):
    tiny_config.return_dict = False
    model = TFViTModel(tiny_config)
    expected = np.mean(model(IMAGES)[1].numpy() ** 2)
    model.compile(loss="mean_squared_error", run_eagerly=True)
    evaluated = model.evaluate(IMAGES, np.zeros((6, 32), "float32"), verbose=0)
    assert evaluated == pytest.approx(expected, abs=TOLERANCE)


# Single batches and predictions


def test_single_batches_are_trained_tested_and_predicted(model):
    logits = model(IMAGES).logits.numpy()
    expected = cross_entropies(logits, LABELS).mean()
    model.compile(sgd(), keras_loss(), metrics=["accuracy"])
    np.testing.assert_allclose(model.predict_on_batch(IMAGES).logits, logits, atol=TOLERANCE, rtol=0)
    batch = {"pixel_values": IMAGES, "labels": LABELS}
    np.testing.assert_allclose(model.predict_on_batch(batch).logits, logits, atol=TOLERANCE, rtol=0)
    accuracy = (logits.argmax(axis=1) == LABELS).mean()
    assert model.test_on_batch(IMAGES, LABELS) == pytest.approx([expected, accuracy], abs=TOLERANCE)
    model.reset_metrics()
    assert model.test_on_batch(batch) == pytest.approx([expected, accuracy], abs=TOLERANCE)
    model.reset_metrics()
    first = model.train_on_batch(IMAGES, LABELS, return_dict=True)
    assert first == pytest.approx({"loss": expected, "accuracy": accuracy}, abs=TOLERANCE)
    model.reset_metrics()
    assert model.train_on_batch(batch, return_dict=True)["loss"] < expected


def test_predict_returns_an_output_of_all_images(tiny_config):
    tiny_config.output_hidden_states = tiny_config.output_attentions = True
    model = TFViTForImageClassification(tiny_config)
    expected = model(IMAGES[:5])
    predicted = model.predict(IMAGES[:5], batch_size=2, verbose=0)
    assert type(predicted) is type(expected)
    assert list(predicted) == ["logits", "hidden_states", "attentions"]
    assert (len(predicted.hidden_states), len(predicted.attentions)) == (2, 1)
    pairs = [(predicted.logits, expected.logits)]
    pairs += zip(predicted.hidden_states, expected.hidden_states, strict=True)
    pairs += zip(predicted.attentions, expected.attentions, strict=True)
    for array, tensor in pairs:
        assert isinstance(array, np.ndarray)
        np.testing.assert_allclose(array, tensor, atol=TOLERANCE, rtol=0)


def test_predicted_reconstructions_come_without_a_loss(masked_model):
    batch = {"pixel_values": IMAGES, "bool_masked_pos": MASKS}
    predicted = masked_model.predict(batch, batch_size=4, verbose=0)
    assert list(predicted) == ["reconstruction"]
    np.testing.assert_allclose(predicted.reconstruction, masked_model(batch).reconstruction, atol=TOLERANCE, rtol=0)


# What cannot be


def test_missing_targets_are_named(model, masked_model, tiny_config):
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"there are no labels; call fit\(x, y\), or use batches"):
        model.fit(IMAGES, verbose=0)
    masked_model.compile("sgd")
    with pytest.raises(ValueError, match="there is no bool_masked_pos; fit on batches"):
        masked_model.fit(IMAGES, verbose=0)
    base = TFViTModel(tiny_config)
    base.compile("sgd")
    with pytest.raises(ValueError, match="TFViTModel has no loss of its own"):
        base.fit(IMAGES, verbose=0)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 32, 32, 3), "have 32 channels, the model takes 3; channels come first"),
        ((2, 3, 48, 32), "images of 48 x 32 pixels do not fit a model for 32 x 32"),
        ((2, 32, 32), "they need .batch, channels, height, width."),
    ],
)
def test_images_that_do_not_fit_are_named_in_fit(model, shape, words):
    model.compile("sgd")
    with pytest.raises(ValueError, match=words):
        model.fit(np.zeros(shape, "float32"), LABELS[:2], verbose=0)


def test_labels_out_of_range_are_named_in_fit(model):
    model.compile("sgd")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"with num_labels=5 they go from 0 to 4"):
        model.fit(IMAGES, LABELS + 1, verbose=0)


def test_nan_stops_training(model, tiny_config):
    callback = keras.callbacks.TerminateOnNaN()
    model.compile("sgd")
    history = model.fit(np.full_like(IMAGES, np.nan), LABELS, epochs=3, callbacks=[callback], verbose=0)
    assert len(history.epoch) == 1
    assert np.isnan(history.history["loss"]).all()
    tiny_config.problem_type = "regression"
    regression = TFViTForImageClassification(tiny_config)
    regression.compile("sgd", run_eagerly=True)
    labels = np.full((6, 5), np.nan, "float32")
    history = regression.fit(IMAGES, labels, epochs=3, callbacks=[callback], verbose=0)
    assert len(history.epoch) == 1
    assert np.isnan(history.history["loss"]).all()


def test_freezing_after_the_first_step_is_said_and_takes_effect_once_compiled_again(tiny_config):
    model = TFViTForImageClassification(tiny_config)
    model.compile("sgd")
    model.vit.embeddings.trainable = False  # before the first step it counts
    model.fit(IMAGES, LABELS, verbose=0)
    model.vit.trainable = False
    with pytest.warns(UserWarning, match=r"what is trainable was changed .* call compile again"):
        model.fit(IMAGES, LABELS, verbose=0)
    model.compile("sgd")
    before = [variable.numpy() for variable in model.vit.weights]
    model.fit(IMAGES, LABELS, verbose=0)
    assert all(np.array_equal(variable, value) for variable, value in zip(model.vit.weights, before, strict=True))
