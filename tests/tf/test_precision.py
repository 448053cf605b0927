import keras
import numpy as np
import pytest
import tensorflow as tf

HALVES = ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"]


def as_float32(tensor):
    return tf.cast(tensor, "float32").numpy()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("options", [{}, {"interpolate_pos_encoding": True}])
def test_half_precision_is_close_to_float32(load, dtype, options):
    model, expected = load("hf_vit_classifier", dtype=dtype)
    logits = model(expected["pixel_values"], **options).logits
    assert logits.dtype.name == dtype.removeprefix("mixed_")
    spread = np.ptp(expected["logits"])
    assert np.abs(as_float32(logits) - expected["logits"]).max() <= 2e-2 * spread


@pytest.mark.parametrize("dtype", HALVES)
def test_masked_image_modeling_in_half_precision(load, dtype):
    model, expected = load("hf_vit_masked", dtype=dtype)
    outputs = model(expected["pixel_values"], expected["bool_masked_pos"])
    spread = np.ptp(expected["reconstruction"])
    assert np.abs(as_float32(outputs.reconstruction) - expected["reconstruction"]).max() <= 2e-2 * spread
    np.testing.assert_allclose(as_float32(outputs.loss), expected["loss"], rtol=2e-2)


def test_a_large_masked_loss_does_not_overflow_float16(load):
    model, _ = load("hf_vit_masked", dtype="float16")
    loss = model(np.full((2, 3, 32, 32), 1000.0, np.float32), np.ones((2, 16))).loss
    assert loss.dtype == "float32"
    assert np.isfinite(loss)


@pytest.mark.parametrize("dtype", HALVES)
def test_the_loss_is_float32(load, dtype):
    model, expected = load("hf_vit_classifier", dtype=dtype)
    loss = model(expected["pixel_values"], labels=expected["labels"]).loss
    assert loss.dtype == "float32"
    np.testing.assert_allclose(loss, expected["loss"], rtol=2e-2)


def test_float64_stays_float64(load):
    model, expected = load("hf_vit_classifier", dtype="float64")
    outputs = model(expected["pixel_values_large"], interpolate_pos_encoding=True, labels=expected["labels"])
    assert outputs.logits.dtype == outputs.loss.dtype == "float64"
    assert np.abs(outputs.logits - expected["large/logits"]).max() <= 1e-5


@pytest.mark.parametrize(
    ("dtype", "of_variables", "of_products"),
    [
        ("bfloat16", "bfloat16", "bfloat16"),
        ("mixed_bfloat16", "float32", "bfloat16"),
        ("float64", "float64", "float64"),
    ],
)
def test_a_policy_says_in_what_weights_are_kept_and_in_what_they_are_multiplied(load, dtype, of_variables, of_products):
    model, expected = load("hf_vit_model", dtype=dtype)
    assert {variable.dtype for variable in model.variables if variable.name != "seed_generator_state"} == {of_variables}
    outputs = model(expected["pixel_values"], output_hidden_states=True, output_attentions=True)
    assert {each.dtype.name for each in tf.nest.flatten(outputs)} == {of_products}


def test_a_policy_object_and_the_global_policy_do_the_same(load):
    model, _ = load("hf_vit_classifier", dtype=keras.DTypePolicy("mixed_bfloat16"))
    assert model.compute_dtype == "bfloat16"
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, _ = load("hf_vit_classifier")
    finally:
        keras.config.set_dtype_policy(before)
    assert (model.compute_dtype, model.vit.encoder.compute_dtype, model.variable_dtype) == (
        "bfloat16",
        "bfloat16",
        "float32",
    )


@pytest.mark.parametrize("dtype", ["float16", "mixed_bfloat16"])
def test_half_precision_runs_in_a_graph_with_sizes_known_later(load, dtype):
    model, expected = load("hf_vit_classifier", dtype=dtype)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, None])])
    def logits(pixel_values):
        return model(pixel_values, interpolate_pos_encoding=True).logits

    spread = np.ptp(expected["large/logits"])
    difference = as_float32(logits(expected["pixel_values_large"])) - expected["large/logits"]
    assert np.abs(difference).max() <= 2e-2 * spread


def test_numbers_to_predict_keep_the_precision_they_come_with(load):
    model, expected = load("hf_vit_regression", dtype="mixed_float16")
    labels = np.array([70000.0, 1.0], np.float32)  # the first is beyond float16
    outputs = model(expected["pixel_values"], labels=labels)
    np.testing.assert_allclose(outputs.loss, np.mean((as_float32(outputs.logits)[:, 0] - labels) ** 2), rtol=1e-6)
