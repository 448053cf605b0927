"""LoRA and quantization, which Keras' linear layers bring along."""

import keras
import numpy as np
import pytest

from vit_tf import TFViTForImageClassification

IMAGES = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype("float32")
LABELS = np.array([0, 4, 2, 1])

# Keras converts variables in a way that NumPy 2 deprecates.
numpy_copy = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture
def model(tiny_config):
    return TFViTForImageClassification(tiny_config)


def values(variables):
    return {variable.path: variable.numpy() for variable in variables}


def test_of_a_layer_with_lora_only_the_added_weights_learn(model):
    expected = model(IMAGES).logits.numpy()
    query = model.vit.encoder.layer[0].attention.attention.query
    query.enable_lora(2)
    np.testing.assert_allclose(model(IMAGES).logits, expected, atol=1e-5, rtol=0)  # LoRA starts as nothing
    before = values(model.variables)
    model.compile(keras.optimizers.SGD(0.1))
    for _ in range(2):  # the first step leaves A alone, because B is zero
        model.train_on_batch(IMAGES, LABELS)
    changed = {path for path, value in values(model.variables).items() if not np.array_equal(value, before[path])}
    of_query = {variable.path for variable in query.variables}
    assert changed & of_query == {query.bias.path, query.lora_kernel_a.path, query.lora_kernel_b.path}
    assert query._kernel.path not in changed
    assert model.vit.encoder.layer[0].attention.attention.key.kernel.path in changed


def test_checkpoints_hold_what_lora_learnt_as_a_part_of_the_weights(model, tmp_path):
    query = model.vit.encoder.layer[0].attention.attention.query
    query.enable_lora(2)
    query.lora_kernel_b.assign(np.random.default_rng(0).normal(size=query.lora_kernel_b.shape))
    model.save_pretrained(tmp_path)
    loaded = TFViTForImageClassification.from_pretrained(tmp_path)
    other = loaded.vit.encoder.layer[0].attention.attention.query
    assert not other.lora_enabled
    added = query.lora_kernel_a.numpy() @ query.lora_kernel_b.numpy() * query.lora_alpha / query.lora_rank
    np.testing.assert_allclose(other.kernel, query._kernel.numpy() + added, atol=1e-6, rtol=0)
    np.testing.assert_allclose(loaded(IMAGES).logits, model(IMAGES).logits, atol=1e-5, rtol=0)


@numpy_copy
def test_quantization_takes_the_linear_layers_and_stays_close(load):
    model, expected = load("hf_vit_classifier")
    before = values(model.variables)
    model.quantize("int8")
    kept = values(model.variables)
    names = {row.name for row in model.parameter_table() if row.kind == "linear"}
    for row in model.parameter_table():
        dtype = keras.backend.standardize_dtype(model.get_parameter(row).dtype)
        assert dtype == ("int8" if row.name in names else "float32"), row.name
    untouched = [path for path, value in kept.items() if path in before and value.dtype == "float32"]
    assert untouched
    assert all(np.array_equal(kept[path], before[path]) for path in untouched)
    logits = model(expected["pixel_values"]).logits.numpy()
    error = np.linalg.norm(logits - expected["logits"]) / np.linalg.norm(expected["logits"])
    assert 0 < error < 0.05
    assert model.predict(expected["pixel_values"], verbose=0).logits.shape == logits.shape


@numpy_copy
def test_a_quantized_model_cannot_become_a_checkpoint(model, tmp_path):
    model.quantize("int8")
    with pytest.raises(ValueError, match=r"query.weight is quantized to int8, .* use save\('model.keras'\), or call"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
