"""The numbers of transformers and of Google's own code, to 1e-5 in float32.

Jitted and not, with the layers scanned and unrolled.

Compiling is what takes the time, so that one compiled function holds what a checkpoint is run with.
"""

import functools

import jax
import numpy as np
import pytest

from vit_flax import FlaxViTForImageClassification
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

#: The attention implementation, and what the call asks for.
RUNS = [
    ("sdpa", {}),
    ("eager", {"output_hidden_states": True}),
    ("sdpa", {"output_hidden_states": True, "output_attentions": True}),
]

#: What runs once, the compiler need not make fast.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
#: As it is where nothing else is said.
FOR_SPEED = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}


@pytest.fixture(params=[False, True], ids=["unrolled", "scanned"])
def load(load, request):
    """Load a reference checkpoint with unrolled or with scanned layers."""
    return functools.partial(load, scan_layers=request.param)


def assert_close(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    assert np.abs(np.asarray(actual) - expected).max() <= tolerance


def inputs(expected):
    return {name: expected[name] for name in ("pixel_values", "labels", "bool_masked_pos") if name in expected}


def assert_every_result(outputs, expected, asked):
    """Compare all that was asked for and all that comes unasked."""
    found, wanted = dict(outputs.items()), {"hidden_states": 4, "attentions": 3}
    for several, count in wanted.items():
        if asked.get(f"output_{several}"):
            assert len(outputs[several]) == count
            found |= {f"{several}.{index}": each for index, each in enumerate(found.pop(several))}
        else:
            assert several not in outputs
    unasked = tuple(several for several in wanted if not asked.get(f"output_{several}"))
    results = {key for key in expected if "/" not in key and key not in INPUTS and not key.startswith(unasked)}
    assert results
    for key in results:
        assert_close(found[key], expected[key])


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_result_jitted(load, name):
    models = {implementation: load(name, attn_implementation=implementation)[0] for implementation in ("sdpa", "eager")}
    _, expected = load(name)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def run(batch):
        return [models[implementation](**batch, **asked) for implementation, asked in RUNS]

    for outputs, (_, asked) in zip(run(inputs(expected)), RUNS, strict=True):
        assert_every_result(outputs, expected, asked)


@pytest.mark.parametrize("name", ["hf_vit_classifier", "hf_vit_masked", "hf_vit_model"])
def test_every_result_step_by_step(load, name):
    model, expected = load(name)
    asked = {"output_hidden_states": True, "output_attentions": "attentions.0" in expected}
    assert_every_result(model(**inputs(expected), **asked), expected, asked)


def logits_in_other_ways(model, batch):
    found = {"head_mask": model(batch["pixel_values"], head_mask=batch["head_mask"]).logits}
    for size in ("large", "small"):
        if f"pixel_values_{size}" in batch:
            found[size] = model(batch[f"pixel_values_{size}"], interpolate_pos_encoding=True).logits
    return found


@pytest.mark.parametrize(
    ("compiled", "sizes"),
    [(functools.partial(jax.jit, compiler_options=QUICKLY), ["large", "small"]), (lambda run: run, ["small"])],
    ids=["jitted", "step by step"],
)
def test_logits_of_other_sizes_and_with_a_head_mask(load, compiled, sizes):
    model, expected = load("hf_vit_classifier")
    names = ["pixel_values", "head_mask", *(f"pixel_values_{size}" for size in sizes)]
    run = compiled(functools.partial(logits_in_other_ways, model))
    found = run({name: expected[name] for name in names})
    assert found.keys() == {"head_mask", *sizes}
    for name, logits in found.items():
        assert_close(logits, expected[f"{name}/logits"])


def gradients_of_the_loss(model, batch):
    return jax.grad(lambda params: model(**batch, params=params, train=True).loss)


def assert_every_gradient(gradients, model, expected):
    gradients = flatten(gradients)
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


@pytest.mark.parametrize("name", ["hf_vit_classifier", "hf_vit_masked"])
def test_the_gradient_of_every_parameter_jitted(load, name):
    models = [
        load(name, remat=remat, attn_implementation=implementation)[0]
        for remat, implementation in ((False, "sdpa"), (False, "eager"), (True, "sdpa"), ("dots_saveable", "eager"))
    ]
    model, expected = load(name)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def gradients(params, batch):
        return [gradients_of_the_loss(each, batch)(params) for each in models]

    for found in gradients(model.params, inputs(expected)):
        assert_every_gradient(found, model, expected)


def test_the_gradient_of_every_parameter_compiled_for_speed(load):
    model, expected = load("hf_vit_classifier", remat=True)
    run = jax.jit(gradients_of_the_loss(model, inputs(expected)), compiler_options=FOR_SPEED)
    assert_every_gradient(run(model.params), model, expected)


def test_the_gradient_of_every_parameter_step_by_step(load):
    model, expected = load("hf_vit_classifier")
    assert_every_gradient(gradients_of_the_loss(model, inputs(expected))(model.params), model, expected)


@pytest.mark.parametrize("scan_layers", [False, True], ids=["unrolled", "scanned"])
def test_logits_of_googles_classifier_on_a_representation_layer(google_representation, scan_layers):
    folder, expected = google_representation
    model = FlaxViTForImageClassification.from_pretrained(folder, scan_layers=scan_layers)
    for run in (model, jax.jit(model, compiler_options=QUICKLY)):
        assert_close(run(expected["pixel_values"]).logits, expected["logits"])


@pytest.mark.parametrize("scan_layers", [False, True], ids=["unrolled", "scanned"])
def test_a_classifier_without_labels_returns_the_pooler_output(fixture_folder, scan_layers):
    folder = fixture_folder / "hf_vit_model"
    with np.load(folder / "expected.npz") as results:
        pixel_values, pooler_output = results["pixel_values"], results["pooler_output"]
    model, info = FlaxViTForImageClassification.from_pretrained(
        folder, classifier_uses_pooler=True, num_labels=0, scan_layers=scan_layers, output_loading_info=True
    )
    assert not any(info.values())
    assert_close(jax.jit(model, compiler_options=QUICKLY)(pixel_values).logits, pooler_output)
