"""The numbers of transformers and of Google's own code, to 1e-5 in float32.

Run as it is, as a graph, and compiled by XLA.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf

from vit_core.layouts import KERAS
from vit_tf import TFViTForImageClassification

TOLERANCE = 1e-5

CHECKPOINTS = [
    "hf_vit_classifier",
    "hf_vit_masked",
    "hf_vit_model",
    "hf_vit_multilabel",
    "hf_vit_regression",
    "hf_vit_sharded",
    "hf_vit_variant_dropout_config",
    "hf_vit_variant_gelu_new_eps",
    "hf_vit_variant_gray_selu",
    "hf_vit_variant_no_qkv_bias_relu",
]

INPUTS = {"pixel_values", "pixel_values_large", "pixel_values_small", "head_mask", "labels", "bool_masked_pos"}

MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "xla": functools.partial(tf.function, jit_compile=True),
}


@pytest.fixture(params=MODES)
def compiled(request):
    """Make of a function what the mode runs."""
    return MODES[request.param]


def assert_close(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    assert np.abs(np.asarray(actual) - expected).max() <= tolerance


def inputs(expected):
    return {name: expected[name] for name in ("pixel_values", "labels", "bool_masked_pos") if name in expected}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_result(load, compiled, name):
    model, expected = load(name)
    run = compiled(functools.partial(model, output_hidden_states=True, output_attentions=True))
    outputs = run(inputs(expected))
    found = dict(outputs.items())
    assert (len(outputs.hidden_states), len(outputs.attentions)) == (4, 3)
    for several in ("hidden_states", "attentions"):
        found |= {f"{several}.{index}": each for index, each in enumerate(found.pop(several))}
    results = {key: value for key, value in expected.items() if "/" not in key and key not in INPUTS}
    assert results
    for key, value in results.items():
        assert_close(found[key], value)


@pytest.mark.parametrize("size", ["large", "small"])
def test_logits_of_images_of_another_size(load, compiled, size):
    model, expected = load("hf_vit_classifier")
    outputs = compiled(functools.partial(model, interpolate_pos_encoding=True))(expected[f"pixel_values_{size}"])
    assert_close(outputs.logits, expected[f"{size}/logits"])


def test_logits_with_a_head_mask(load, compiled):
    model, expected = load("hf_vit_classifier")
    outputs = compiled(model)(expected["pixel_values"], head_mask=expected["head_mask"])
    assert_close(outputs.logits, expected["head_mask/logits"])


@pytest.mark.parametrize("name", ["hf_vit_classifier", "hf_vit_masked"])
def test_the_gradient_of_every_parameter(load, compiled, name):
    model, expected = load(name)
    table = model.parameter_table()
    variables = [model.get_parameter(row).value for row in table]

    @compiled
    def gradients_of_the_loss(batch):
        with tf.GradientTape() as tape:
            loss = model(batch).loss
        return tape.gradient(loss, variables)

    references = {key.removeprefix("grad/"): value for key, value in expected.items() if key.startswith("grad/")}
    assert references.keys() == {row.name for row in table}
    largest_of_all = max(np.abs(reference).max() for reference in references.values())
    for row, gradient in zip(table, gradients_of_the_loss(inputs(expected)), strict=True):
        reference = references[row.name]
        # Softmax does not change when the same is added to all scores, so a key bias has no gradient but rounding.
        is_rounding = row.name.endswith("key.bias")
        largest = 0.01 * largest_of_all if is_rounding else np.abs(reference).max()
        assert_close(KERAS.to_canonical(row, gradient.numpy()), reference, TOLERANCE * largest)


def test_logits_of_googles_classifier_on_a_representation_layer(google_representation, compiled):
    folder, expected = google_representation
    model = TFViTForImageClassification.from_pretrained(folder)
    assert_close(compiled(model)(expected["pixel_values"]).logits, expected["logits"])


def test_a_classifier_without_labels_returns_the_pooler_output(load, fixture_folder, compiled):
    _, expected = load("hf_vit_model")
    model, info = TFViTForImageClassification.from_pretrained(
        fixture_folder / "hf_vit_model", classifier_uses_pooler=True, num_labels=0, output_loading_info=True
    )
    assert not any(info.values())
    assert_close(compiled(model)(expected["pixel_values"]).logits, expected["pooler_output"])
