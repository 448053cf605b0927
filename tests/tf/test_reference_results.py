"""The numbers of transformers and of Google's own code, to 1e-5 in float32.

Run as it is, as a graph, and compiled by XLA.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf

import vit_tf
from conversion.published import as_canonical
from vit_core.families import family_of
from vit_core.layouts import KERAS
from vit_tf import TFViTForImageClassification
from vit_tf.state_dict import stored_arrays

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
RELATIVES = [
    "hf_beit_grads",
    "hf_beit_large",
    "hf_beit_layerwise",
    "hf_beit_masked_grads",
    "hf_beit_shared",
    "hf_clip_classifier",
    "hf_clip_projection",
    "hf_clip_vision",
    "hf_data2vec_vision",
    "hf_deit",
    "hf_deit_classifier",
    "hf_deit_masked",
    "hf_dinov2",
    "hf_dinov2_registers",
    "hf_dinov2_swiglu",
    "hf_dinov3",
    "hf_dinov3_gated",
    "hf_ijepa",
    "hf_siglip_classifier",
    "hf_siglip_headless",
    "hf_siglip_vision",
    "hf_vit_mae",
    "hf_vit_mae_interpolated",
    "hf_vit_mae_norm_pix",
    "hf_vit_msn",
]
WITHOUT_GRADIENTS = [
    *("hf_beit_large", "hf_beit_layerwise", "hf_beit_shared", "hf_clip_projection", "hf_clip_vision", "hf_deit"),
    *("hf_dinov2_swiglu", "hf_dinov3", "hf_dinov3_gated", "hf_siglip_vision", "hf_siglip_headless"),
]
WITH_GRADIENTS = [
    "hf_vit_classifier",
    "hf_vit_masked",
    *(name for name in RELATIVES if name not in WITHOUT_GRADIENTS),
]
#: Relatives with an image of another size.
LARGE = [
    *("hf_beit_large", "hf_clip_projection", "hf_clip_vision", "hf_data2vec_vision", "hf_deit_classifier", "hf_dinov2"),
    *("hf_dinov2_registers", "hf_dinov3", "hf_dinov3_gated", "hf_ijepa", "hf_siglip_classifier", "hf_siglip_vision"),
    "hf_vit_msn",
]

GIVEN = ("pixel_values", "labels", "bool_masked_pos", "noise")
INPUTS = {*GIVEN, "pixel_values_large", "pixel_values_small", "head_mask"}

#: Of each kind of parts, one that a graph and XLA run, too.
COMPILED = [
    *("hf_vit_classifier", "hf_beit_large", "hf_beit_masked_grads", "hf_deit_masked", "hf_ijepa", "hf_vit_mae"),
    *("hf_dinov2_registers", "hf_siglip_vision", "hf_dinov3", "hf_clip_projection"),
]
MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "xla": functools.partial(tf.function, jit_compile=True),
}


@pytest.fixture(params=MODES)
def compiled(request):
    """Make of a function what the mode runs."""
    return MODES[request.param]


def in_modes(names):
    """Parameters: each checkpoint as it is; one of each kind as a graph or, for what a graph may hide, by XLA."""
    runs = [(name, "eager") for name in names]
    runs += [(name, "graph" if at % 3 == 1 else "xla") for at, name in enumerate(COMPILED) if name in names]
    return pytest.mark.parametrize(("name", "compiled"), runs, indirect=["compiled"])


def assert_close(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    assert np.abs(np.asarray(actual) - expected).max() <= tolerance


def inputs(expected):
    has_both = any(name.startswith("masked/") for name in expected)
    given = [name for name in GIVEN if not (has_both and name == "bool_masked_pos")]
    return {name: expected[name] for name in given if name in expected}


def assert_results(outputs, expected, start):
    """That an output is what the fixture has under a name, of each part that it has."""
    results = {name.removeprefix(start): value for name, value in expected.items() if name.startswith(start)}
    assert results
    for name, value in results.items():
        assert_close(outputs[name], value)


def options(model, expected):
    """What the fixture's images need: some are of another size than the config says."""
    is_own_size = expected["pixel_values"].shape[2:] == model.config.image_shape
    return {} if is_own_size else {"interpolate_pos_encoding": True}


@pytest.mark.filterwarnings("error")
@in_modes([*CHECKPOINTS, *RELATIVES])
def test_every_result(load, compiled, name):
    model, expected = load(name)
    given = options(model, expected)
    run = compiled(functools.partial(model, output_hidden_states=True, output_attentions=True, **given))
    outputs = run(inputs(expected))
    found = dict(outputs.items())
    layers = model.config.num_hidden_layers
    assert (len(outputs.hidden_states), len(outputs.attentions)) == (layers + 1, layers)
    for several in ("hidden_states", "attentions"):
        found |= {f"{several}.{index}": each for index, each in enumerate(found.pop(several))}
    results = {key: value for key, value in expected.items() if "/" not in key and key not in INPUTS}
    assert results
    for key, value in results.items():
        assert_close(found[key], value)
    # Then the last layer may compute the tokens before the patches alone; so do compiled gradients, below.
    if "logits" in expected and compiled is MODES["eager"]:
        assert_close(compiled(functools.partial(model, **given))(inputs(expected)).logits, expected["logits"])


@in_modes(LARGE)
def test_results_of_relatives_for_a_larger_image(load, compiled, name):
    model, expected = load(name)
    asked = {} if model.config.architecture.resamples_unasked else {"interpolate_pos_encoding": True}
    assert_results(compiled(functools.partial(model, **asked))(expected["pixel_values_large"]), expected, "large/")


@pytest.mark.parametrize("name", ["hf_dinov2_swiglu", "hf_dinov3"])
def test_results_with_a_mask(load, name):
    model, expected = load(name)
    outputs = model(expected["pixel_values"], bool_masked_pos=expected["bool_masked_pos"])
    assert_results(outputs, expected, "masked/")


@pytest.mark.parametrize("name", ["hf_dinov2_registers", "hf_dinov3_gated", "hf_siglip_vision", "hf_clip_projection"])
def test_half_precision_stays_near(load, name):
    model, expected = load(name, dtype="bfloat16")
    for key, value in model(expected["pixel_values"]).items():
        assert value.dtype == "bfloat16"
        difference = np.abs(tf.cast(value, "float32").numpy() - expected[key]).max()
        assert difference <= 2e-2 * np.ptp(expected[key]), key


@pytest.mark.filterwarnings("ignore:.*the text tower, .* is left out")
@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("hf_siglip_full", ["SiglipVisionModel"]),
        ("hf_clip_full", ["CLIPVisionModel", "CLIPVisionModelWithProjection"]),
    ],
)
def test_the_image_tower_of_a_model_of_images_and_texts(fixture_folder, name, models):
    with np.load(fixture_folder / name / "expected.npz") as results:
        expected = dict(results)
    for model in models:
        loaded, info = getattr(vit_tf, model).from_pretrained(fixture_folder / name, output_loading_info=True)
        assert not info["missing_keys"] + info["mismatched_keys"]
        found = loaded(expected["pixel_values"])  # of SigLIP 32 pixels, where 35 have as many patches
        for key in found:
            assert_close(found[key], expected[key])


@pytest.mark.parametrize("name", ["hf_beit_large", "hf_beit_shared", "hf_dinov2_registers", "hf_dinov3"])
def test_a_graph_that_leaves_the_size_open(load, name):
    model, expected = load(name)
    is_large = "pixel_values_large" in expected
    run = tf.function(lambda pixels: dict(model(pixels)), input_signature=[tf.TensorSpec([None, 3, None, None])])
    if is_large:
        assert_results(run(expected["pixel_values_large"]), expected, "large/")
    else:
        assert_close(run(expected["pixel_values"])["logits"], expected["logits"])


@pytest.mark.parametrize("size", ["large", "small"])
def test_logits_of_images_of_another_size(load, compiled, size):
    model, expected = load("hf_vit_classifier")
    outputs = compiled(functools.partial(model, interpolate_pos_encoding=True))(expected[f"pixel_values_{size}"])
    assert_close(outputs.logits, expected[f"{size}/logits"])


def test_logits_with_a_head_mask(load, compiled):
    model, expected = load("hf_vit_classifier")
    outputs = compiled(model)(expected["pixel_values"], head_mask=expected["head_mask"])
    assert_close(outputs.logits, expected["head_mask/logits"])


@in_modes(WITH_GRADIENTS)
def test_the_gradient_of_every_parameter(load, compiled, name):
    model, expected = load(name)
    table = model.parameter_table()
    trained = [row for row in table if row.trainable]
    variables = [model.get_parameter(row).value for row in trained]

    @compiled
    def gradients_of_the_loss(batch):
        with tf.GradientTape() as tape:
            loss = model(batch, **options(model, expected)).loss
        return tape.gradient(loss, variables)

    gradients = {key.removeprefix("grad/"): value for key, value in expected.items() if key.startswith("grad/")}
    canonical = as_canonical(stored_arrays(gradients), family_of(model.config))
    references = {key: stored.numpy() for key, stored in canonical.items()}
    assert references.keys() <= {row.name for row in trained}
    largest_of_all = max(np.abs(reference).max() for reference in references.values())
    for row, gradient in zip(trained, gradients_of_the_loss(inputs(expected)), strict=True):
        if row.name not in references:  # a mask token without a mask, say
            assert gradient is None or not np.any(gradient)
            continue
        reference = references[row.name]
        # Softmax does not change when the same is added to all scores, so a key bias has no gradient but rounding.
        is_rounding = row.name.endswith("key.bias")
        largest = 0.01 * largest_of_all if is_rounding else np.abs(reference).max()
        assert_close(KERAS.to_canonical(row, tf.convert_to_tensor(gradient).numpy()), reference, TOLERANCE * largest)
    assert not any(model.get_parameter(row).trainable for row in table if not row.trainable)


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
