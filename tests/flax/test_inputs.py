import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze

from vit_flax import (
    FlaxViTForImageClassification,
    FlaxViTForMaskedImageModeling,
    FlaxViTModel,
    ViTConfig,
    ViTImageProcessor,
    stack_layers,
)

MODELS = [FlaxViTModel, FlaxViTForImageClassification, FlaxViTForMaskedImageModeling]
IMAGES = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)


def model_without_layers(model_class, config, **options):
    """A model that is its embeddings and its head, which run in no time, with random weights."""
    config.num_hidden_layers = 0
    return with_weights(model_class(config, _do_init=False, **options))


def with_weights(model):
    random = np.random.default_rng(1)
    model._params = jax.tree.map(
        lambda leaf: random.normal(0, 0.2, leaf.shape).astype(np.float32), model.params_shape_tree
    )
    return model


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=1e-6)


# The forms that images and masks come in


def test_what_a_processor_returns_is_an_input(tiny_config):
    model = model_without_layers(FlaxViTForImageClassification, tiny_config)
    pictures = list(np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), np.uint8))
    one, other = (
        model(**ViTImageProcessor(size=32)(pictures, return_tensors=return_tensors)).logits
        for return_tensors in ("jax", "np")
    )
    assert one.shape == (2, 5)
    assert_close(one, other)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "bool", "float16", "float64", "bfloat16"])
def test_images_of_any_dtype_are_numbers(tiny_config, dtype):
    model, images = model_without_layers(FlaxViTModel, tiny_config), np.arange(3 * 32 * 32).reshape(1, 3, 32, 32) % 7
    images = images.astype(jnp.dtype(dtype))
    expected = model(images.astype(np.float32)).last_hidden_state
    for each in (
        images,
        jnp.asarray(images.astype(np.float32)).astype(dtype if dtype[-2:] != "64" else dtype[:-2] + "32"),
    ):
        found = model(each).last_hidden_state
        assert found.dtype == jnp.float32
        assert_close(found, expected)


def test_pixels_of_integers_have_a_masked_loss_in_float32(tiny_config):
    model, images = model_without_layers(FlaxViTForMaskedImageModeling, tiny_config), np.full((1, 3, 32, 32), 255)
    outputs = model(images.astype(np.uint8), np.ones((1, 16)))
    assert outputs.loss.dtype == jnp.float32
    np.testing.assert_allclose(outputs.loss, np.abs(np.float64(outputs.reconstruction) - 255).mean(), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bool", "int32", "int64", "float32"])
def test_masks_of_any_dtype_are_masks(tiny_config, dtype):
    model = model_without_layers(FlaxViTForMaskedImageModeling, tiny_config)
    mask = np.arange(32).reshape(2, 16) % 3 == 0
    expected, found = model(IMAGES, mask), model(IMAGES, bool_masked_pos=jnp.asarray(mask.astype(dtype)))
    assert_close(found.loss, expected.loss)
    assert_close(found.reconstruction, expected.reconstruction)
    assert_close(model(IMAGES, mask.astype(dtype)).loss, expected.loss)


def test_head_masks_of_any_dtype_are_factors(tiny_config):
    tiny_config.num_hidden_layers = 1
    model, mask = with_weights(FlaxViTModel(tiny_config, _do_init=False)), np.array([1, 0, 1, 1])
    run = jax.jit(lambda masks: [model(IMAGES, head_mask=each).last_hidden_state for each in masks])
    expected, *others = run([mask.astype(np.float32), mask, mask.astype(bool), np.array([mask])])
    for found in others:
        assert_close(found, expected)


# Images that cannot be understood

IMAGES_THAT_DO_NOT_FIT = [
    ((3, 32, 32), False, r"shape \(3, 32, 32\); they need \(batch, channels, height, width\)"),
    ((), False, r"shape \(\); they need \(batch, channels, height, width\)"),
    ((1, 1, 3, 32, 32), False, r"shape \(1, 1, 3, 32, 32\); they need \(batch, channels, height, width\)"),
    ((1, 1, 32, 32), False, "have 1 channels, the model takes 3; channels come first"),
    ((1, 32, 32, 3), False, "have 32 channels, the model takes 3; channels come first"),
    ((1, 3, 48, 32), False, "48 x 32 pixels do not fit a model for 32 x 32; .* interpolate_pos_encoding=True"),
    ((1, 3, 32, 31), False, "32 x 31 pixels do not fit a model for 32 x 32"),
    ((1, 3, 4, 32), True, "4 x 32 pixels are smaller than one patch of 8 x 8; make them larger"),
    ((1, 3, 32, 7), True, "32 x 7 pixels are smaller than one patch of 8 x 8; make them larger"),
]


@pytest.mark.parametrize(("shape", "interpolate", "words"), IMAGES_THAT_DO_NOT_FIT)
def test_images_that_do_not_fit_are_named_jitted_and_not(tiny_config, shape, interpolate, words):
    model, images = model_without_layers(FlaxViTModel, tiny_config), np.zeros(shape, np.float32)

    def run(images):
        return model(images, interpolate_pos_encoding=interpolate)

    for each in (run, jax.jit(run)):
        with pytest.raises(ValueError, match=words):
            each(images)


@pytest.mark.parametrize("model_class", MODELS)
def test_missing_images_are_named(tiny_config, model_class):
    model = model_without_layers(model_class, tiny_config)
    words = r"pixel_values are missing; pass images of shape \(batch, channels, height, width\)"
    with pytest.raises(ValueError, match=words):
        model(None)


@pytest.mark.parametrize("images", [IMAGES.tolist(), "cat.png", {"pixel_values": IMAGES}], ids=type)
def test_images_that_are_no_array_are_named(tiny_config, images):
    words = f"pixel_values are a {type(images).__name__}; pass an array, such as an image processor returns"
    with pytest.raises(TypeError, match=words):
        model_without_layers(FlaxViTModel, tiny_config)(images)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((32, 32, 3), r"shape \(32, 32, 3\); they need \(batch, height, width, channels\)"),
        ((1, 3, 32, 32), "have 32 channels, the model takes 3; channels come last"),
        ((1, 32, 48, 3), "32 x 48 pixels do not fit a model for 32 x 32"),
    ],
)
def test_modules_take_channels_last_and_say_so(tiny_config, shape, words):
    model = model_without_layers(FlaxViTModel, tiny_config)
    with pytest.raises(ValueError, match=words):
        model.module.apply({"params": model.params}, np.zeros(shape, np.float32))


# Masks and labels that do not fit


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("shape", [(3,), (1, 4), (2, 2, 4), ()])
def test_head_masks_of_another_shape_are_named(tiny_config, shape, scan_layers):
    model = with_weights(FlaxViTModel(tiny_config, _do_init=False, scan_layers=scan_layers))
    shown = str(shape).replace("(", r"\(").replace(")", r"\)")
    words = rf"head_mask has shape {shown}; the model takes \(4,\) or \(2, 4\)"
    with pytest.raises(ValueError, match=words):
        model(IMAGES, head_mask=np.ones(shape))


@pytest.mark.parametrize("shape", [(2, 15), (1, 16), (16,), (2, 4, 4)])
def test_patch_masks_of_another_shape_are_named(tiny_config, shape):
    model, mask = model_without_layers(FlaxViTForMaskedImageModeling, tiny_config), np.ones(shape, bool)
    shown = str(shape).replace("(", r"\(").replace(")", r"\)")
    words = rf"bool_masked_pos has shape {shown}; one entry for each patch is needed, \(2, 16\)"
    for run in (model, jax.jit(model)):
        with pytest.raises(ValueError, match=words):
            run(IMAGES, mask)


def test_a_missing_mask_token_is_named(tiny_config):
    model = model_without_layers(FlaxViTModel, tiny_config)
    with pytest.raises(ValueError, match="bool_masked_pos needs a mask token; .* use_mask_token=True"):
        model(IMAGES, bool_masked_pos=np.ones((2, 16)))


def test_patches_that_the_decoder_cannot_reconstruct_are_named(tiny_config):
    tiny_config.encoder_stride = 16
    model = model_without_layers(FlaxViTForMaskedImageModeling, tiny_config)
    words = "patch_size is 8 and encoder_stride 16; with bool_masked_pos they must be equal"
    with pytest.raises(ValueError, match=words):
        model(IMAGES, np.ones((2, 16)))
    assert model(IMAGES).reconstruction.shape == (2, 3, 64, 64)


def test_labels_that_do_not_fit_are_named(tiny_config):
    model = model_without_layers(FlaxViTForImageClassification, tiny_config)
    for label in (5, -1):
        with pytest.raises(ValueError, match=rf"labels hold {label}; with num_labels=5 they go from 0 to 4"):
            model(IMAGES, labels=np.array([0, label]))
    for run in (model, jax.jit(model)):
        with pytest.raises(ValueError, match=r"labels of shape \(1,\) do not give one class to each of 2 images"):
            run(IMAGES, labels=np.array([0]))


@pytest.mark.parametrize("model_class", MODELS)
def test_no_images_have_no_results(tiny_config, model_class):
    tiny_config.num_hidden_layers = 1
    model = with_weights(model_class(tiny_config, _do_init=False))
    first = jax.jit(model)(IMAGES[:0])[0]
    assert first.shape == (0, *jax.eval_shape(model, IMAGES)[0].shape[1:])


# Parameters that do not fit


def without(params, *path):
    """Parameters without what lies at a path."""
    first, *rest = path
    return {
        name: without(each, *rest) if rest and name == first else each
        for name, each in params.items()
        if rest or name != first
    }


def test_parameters_may_be_given_to_the_call(tiny_config):
    model = model_without_layers(FlaxViTModel, tiny_config)
    other = jax.tree.map(lambda leaf: 2 * leaf, model.params)
    found = model(IMAGES, params=other).last_hidden_state
    assert np.abs(found - model(IMAGES).last_hidden_state).max() > 1e-3
    np.testing.assert_array_equal(model(IMAGES, params=freeze(other)).last_hidden_state, found)
    model.params = freeze(other)
    np.testing.assert_array_equal(model(IMAGES).last_hidden_state, found)
    assert type(model.params) is dict


def refuse(model, params, error, words):
    """A call and an assignment refuse parameters that do not fit."""
    before = model._params
    with pytest.raises(error, match=words):
        model(IMAGES, params=params)
    with pytest.raises(error, match=words):
        model.params = params
    assert model._params is before


def test_missing_parameters_are_named(tiny_config):
    model = model_without_layers(FlaxViTModel, tiny_config)
    params = without(model.params, "pooler", "dense", "bias")
    refuse(model, params, ValueError, "params lack pooler/dense/bias; pass those of a model with the same config")


def test_parameters_beside_those_of_the_model_are_let_be(tiny_config):
    model = model_without_layers(FlaxViTModel, tiny_config, add_pooling_layer=False)
    params = {**model.params, "head": {"kernel": np.ones(3)}}
    np.testing.assert_array_equal(model(IMAGES, params=params)[0], model(IMAGES)[0])
    model.params = params
    assert set(model.params) == set(params)


def test_unknown_parameters_are_named_where_one_is_missing_or_they_are_layers(tiny_config):
    model = model_without_layers(FlaxViTModel, tiny_config)
    params = {"head": {"kernel": np.ones(3)}, **without(model.params, "pooler", "dense", "bias")}
    refuse(model, params, ValueError, "params hold head/kernel, which the model does not have; pass those of a model")
    params = {**model.params, "encoder": {"layer": {"0": {"output": {"dense": {"bias": np.ones(32)}}}}}}
    refuse(model, params, ValueError, "params hold encoder/layer/0/output/dense/bias, which the model does not have")


def test_parameters_of_another_shape_are_named(tiny_config):
    model = model_without_layers(FlaxViTModel, tiny_config)
    params = {**model.params, "layernorm": {"scale": np.ones(31), "bias": np.zeros(32)}}
    words = r"params hold layernorm/scale with shape \(31,\), but the config makes it \(32,\); pass those of a model"
    refuse(model, params, ValueError, words)


def test_stacked_parameters_are_refused_unrolled_and_the_other_way_round(tiny_config):
    unrolled = with_weights(FlaxViTModel(tiny_config, _do_init=False))
    scanned = with_weights(FlaxViTModel(tiny_config, _do_init=False, scan_layers=True))
    words = "params hold encoder/layer/.*, which the model does not have; pass those of .* scan_layers included"
    refuse(unrolled, scanned.params, ValueError, words)
    refuse(scanned, unrolled.params, ValueError, words)
    scanned.params = stack_layers(unrolled.params)


def test_variables_with_their_collection_are_refused(tiny_config):
    model = model_without_layers(FlaxViTModel, tiny_config)
    refuse(
        model, {"params": model.params}, ValueError, "params hold params/embeddings/.*, which the model does not have"
    )


@pytest.mark.parametrize("params", [np.ones(3), [1], "params"], ids=type)
def test_parameters_that_are_no_dict_are_named(tiny_config, params):
    model = model_without_layers(FlaxViTModel, tiny_config)
    words = f"params are a {type(params).__name__}; pass a nested dict such as model.params"
    refuse(model, params, TypeError, words)


def test_a_model_without_parameters_takes_them_from_the_call(tiny_config):
    tiny_config.num_hidden_layers = 0
    model = FlaxViTModel(tiny_config, _do_init=False)
    words = "_do_init=False and has no params; keep those .*, and pass them as params=... to each call"
    for use in (lambda: model.params, lambda: model(IMAGES)):
        with pytest.raises(ValueError, match=words):
            use()
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), model.params_shape_tree)
    assert model(IMAGES, params=params).last_hidden_state.shape == (2, 17, 32)


# Options that do not exist


@pytest.mark.parametrize("model_class", MODELS)
def test_unknown_options_are_named_with_those_there_are(tiny_config, model_class):
    words = f"{model_class.__name__} has no option 'gradient_checkpointing'; it has .*param_dtype.*scan_layers, remat"
    with pytest.raises(TypeError, match=words):
        model_class(tiny_config, gradient_checkpointing=True)


def test_what_only_the_base_model_has_is_no_option_of_the_others(tiny_config):
    for model_class in MODELS[1:]:
        with pytest.raises(TypeError, match="has no option 'use_mask_token'"):
            model_class(tiny_config, use_mask_token=True)


@pytest.mark.parametrize("config", [None, {"hidden_size": 32}, "bundled/vit-digits"], ids=type)
def test_something_else_than_a_config_is_named(config):
    words = (
        f"FlaxViTModel takes a ViTConfig, not a {type(config).__name__}; to load a checkpoint call FlaxViTModel.from"
    )
    with pytest.raises(TypeError, match=words):
        FlaxViTModel(config)


@pytest.mark.parametrize("name", ["dtype", "param_dtype"])
@pytest.mark.parametrize("dtype", ["int8", jnp.int32, "torch.uint8", "single-ish", bool])
def test_types_that_are_no_floating_point_are_named(tiny_config, name, dtype):
    words = f"{name} is .*; choose a floating-point type such as jnp.float32 or jnp.bfloat16"
    with pytest.raises(ValueError, match=words):
        FlaxViTModel(tiny_config, **{name: dtype})


@pytest.mark.parametrize("name", ["dtype", "param_dtype"])
def test_float64_needs_jax_to_be_set_to_it(tiny_config, name):
    with pytest.raises(ValueError, match=rf"{name} is float64, which JAX leaves out; .*'jax_enable_x64', True\) first"):
        FlaxViTModel(tiny_config, **{name: "float64"})


def test_an_unknown_policy_is_named_when_a_model_is_made(tiny_config):
    with pytest.raises(ValueError, match="remat is 'dots'; .*dots_saveable"):
        FlaxViTModel(tiny_config, _do_init=False, remat="dots")
    module = FlaxViTModel(tiny_config, _do_init=False).module.clone(remat="dots")
    with pytest.raises(ValueError, match="remat is 'dots'; .*dots_saveable"):
        jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))


def test_a_config_that_was_made_impossible_is_refused(tiny_config):
    tiny_config.patch_size = 64
    with pytest.raises(ValueError, match="patch_size 64 is larger than image_size 32"):
        FlaxViTModel(tiny_config)
    assert ViTConfig().patch_size == 16
