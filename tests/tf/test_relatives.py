"""The relatives of ViT: the numbers of transformers, to 1e-5 in float32; as it is, as a graph, and compiled by XLA."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

import vit_tf
from vit_core.auto import AutoConfig
from vit_core.layouts import KERAS

CHECKPOINTS = [
    "hf_beit_grads",
    "hf_beit_large",
    "hf_beit_layerwise",
    "hf_beit_masked_grads",
    "hf_beit_shared",
    "hf_data2vec_vision",
    "hf_deit",
    "hf_deit_classifier",
    "hf_deit_masked",
    "hf_ijepa",
    "hf_vit_mae",
    "hf_vit_mae_interpolated",
    "hf_vit_mae_norm_pix",
    "hf_vit_msn",
]
#: Those with an image of another size.
LARGE = ["hf_beit_large", "hf_data2vec_vision", "hf_deit_classifier", "hf_ijepa", "hf_vit_msn"]
INPUTS = ("pixel_values", "labels", "bool_masked_pos", "noise")


TOLERANCE = 1e-5

MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "xla": functools.partial(tf.function, jit_compile=True),
}


def assert_close(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    assert np.abs(np.asarray(actual) - expected).max() <= tolerance


@pytest.fixture(params=MODES)
def compiled(request):
    """Make of a function what the mode runs."""
    return MODES[request.param]


@pytest.fixture
def load(fixture_folder):
    """Load a reference checkpoint and the results that belong to it."""

    def load(name, **options):
        folder = fixture_folder / name
        config = AutoConfig.from_pretrained(folder)
        with np.load(folder / "expected.npz") as results:
            expected = dict(results)
        weights = load_file(folder / "model.safetensors")
        model_class = getattr(vit_tf, config.architectures[0])
        model = model_class.from_pretrained(None, config=config, state_dict=weights, **options)
        return model, expected

    return load


def call(model, expected, **options):
    given = {name: expected[name] for name in INPUTS if name in expected}
    has_any_size = expected["pixel_values"].shape[2:] != model.config.image_shape
    return model(given, **({"interpolate_pos_encoding": True} if has_any_size else {}), **options)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_result(load, compiled, name):
    model, expected = load(name)
    outputs = compiled(functools.partial(call, model, expected, output_hidden_states=True, output_attentions=True))()
    found = dict(outputs.items())
    for several in ("hidden_states", "attentions"):
        found |= {f"{several}.{index}": each for index, each in enumerate(found.pop(several))}
    is_input = {*INPUTS, "pixel_values_large"}
    results = {key: value for key, value in expected.items() if "/" not in key and key not in is_input}
    assert results
    for key, value in results.items():
        assert_close(found[key], value)
    plain = compiled(functools.partial(call, model, expected))()  # the last layer may compute fewer tokens then
    assert_close(plain[plain_name(plain)], expected[plain_name(plain)])


def plain_name(output):
    return "reconstruction" if "reconstruction" in output else "logits"


@pytest.mark.parametrize("name", LARGE)
def test_logits_of_images_of_another_size(load, compiled, name):
    model, expected = load(name)
    asked = {} if model.config.architecture.resamples_unasked else {"interpolate_pos_encoding": True}
    outputs = compiled(functools.partial(model, **asked))(expected["pixel_values_large"])
    assert_close(outputs.logits, expected["large/logits"])


@pytest.mark.parametrize("name", ["hf_beit_large", "hf_data2vec_vision", "hf_beit_shared"])
def test_a_graph_that_leaves_the_size_open(load, name):
    model, expected = load(name)
    images = expected.get("pixel_values_large", expected["pixel_values"])
    open_size = tf.TensorSpec([None, 3, None, None])
    run = tf.function(lambda pixels: model(pixels).logits, input_signature=[open_size])
    assert_close(run(images), expected.get("large/logits", expected["logits"]))


@pytest.mark.parametrize("name", [name for name in CHECKPOINTS if name not in ("hf_deit",)])
def test_the_gradient_of_every_parameter(load, compiled, name):
    model, expected = load(name)
    references = {key.removeprefix("grad/"): value for key, value in expected.items() if key.startswith("grad/")}
    if not references:
        pytest.skip("the fixture has no gradients")
    table = [row for row in model.parameter_table() if row.trainable]
    variables = [model.get_parameter(row).value for row in table]

    @compiled
    def gradients_of_the_loss():
        with tf.GradientTape() as tape:
            loss = call(model, expected).loss
        return tape.gradient(loss, variables)

    largest_of_all = max(np.abs(reference).max() for reference in references.values())
    seen = set()
    for row, gradient in zip(table, gradients_of_the_loss(), strict=True):
        if (reference := references.get(row.name)) is None:  # such as a mask token that no mask uses
            assert gradient is None or not np.any(gradient), row.name
            continue
        seen.add(row.name)
        is_rounding = row.name.endswith("key.bias")
        largest = 0.01 * largest_of_all if is_rounding else np.abs(reference).max()
        gradient = np.zeros(KERAS.shape(row)) if gradient is None else tf.convert_to_tensor(gradient).numpy()
        found = KERAS.to_canonical(row, gradient)
        assert_close(found, reference, TOLERANCE * largest)
    assert {name for name in references if np.any(references[name])} <= seen
    fixed = [model.get_parameter(row) for row in model.parameter_table() if not row.trainable]
    assert not any(variable.trainable for variable in fixed)
