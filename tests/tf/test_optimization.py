"""`create_optimizer` and its parts; the numbers are those of transformers 4.47.1."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_tf import AdamWeightDecay, GradientAccumulator, TFViTForImageClassification, WarmUp, create_optimizer

REFERENCE = Path(__file__).parents[1] / "fixtures" / "create_optimizer"
CASES = json.loads((REFERENCE / "cases.json").read_text())

# Keras itself, when it writes variables.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def expected():
    with np.load(REFERENCE / "expected.npz") as file:
        return dict(file)


def network(start):
    """The network of the reference, with its weights."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, name="first"),
            layers.LayerNormalization(name="LayerNorm"),
            layers.Dense(4, name="second"),
            layers.LayerNormalization(name="last_layer_norm"),
        ]
    )
    model.set_weights(parts(start, model))
    return model


def parts(flat, model):
    """One row of numbers as arrays of the variables' shapes."""
    shapes = [variable.shape for variable in model.trainable_variables]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]


@pytest.mark.parametrize("name", CASES)
def test_learning_rates_and_weights_are_those_of_the_reference(name, expected):
    init_lr, num_train_steps, num_warmup_steps, options = CASES[name]
    model = network(expected["start"])
    optimizer, schedule = create_optimizer(init_lr, num_train_steps, num_warmup_steps, **options)
    variables = model.trainable_variables
    for step, gradients in enumerate(expected["gradients"]):
        rate = float(schedule(optimizer.iterations))
        assert rate == pytest.approx(expected[f"{name}/learning_rates"][step], abs=1e-8)
        assert float(optimizer.learning_rate) == rate
        gradients = map(tf.constant, parts(gradients, model))
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        weights = np.concatenate([np.ravel(array) for array in model.get_weights()])
        np.testing.assert_allclose(weights, expected[f"{name}/weights"][step], atol=1e-5, rtol=0)


def test_the_reference_tells_exclusions_apart(expected):
    decayed, included = expected["weight_decay/weights"][-1], expected["included/weights"][-1]
    differs = parts(decayed != included, network(expected["start"]))
    assert [bool(part.any()) for part in differs] == [False, True, True, False, False, False, False, False]


def test_without_weight_decay_it_is_keras_own_adam():
    assert type(create_optimizer(1e-3, 10, 1)[0]) is keras.optimizers.Adam
    assert type(create_optimizer(1e-3, 10, 1, weight_decay_rate=0.1)[0]) is AdamWeightDecay


def test_weights_of_a_model_decay_and_its_biases_and_norms_do_not(tiny_config):
    model = TFViTForImageClassification(tiny_config)
    optimizer, _ = create_optimizer(0.1, 10, 0, weight_decay_rate=0.5)
    for variable in model.trainable_variables:
        variable.assign_add(keras.ops.ones_like(variable))
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    optimizer.apply(
        [keras.ops.zeros_like(variable) for variable in model.trainable_variables], model.trainable_variables
    )
    spared = {
        variable.path
        for variable in model.trainable_variables
        if np.array_equal(variable.numpy(), before[variable.path])
    }
    for variable in model.trainable_variables:
        if variable.path not in spared:
            np.testing.assert_allclose(variable.numpy(), before[variable.path] * (1 - 0.1 * 0.5), rtol=1e-6)
    # Two norms a layer and one at the end, of two arrays; six linear layers a layer, the patches and the classifier.
    assert len(spared) == 2 * (2 * 2 + 1) + 6 * 2 + 2
    assert all(path.endswith(("bias", "gamma", "beta")) for path in spared)


def test_norms_of_any_kind_and_name_are_spared():
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4,)), layers.BatchNormalization(name="b"), layers.LayerNormalization(name="l")]
    )
    optimizer, _ = create_optimizer(0.1, 10, 0, weight_decay_rate=0.5)
    optimizer.apply([keras.ops.zeros_like(each) for each in model.trainable_variables], model.trainable_variables)
    for layer in model.layers:
        np.testing.assert_array_equal(layer.gamma.numpy(), np.ones(4))


def test_a_model_trains_and_its_optimizer_is_saved_with_it(one_layer, tmp_path):
    images = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype("float32")
    labels = np.arange(8) % 5
    model = TFViTForImageClassification(one_layer)
    optimizer, schedule = create_optimizer(
        1e-3, 20, 2, weight_decay_rate=0.1, adam_global_clipnorm=1.0, include_in_weight_decay=["classifier/bias"]
    )
    model.compile(optimizer=optimizer)
    losses = model.fit(images, labels, batch_size=4, epochs=5, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.get_config() == model.optimizer.get_config()
    assert float(again.optimizer.learning_rate) == float(schedule(10))
    for one in (model, again):
        one.fit(images, labels, batch_size=4, shuffle=False, verbose=0)
    for variable, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_allclose(variable.numpy(), other.numpy(), atol=1e-6, err_msg=variable.path)


def test_a_new_process_loads_a_model_that_was_compiled_with_it(one_layer, tmp_path):
    model = TFViTForImageClassification(one_layer)
    model.compile(optimizer=create_optimizer(1e-3, 20, 2, weight_decay_rate=0.1)[0])
    model.save(tmp_path / "model.keras")
    code = (
        "import sys, keras, vit_tf\n"
        "optimizer = keras.saving.load_model(sys.argv[1]).optimizer\n"
        "print(type(optimizer).__name__, optimizer.weight_decay_rate, float(optimizer.learning_rate))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.keras")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.stdout.split() == ["AdamWeightDecay", "0.1", "0.0"], result.stderr


def test_mixed_precision_scales_the_loss_around_it(one_layer):
    images, labels = np.zeros((4, 3, 32, 32), "float32"), np.array([0, 1, 2, 3])
    model = TFViTForImageClassification(one_layer, dtype="mixed_float16")
    model.compile(optimizer=create_optimizer(1e-3, 20, 2, weight_decay_rate=0.1)[0])
    assert np.isfinite(model.fit(images, labels, verbose=0).history["loss"][0])
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_replicas_of_a_strategy_decay_alike(expected, strategy):
    init_lr, num_train_steps, num_warmup_steps, options = CASES["weight_decay"]
    with strategy.scope():
        model = network(expected["start"])
        optimizer, _ = create_optimizer(init_lr, num_train_steps, num_warmup_steps, **options)
        optimizer.build(model.trainable_variables)

    def half_a_step(gradients):
        """Each replica has half of the gradients, which are added up."""
        variables = [variable.value for variable in model.trainable_variables]
        with tf.GradientTape() as tape:
            terms = zip(variables, gradients, strict=True)
            loss = tf.add_n([tf.reduce_sum(variable * gradient) / 2 for variable, gradient in terms])
        optimizer.apply(tape.gradient(loss, variables), model.trainable_variables)

    step = tf.function(lambda gradients: strategy.run(half_a_step, (gradients,)), autograph=False)
    for gradients in expected["gradients"]:
        step([tf.constant(part) for part in parts(gradients, model)])
    weights = np.concatenate([np.ravel(array) for array in model.get_weights()])
    np.testing.assert_allclose(weights, expected["weight_decay/weights"][-1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_warm_up_rises_as_a_polynomial_and_hands_over(power):
    schedule = WarmUp(0.5, lambda step: 10.0 + keras.ops.cast(step, "float32"), warmup_steps=4, power=power)
    rates = [float(schedule(step)) for step in range(6)]
    assert rates == pytest.approx([0.5 * (step / 4) ** power for step in range(4)] + [10.0, 11.0])
    in_a_graph = tf.function(schedule)
    assert [float(in_a_graph(tf.constant(step, tf.int64))) for step in range(6)] == pytest.approx(rates)


def test_warm_up_comes_back_from_its_config():
    schedule = WarmUp(0.5, keras.optimizers.schedules.CosineDecay(0.5, 10), 4, power=2.0, name="rise")
    for again in (
        WarmUp.from_config(schedule.get_config()),
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule)),
    ):
        assert again.name == "rise"
        assert [float(again(step)) for step in range(9)] == [float(schedule(step)) for step in range(9)]


def test_adam_weight_decay_takes_the_arguments_of_older_keras():
    assert float(AdamWeightDecay(lr=0.25).learning_rate) == 0.25
    assert float(AdamWeightDecay(1).learning_rate) == 1.0
    optimizer = AdamWeightDecay(0.5, decay=1.0)
    assert [float(optimizer.learning_rate)] == [0.5]
    optimizer.iterations.assign(3)
    assert float(optimizer.learning_rate) == pytest.approx(0.125)
    with pytest.raises(ValueError, match="decay is 0.1 and learning_rate a PolynomialDecay"):
        AdamWeightDecay(keras.optimizers.schedules.PolynomialDecay(0.1, 10), decay=0.1)


def test_the_rate_of_weight_decay_can_be_set():
    optimizer = AdamWeightDecay(0.1)
    assert optimizer.weight_decay_rate == 0.0
    optimizer.weight_decay_rate = 0.5
    variable = keras.Variable(np.ones(2, "float32"))
    optimizer.apply([np.zeros(2, "float32")], [variable])
    np.testing.assert_allclose(variable.numpy(), 0.95)


def test_impossible_numbers_of_steps_are_refused():
    with pytest.raises(ValueError, match="num_train_steps is 0; it must be positive"):
        create_optimizer(1e-3, 0, 0)
    with pytest.raises(ValueError, match="num_warmup_steps is -1"):
        create_optimizer(1e-3, 10, -1)


def test_accumulated_gradients_are_the_sum_until_they_are_reset():
    accumulator = GradientAccumulator()
    accumulator(
        [tf.constant([1.0, 2.0]), None, tf.IndexedSlices(tf.ones((1, 2)), tf.constant([1]), tf.constant([2, 2]))]
    )
    accumulator([tf.constant([3.0, 4.0]), None, tf.ones((2, 2))])
    assert int(accumulator.step) == 2
    first, none, last = accumulator.gradients
    assert none is None
    np.testing.assert_array_equal(first, [4.0, 6.0])
    np.testing.assert_array_equal(last, [[1.0, 1.0], [2.0, 2.0]])
    accumulator.reset()
    assert int(accumulator.step) == 0
    np.testing.assert_array_equal(accumulator.gradients[0], [0.0, 0.0])


def test_an_accumulator_works_in_a_graph():
    accumulator = GradientAccumulator()

    @tf.function
    def add(gradient):
        accumulator([gradient])

    for value in (1.0, 2.0, 4.0):
        add(tf.constant([value]))
    assert int(accumulator.step) == 3
    np.testing.assert_array_equal(accumulator.gradients[0], [7.0])


def test_gradients_that_do_not_fit_the_accumulator_are_refused():
    accumulator = GradientAccumulator()
    accumulator.reset()
    with pytest.raises(ValueError, match="nothing was accumulated yet"):
        _ = accumulator.gradients
    accumulator([tf.ones(2), None])
    with pytest.raises(ValueError, match="there are 1 gradients, and there were 2 before"):
        accumulator([tf.ones(2)])
    with pytest.raises(ValueError, match=r"gradients\[1\] was None in the first batch"):
        accumulator([tf.ones(2), tf.ones(2)])
