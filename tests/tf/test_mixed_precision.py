import keras
import numpy as np
import pytest

from vit_tf import TFViTForImageClassification, TFViTForMaskedImageModeling

POLICIES = [("mixed_bfloat16", "bfloat16"), ("mixed_float16", "float16")]
IMAGES = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).repeat(32, axis=2).repeat(32, axis=3).astype("float32")
LABELS = np.arange(4)


@pytest.fixture
def global_policy():
    """Set the policy of all new layers, until the test ends."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def dtypes(variables):
    return {variable.dtype for variable in variables}


@pytest.mark.parametrize(("policy", "dtype"), POLICIES)
def test_a_model_trains_under_a_global_policy(one_layer, global_policy, policy, dtype):
    exact = TFViTForImageClassification(one_layer)(IMAGES, labels=LABELS)
    global_policy(policy)
    keras.utils.set_random_seed(0)
    model = TFViTForImageClassification(one_layer)
    output = model(IMAGES, labels=LABELS)
    assert output.logits.dtype == dtype
    assert output.loss.dtype == "float32"
    np.testing.assert_allclose(output.loss, exact.loss, rtol=2e-2)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (dtype == "float16")
    losses = model.fit(IMAGES, LABELS, epochs=8, verbose=0).history["loss"]
    np.testing.assert_allclose(losses[0], exact.loss, rtol=2e-2)  # reported without its scale
    assert losses[-1] < 0.8 * losses[0]
    assert dtypes(model.trainable_variables) == {"float32"}


@pytest.mark.parametrize(("policy", "dtype"), POLICIES)
@pytest.mark.parametrize("model_class", [TFViTForImageClassification, TFViTForMaskedImageModeling])
def test_a_model_may_have_a_policy_of_its_own(one_layer, model_class, policy, dtype):
    model = model_class(one_layer, dtype=policy)
    layers = [layer for layer in model._flatten_layers() if not isinstance(layer, keras.metrics.Metric)]
    assert {layer.dtype_policy.name for layer in layers} == {policy}
    assert dtypes(model.trainable_variables) == {"float32"}
    output = model(IMAGES, output_hidden_states=True)
    assert {tensor.dtype.name for tensor in (output[0], *output.hidden_states)} == {dtype}
    assert keras.config.dtype_policy().name == "float32"


def test_a_masked_model_learns_in_half_precision(one_layer):
    model = TFViTForMaskedImageModeling(one_layer, dtype="mixed_float16")
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    batch = {"pixel_values": IMAGES, "bool_masked_pos": np.arange(16) % 2 == np.zeros((4, 1))}
    losses = model.fit(batch, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_layernorms_are_computed_in_float32(one_layer):
    model = TFViTForImageClassification(one_layer, dtype="mixed_float16")
    tokens = (1000 * np.random.default_rng(0).normal(size=(1, 17, 32))).astype("float16")  # squares pass float16's end
    exact = tokens.astype("float64")
    mean, variance = exact.mean(axis=-1, keepdims=True), exact.var(axis=-1, keepdims=True)
    expected = (exact - mean) / np.sqrt(variance + one_layer.layer_norm_eps)
    for norm in (model.vit.layernorm, model.vit.encoder.layer[0].layernorm_before):
        normalized = norm(tokens)
        assert normalized.dtype == "float16"
        np.testing.assert_allclose(normalized, expected, rtol=2**-10, atol=2**-14)  # float16's own rounding
