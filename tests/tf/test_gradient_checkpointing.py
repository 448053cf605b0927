import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_tf import TFViTForImageClassification
from vit_tf.modeling import ViTLayer

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype("float32")
LABELS = np.array([0, 3])


def gradients(model, in_graph=False):
    """The gradients and the random states after them, from the same random states."""
    states = model.non_trainable_variables  # of dropout
    before = [state.numpy() for state in states]

    def backward():
        with tf.GradientTape() as tape:
            loss = model(IMAGES, labels=LABELS, training=True).loss
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    found = (tf.function(backward) if in_graph else backward)()
    after = [state.numpy() for state in states]
    for state, value in zip(states, before, strict=True):
        state.assign(value)
    return [gradient.numpy() for gradient in found], after


def assert_same(arrays, expected):
    for array, other in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(array, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("dropout", "in_graph"), [(0.0, False), (0.3, True)], ids=["eager", "graph"])
def test_gradient_checkpointing_changes_no_gradient(tiny_config, dropout, in_graph):
    tiny_config.hidden_dropout_prob = tiny_config.attention_probs_dropout_prob = dropout
    model = TFViTForImageClassification(tiny_config)
    assert not model.is_gradient_checkpointing
    plain, states = gradients(model, in_graph)
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    checkpointed, states_after = gradients(model, in_graph)
    assert_same(checkpointed, plain)
    assert_same(states_after, states)
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


def test_gradient_checkpointing_runs_layers_twice(tiny_config, monkeypatch):
    runs, call = [], ViTLayer.call

    @functools.wraps(call)
    def counted(*args, **kwargs):
        runs.append(1)
        return call(*args, **kwargs)

    monkeypatch.setattr(ViTLayer, "call", counted)
    model = TFViTForImageClassification(tiny_config)
    gradients(model)
    assert len(runs) == 2
    model.gradient_checkpointing_enable()
    gradients(model)
    assert len(runs) == 2 + 4
    model(IMAGES)  # nothing to compute again
    assert len(runs) == 2 + 4 + 2


def test_fit_with_gradient_checkpointing_learns_the_same(tiny_config):
    tiny_config.hidden_dropout_prob = 0.3
    results = []
    for enable in (False, True):
        keras.utils.set_random_seed(0)
        model = TFViTForImageClassification(tiny_config)
        if enable:
            model.gradient_checkpointing_enable()
        model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        losses = model.fit(IMAGES, LABELS, epochs=3, verbose=0).history["loss"]
        results.append((losses, model.get_weights()))
    (plain_losses, plain_weights), (losses, weights) = results
    assert losses == pytest.approx(plain_losses, abs=1e-5)
    for array, expected in zip(weights, plain_weights, strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-5, rtol=0)
