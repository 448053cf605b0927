"""The numbers of transformers, to 1e-5 in float32: jitted and not, with the layers scanned and unrolled."""

import functools

import jax
import numpy as np
import pytest

from vit_flax.parameter_tree import flatten

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

MODES = {"eager": lambda function: function, "jitted": jax.jit}


@pytest.fixture(params=MODES)
def compiled(request):
    """Make of a function what the mode runs."""
    return MODES[request.param]


@pytest.fixture(params=[False, True], ids=["unrolled", "scanned"])
def load(load, request):
    """Load a reference checkpoint with unrolled or with scanned layers."""
    return functools.partial(load, scan_layers=request.param)


def assert_close(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    assert np.abs(np.asarray(actual) - expected).max() <= tolerance


def inputs(expected):
    return {name: expected[name] for name in ("pixel_values", "labels", "bool_masked_pos") if name in expected}


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_result_but_the_maps(load, compiled, name, attn_implementation):
    model, expected = load(name, attn_implementation=attn_implementation)
    outputs = compiled(functools.partial(model, output_hidden_states=True))(**inputs(expected))
    found = dict(outputs.items())
    assert len(outputs.hidden_states) == 4
    found |= {f"hidden_states.{index}": each for index, each in enumerate(found.pop("hidden_states"))}
    results = {key: value for key, value in expected.items() if "/" not in key and key not in INPUTS}
    for key, value in results.items():
        if not key.startswith("attentions"):
            assert_close(found[key], value)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_result_with_the_maps(load, compiled, name):
    model, expected = load(name)
    outputs = compiled(functools.partial(model, output_hidden_states=True, output_attentions=True))(**inputs(expected))
    found = dict(outputs.items())
    assert (len(outputs.hidden_states), len(outputs.attentions)) == (4, 3)
    for several in ("hidden_states", "attentions"):
        found |= {f"{several}.{index}": each for index, each in enumerate(found.pop(several))}
    for key, value in expected.items():
        if "/" not in key and key not in INPUTS:
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


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("remat", [False, True, "dots_saveable"])
@pytest.mark.parametrize("name", ["hf_vit_classifier", "hf_vit_masked"])
def test_the_gradient_of_every_parameter(load, compiled, name, remat, attn_implementation):
    model, expected = load(name, remat=remat, attn_implementation=attn_implementation)

    @compiled
    @jax.grad
    def gradient_of_the_loss(params):
        return model(**inputs(expected), params=params, train=True).loss

    gradients = flatten(gradient_of_the_loss(model.params))
    references = {key.removeprefix("grad/"): value for key, value in expected.items() if key.startswith("grad/")}
    table = model.parameter_table()
    assert references.keys() == {row.name for row in table}
    largest_of_all = max(np.abs(reference).max() for reference in references.values())
    for row in table:
        gradient, reference = gradients[model.layout.path(row)], references[row.name]
        gradient = model.layout.to_canonical(row, gradient[row.layer] if model.layout.is_stacked(row) else gradient)
        # Softmax does not change when the same is added to all scores, so a key bias has no gradient but rounding.
        is_rounding = row.name.endswith("key.bias")
        largest = 0.01 * largest_of_all if is_rounding else np.abs(reference).max()
        assert_close(gradient, reference, TOLERANCE * largest)
