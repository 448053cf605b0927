"""Keras' callbacks with the models."""

import keras
import numpy as np
import pytest

from vit_tf import TFViTForImageClassification

# Keras itself, when its callbacks read variables.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

IMAGES = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype("float32")
LABELS = np.array([0, 4, 2, 1])


@pytest.fixture
def new_model(one_layer):
    """A model that always starts with the same weights."""

    def new_model():
        keras.utils.set_random_seed(0)
        model = TFViTForImageClassification(one_layer)
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9))
        return model

    return new_model


def fit(model, **options):
    return model.fit(IMAGES, LABELS, batch_size=2, shuffle=False, verbose=0, **options)


def assert_same_weights(model, weights, tolerance=0.0):
    for variable, expected in zip(model.weights, weights, strict=True):
        np.testing.assert_allclose(variable.numpy(), expected, atol=tolerance, rtol=0, err_msg=variable.path)


def test_model_checkpoint_keeps_each_epoch(new_model, one_layer, tmp_path):
    model, weights = new_model(), []
    model_files, weight_files = str(tmp_path / "{epoch}.keras"), str(tmp_path / "{epoch}.weights.h5")
    callbacks = [
        keras.callbacks.ModelCheckpoint(model_files),
        keras.callbacks.ModelCheckpoint(weight_files, save_weights_only=True),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: weights.append(model.get_weights())),
    ]
    fit(model, epochs=2, callbacks=callbacks)
    for epoch in (1, 2):
        assert_same_weights(keras.saving.load_model(tmp_path / f"{epoch}.keras"), weights[epoch - 1])
        other = TFViTForImageClassification(one_layer)
        other.load_weights(tmp_path / f"{epoch}.weights.h5")
        assert_same_weights(other, weights[epoch - 1])


def test_early_stopping_goes_back_to_the_best_weights(new_model):
    model, weights = new_model(), []
    model.compile(keras.optimizers.SGD(1.0))
    learning_rates = keras.callbacks.LearningRateScheduler(lambda epoch: 1e-2 if epoch == 0 else -1e-1)  # up from there
    history = fit(
        model,
        epochs=9,
        callbacks=[
            learning_rates,
            keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: weights.append(model.get_weights())),
            keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True),
        ],
        validation_data=(IMAGES, LABELS),
    )
    losses = history.history["val_loss"]
    assert losses == sorted(losses)
    assert len(losses) == 3
    assert_same_weights(model, weights[0])


def test_a_schedule_sets_the_learning_rate(new_model):
    model, weights = new_model(), []
    model.compile(keras.optimizers.SGD(9.0))
    history = fit(
        model,
        epochs=3,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch: 0.125 if epoch == 0 else 0.0),
            keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: weights.append(model.get_weights())),
        ],
    )
    assert history.history["learning_rate"] == [0.125, 0.0, 0.0]
    assert_same_weights(model, weights[0])


def test_interrupted_training_goes_on_as_if_it_had_not_been(new_model, tmp_path):
    uninterrupted = new_model()
    losses = fit(uninterrupted, epochs=3).history["loss"]

    def interrupt(epoch, logs):
        if epoch == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(
            new_model(),
            epochs=3,
            callbacks=[
                keras.callbacks.BackupAndRestore(tmp_path),
                keras.callbacks.LambdaCallback(on_epoch_begin=interrupt),
            ],
        )
    model = new_model()
    history = fit(model, epochs=3, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
    assert history.epoch == [1, 2]
    assert history.history["loss"] == pytest.approx(losses[1:], abs=1e-6)
    assert_same_weights(model, uninterrupted.get_weights(), 1e-6)
