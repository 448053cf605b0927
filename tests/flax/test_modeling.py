import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

import vit_flax
from vit_core.position import resample_position_embeddings
from vit_flax import (
    FlaxViTForImageClassification,
    FlaxViTForMaskedImageModeling,
    FlaxViTModel,
    ViTConfig,
    stack_layers,
    unstack_layers,
)
from vit_flax.activations import ACTIVATIONS
from vit_flax.modeling import (
    FlaxViTIntermediate,
    FlaxViTOutput,
    FlaxViTPooler,
    FlaxViTSelfOutput,
)
from vit_flax.position import resample_grid

grids = st.tuples(st.integers(1, 40), st.integers(1, 40))
MODELS = [FlaxViTModel, FlaxViTForImageClassification, FlaxViTForMaskedImageModeling]


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def normal(shape, seed=1):
    return np.random.default_rng(seed).normal(0, 0.2, shape).astype(np.float32)


def wide(model_class, config, **options):
    """A model whose weights are wide enough that everything shows in the results; their start is not compiled."""
    model = model_class(config, _do_init=False, **options)
    random = np.random.default_rng(1)
    model._params = jax.tree.map(
        lambda leaf: random.normal(0, 0.2, leaf.shape).astype(np.float32), model.params_shape_tree
    )
    return model


def compiled(model, **options):
    return jax.jit(functools.partial(model, **options))


def assert_close(actual, expected, tolerance=1e-6):
    np.testing.assert_allclose(actual, expected, atol=tolerance, rtol=0)


# Position embeddings


@settings(max_examples=12)
@given(grids, grids)
def test_position_embeddings_are_resampled_as_the_core_defines(old_grid, new_grid):
    embeddings = np.random.default_rng(0).uniform(-1, 1, (1, 1 + old_grid[0] * old_grid[1], 3)).astype(np.float32)
    expected = resample_position_embeddings(embeddings, old_grid, new_grid)[0, 1:].reshape(*new_grid, 3)
    resampled = resample_grid(jnp.asarray(embeddings[0, 1:].reshape(*old_grid, 3)), new_grid)
    assert resampled.dtype == jnp.float32
    assert_close(resampled, expected)


def test_half_precision_position_embeddings_are_resampled_in_float32():
    patches = normal((5, 7, 3)).astype(jnp.bfloat16)
    resampled = resample_grid(jnp.asarray(patches), (9, 4))
    assert resampled.dtype == jnp.bfloat16
    exact = resample_grid(jnp.asarray(patches.astype(np.float32)), (9, 4))
    np.testing.assert_array_equal(resampled, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize("size", [(40, 72), (51, 27)])
def test_images_of_another_size_get_resampled_position_embeddings(tiny_config, size):
    tiny_config.num_hidden_layers = 0
    model = wide(FlaxViTModel, tiny_config, add_pooling_layer=False)
    embeddings = model.params["embeddings"]
    embeddings["patch_embeddings"]["projection"]["bias"][:] = 0
    # On a black image without biases, the tokens are the class token and the positions.
    expected = resample_position_embeddings(embeddings["position_embeddings"], (4, 4), (size[0] // 8, size[1] // 8))
    expected[:, 0] += embeddings["cls_token"][0]
    found = compiled(model, interpolate_pos_encoding=True, output_hidden_states=True)(images(1, 3, *size) * 0)
    assert_close(found.hidden_states[0], expected)


def test_interpolation_at_the_models_own_size_changes_nothing(tiny_config):
    model, tokens = FlaxViTModel(tiny_config), jnp.zeros((1, 17, 32))
    embeddings = model.module.bind({"params": model.params}).embeddings
    resampled = embeddings.interpolate_pos_encoding(tokens, 32, 32)
    np.testing.assert_array_equal(resampled, model.params["embeddings"]["position_embeddings"])


# Sizes


def test_a_non_square_model_takes_its_own_size_and_others(tiny_config):
    tiny_config.image_size, tiny_config.patch_size = (32, 60), (8, 10)
    model = wide(FlaxViTForImageClassification, tiny_config)
    assert jax.eval_shape(model, images(2, 3, 32, 60)).logits.shape == (2, 5)
    run = functools.partial(model, interpolate_pos_encoding=True, output_hidden_states=True)
    assert jax.eval_shape(run, images(2, 3, 60, 32)).hidden_states[0].shape == (2, 1 + 7 * 3, 32)
    with pytest.raises(ValueError, match="60 x 32 pixels do not fit a model for 32 x 60"):
        model(images(2, 3, 60, 32))


def test_a_patch_is_a_rectangle_of_the_image(tiny_config):
    tiny_config.image_size, tiny_config.patch_size, tiny_config.num_hidden_layers = (16, 60), (8, 10), 0
    model, pixel_values = wide(FlaxViTModel, tiny_config, add_pooling_layer=False), images(1, 3, 16, 60)
    embeddings = model.params["embeddings"]
    projection, pixels = embeddings["patch_embeddings"]["projection"], pixel_values[0].reshape(3, 2, 8, 6, 10)
    tokens = np.einsum("crhqw,hwcd->rqd", pixels, projection["kernel"]) + projection["bias"]
    expected = tokens.reshape(12, 32) + embeddings["position_embeddings"][0, 1:]
    found = compiled(model, output_hidden_states=True)(pixel_values)
    assert_close(found.hidden_states[0][0, 1:], expected, 1e-5)


def test_masked_image_modeling_of_another_size(tiny_config):
    tiny_config.image_size, tiny_config.num_hidden_layers = (32, 64), 1
    model = wide(FlaxViTForMaskedImageModeling, tiny_config)
    pixel_values, mask = images(2, 3, 32, 64), np.random.default_rng(1).random((2, 32)) > 0.5
    outputs = compiled(model)(pixel_values, mask)
    assert outputs.reconstruction.shape == pixel_values.shape
    pixels = np.broadcast_to(mask.reshape(2, 1, 4, 8).repeat(8, 2).repeat(8, 3), (2, 3, 32, 64))
    assert_close(outputs.loss, np.abs(outputs.reconstruction - pixel_values)[pixels].mean())
    # What is left over beside the patches of an image is neither seen nor reconstructed.
    pixel_values, run = images(2, 3, 51, 27), compiled(model, interpolate_pos_encoding=True)
    outputs = run(pixel_values, np.ones((2, 18)))
    assert outputs.reconstruction.shape == (2, 3, 48, 24)
    assert_close(outputs.loss, np.abs(outputs.reconstruction - pixel_values[..., :48, :24]).mean())
    without = run(pixel_values[..., :48, :24], np.ones((2, 18)))
    assert_close(outputs.reconstruction, without.reconstruction)


def test_a_reconstruction_holds_each_patch_at_its_place(tiny_config):
    tiny_config.num_hidden_layers = 0
    model = wide(FlaxViTForMaskedImageModeling, tiny_config)
    decoder = model.params["decoder"]["0"]
    decoder["kernel"][:] = 0
    decoder["bias"][:] = np.arange(3 * 8 * 8)
    # torch.nn.PixelShuffle: a token holds the channels, then the rows of its patch.
    expected = np.tile(np.arange(3 * 8 * 8).reshape(3, 8, 8), (1, 4, 4))
    np.testing.assert_array_equal(compiled(model)(images(1, 3, 32, 32)).reconstruction[0], expected)


def test_the_mask_token_replaces_what_a_patch_shows(tiny_config):
    tiny_config.num_hidden_layers = 0
    model = wide(FlaxViTModel, tiny_config, use_mask_token=True, add_pooling_layer=False)
    mask = np.random.default_rng(0).random((2, 16)) > 0.5
    run = compiled(model, output_hidden_states=True)
    masked, seen = (run(images(2, 3, 32, 32), bool_masked_pos=each).hidden_states[0][:, 1:] for each in (mask, ~mask))
    embeddings = model.params["embeddings"]
    hidden = np.broadcast_to(embeddings["mask_token"] + embeddings["position_embeddings"][:, 1:], masked.shape)
    assert_close(masked[mask], hidden[mask])
    assert_close(seen[~mask], hidden[~mask])
    assert np.abs(seen[mask] - hidden[mask]).max() > 0.1


# What the call and the config decide


def test_tuples_hold_the_same_as_outputs(tiny_config):
    tiny_config.num_hidden_layers = 1
    model = wide(FlaxViTForImageClassification, tiny_config)
    options = {"labels": np.array([0, 4]), "output_hidden_states": True, "output_attentions": True}
    as_output, as_tuple = jax.jit(lambda x: (model(x, **options), model(x, **options, return_dict=False)))(
        images(2, 3, 32, 32)
    )
    assert type(as_tuple) is tuple
    assert len(as_tuple) == len(as_output) == 4
    for one, other in zip(jax.tree.leaves(as_tuple), jax.tree.leaves(as_output), strict=True):
        assert_close(one, other)


def test_the_config_decides_what_the_call_does_not(tiny_config):
    tiny_config.output_attentions = tiny_config.output_hidden_states = True
    model, pixel_values = wide(FlaxViTModel, tiny_config), images(1, 3, 32, 32)

    def shapes(**options):
        return jax.eval_shape(functools.partial(model, **options), pixel_values)

    assert (len(shapes().hidden_states), len(shapes().attentions)) == (3, 2)
    outputs = shapes(output_attentions=False, output_hidden_states=False)
    assert list(outputs.keys()) == ["last_hidden_state", "pooler_output"]
    model.config.return_dict = False
    assert type(shapes()) is tuple
    assert type(shapes(return_dict=True)) is vit_flax.FlaxBaseModelOutputWithPooling


@pytest.mark.parametrize("scan_layers", [False, True])
def test_hidden_states_and_attention_maps_come_one_without_the_other(tiny_config, scan_layers):
    model, pixel_values = wide(FlaxViTModel, tiny_config, scan_layers=scan_layers), images(1, 3, 32, 32)
    outputs = jax.eval_shape(functools.partial(model, output_hidden_states=True), pixel_values)
    assert ([each.shape for each in outputs.hidden_states], outputs.attentions) == ([(1, 17, 32)] * 3, None)
    outputs = jax.eval_shape(functools.partial(model, output_attentions=True), pixel_values)
    assert (outputs.hidden_states, [each.shape for each in outputs.attentions]) == (None, [(1, 4, 17, 17)] * 2)


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("num_hidden_layers", [0, 1, 2])
def test_the_class_token_alone_is_what_it_is_among_all(tiny_config, num_hidden_layers, scan_layers):
    if not scan_layers:
        tiny_config.pruned_heads = {0: [1]} if num_hidden_layers else {}
    tiny_config.num_hidden_layers = num_hidden_layers
    model = wide(FlaxViTForImageClassification, tiny_config, scan_layers=scan_layers)
    # Hidden states are of all tokens, so asking for them has the last layer compute all.
    alone, among_all = jax.jit(
        lambda pixel_values: (model(pixel_values).logits, model(pixel_values, output_hidden_states=True).logits)
    )(images(2, 3, 32, 32))
    assert_close(alone, among_all)


@pytest.mark.parametrize("uses_pooler", [False, True])
def test_a_classifiers_last_layer_computes_the_class_token_alone_where_nobody_sees_the_others(tiny_config, uses_pooler):
    tiny_config.classifier_uses_pooler = uses_pooler
    model = wide(FlaxViTForImageClassification, tiny_config)

    def tokens_of_the_last_layer(**options):
        shapes = []

        def watch(call, args, kwargs, context):
            returned = call(*args, **kwargs)
            if context.module.path[-2:] == ("layer", "1") and context.method_name == "__call__":
                shapes.append(returned[0].shape)
            return returned

        run = functools.partial(model.module.apply, **options)
        with nn.intercept_methods(watch):
            jax.eval_shape(run, {"params": model.params}, images(1, 32, 32, 3))
        ((_, tokens, _),) = shapes
        return tokens

    assert tokens_of_the_last_layer() == 1
    assert tokens_of_the_last_layer(output_attentions=True) == 17
    assert tokens_of_the_last_layer(output_hidden_states=True) == 17
    assert tokens_of_the_last_layer(capture_intermediates=True) == 17


def test_a_head_mask_for_one_layer_serves_all(tiny_config):
    model, pixel_values = wide(FlaxViTModel, tiny_config), images(1, 3, 32, 32)
    mask, run = np.array([1, 0, 0.5, 1], np.float32), compiled(model, output_attentions=True)
    per_model, per_layer = (run(pixel_values, head_mask=each) for each in (mask, np.broadcast_to(mask, (2, 4))))
    assert_close(per_model.last_hidden_state, per_layer.last_hidden_state)
    without = run(pixel_values)
    # Maps are as they weigh the values, with the mask's factors.
    assert_close(per_model.attentions[0], without.attentions[0] * mask[:, None, None])
    assert np.abs(per_model.last_hidden_state - without.last_hidden_state).max() > 1e-3


# Layers: none, scanned, with fewer heads


@pytest.mark.parametrize("scan_layers", [False, True])
def test_a_model_without_layers_is_its_embeddings(tiny_config, scan_layers):
    tiny_config.num_hidden_layers = 0
    model = wide(FlaxViTModel, tiny_config, scan_layers=scan_layers)
    outputs = compiled(model, output_hidden_states=True, output_attentions=True)(images(1, 3, 32, 32))
    (embedded,) = outputs.hidden_states
    assert outputs.attentions is None
    deviation = embedded - embedded.mean(-1, keepdims=True)
    scale, bias = model.params["layernorm"]["scale"], model.params["layernorm"]["bias"]
    expected = deviation / np.sqrt(np.square(deviation).mean(-1, keepdims=True) + 1e-12) * scale + bias
    assert_close(outputs.last_hidden_state, expected, 1e-5)


def test_scanned_layers_with_stacked_parameters_are_the_unrolled_ones(tiny_config):
    unrolled = wide(FlaxViTForMaskedImageModeling, tiny_config)
    scanned = FlaxViTForMaskedImageModeling(tiny_config, scan_layers=True, _do_init=False)
    scanned._params = stack_layers(unrolled.params)
    back = unstack_layers(scanned.params)
    assert jax.tree.structure(back) == jax.tree.structure(unrolled.params)
    assert jax.tree.all(jax.tree.map(np.array_equal, back, unrolled.params))
    options = {
        "output_hidden_states": True,
        "output_attentions": True,
        "head_mask": np.linspace(0.2, 1, 8).reshape(2, 4),
    }
    found, expected = (
        compiled(model, **options)(images(2, 3, 32, 32), np.arange(32).reshape(2, 16) % 3 == 0)
        for model in (scanned, unrolled)
    )
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_close(one, other, 1e-5)


def test_a_pruned_head_is_a_masked_one(tiny_config):
    full, pixel_values = wide(FlaxViTModel, tiny_config, add_pooling_layer=False), images(2, 3, 32, 32)
    mask = np.array([[1, 0, 1, 1], [0, 1, 0, 1]], np.float32)
    config = ViTConfig.from_dict({**tiny_config.to_dict(), "pruned_heads": {0: [1], 1: [0, 2]}})
    pruned = FlaxViTModel(config, add_pooling_layer=False, _do_init=False)
    params = jax.tree.map(np.copy, full.params)
    for layer, kept in enumerate(mask.astype(bool)):
        attention, columns = params["encoder"]["layer"][str(layer)]["attention"], kept.repeat(8)
        for linear in attention["attention"].values():
            linear["kernel"], linear["bias"] = linear["kernel"][:, columns], linear["bias"][columns]
        attention["output"]["dense"]["kernel"] = attention["output"]["dense"]["kernel"][columns]
    pruned._params = params
    expected = compiled(full)(pixel_values, head_mask=mask).last_hidden_state
    run = compiled(pruned, output_attentions=True)
    found = run(pixel_values, head_mask=np.ones((2, 4)))
    assert [each.shape[1] for each in found.attentions] == [3, 2]
    assert_close(found.last_hidden_state, expected, 1e-5)
    # A head mask counts heads as before pruning, and what it says of heads that are not there does not matter.
    assert_close(run(pixel_values, head_mask=mask).last_hidden_state, expected, 1e-5)
    masked = run(pixel_values, head_mask=np.array([[1, 1, 0, 1], [1, 1, 1, 1]]))
    assert [bool(np.any(head)) for head in masked.attentions[0][0]] == [True, False, True]


def test_scanned_layers_must_have_the_same_heads(tiny_config):
    tiny_config.pruned_heads = {0: [1]}
    with pytest.raises(ValueError, match="scan_layers=True needs layers of one shape, but the config has pruned_heads"):
        FlaxViTModel(tiny_config, scan_layers=True)


# Activations and choices of the config


def test_activations_are_the_published_formulas():
    x = np.linspace(-12, 12, 241)
    gelu = x * (1 + special.erf(x / 2**0.5)) / 2
    tanh = x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    expected = {
        "gelu": gelu,
        "gelu_new": tanh,
        "gelu_10": gelu.clip(-10, 10),
        "relu": x.clip(min=0),
        "relu2": x.clip(min=0) ** 2,
        "relu6": x.clip(0, 6),
        "leaky_relu": np.where(x > 0, x, 0.01 * x),
        "selu": 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)),
        "silu": x / (1 + np.exp(-x)),
        "quick_gelu": x / (1 + np.exp(-1.702 * x)),
        "mish": x * np.tanh(np.log(1 + np.exp(x))),
        "laplace": (1 + special.erf((x - 0.707107) / (0.282095 * 2**0.5))) / 2,
        "sigmoid": 1 / (1 + np.exp(-x)),
        "linear": x,
        "tanh": (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
    }
    assert ACTIVATIONS.keys() == expected.keys()
    single = jax.jit(lambda x: {name: function(x) for name, function in ACTIVATIONS.items()})(jnp.float32(x))
    with jax.enable_x64(True):
        double = jax.jit(lambda x: {name: function(x) for name, function in ACTIVATIONS.items()})(x)
    for name, values in expected.items():
        assert (single[name].dtype, double[name].dtype) == (jnp.float32, jnp.float64)
        np.testing.assert_allclose(single[name], values, rtol=1e-6, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(double[name], values, rtol=1e-12, atol=1e-12, err_msg=name)


def test_gelu_in_half_precision_is_the_exact_one_rounded():
    x = np.linspace(-4, 4, 101).astype(jnp.bfloat16)
    wide_x = x.astype(np.float32)
    exact = jnp.float32(wide_x * (1 + special.erf(wide_x / 2**0.5)) / 2)
    rounded = ACTIVATIONS["gelu"](jnp.asarray(x))
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_allclose(rounded.astype(jnp.float32), exact, rtol=2**-8, atol=1e-6)


def test_an_activation_may_be_a_function(tiny_config):
    tiny_config.hidden_act = tiny_config.pooler_act = jnp.sin
    tiny_config.num_hidden_layers = 1
    model, pixel_values = wide(FlaxViTModel, tiny_config), images(2, 3, 32, 32)
    outputs = compiled(model)(pixel_values)
    pooler = model.params["pooler"]["dense"]
    expected = np.sin(outputs.last_hidden_state[:, 0] @ pooler["kernel"] + pooler["bias"])
    assert_close(outputs.pooler_output, expected)
    intermediate, hidden_states = model.params["encoder"]["layer"]["0"]["intermediate"], images(2, 3, 32)
    found = FlaxViTIntermediate(tiny_config).apply({"params": intermediate}, hidden_states)
    dense = intermediate["dense"]
    assert_close(found, np.sin(hidden_states @ dense["kernel"] + dense["bias"]))


def test_the_pooler_may_be_wider_and_have_another_activation(tiny_config):
    tiny_config.pooler_output_size, tiny_config.pooler_act = 7, "relu"
    dense, hidden_states = {"kernel": normal((32, 7)), "bias": normal(7)}, images(2, 17, 32)
    pooled = FlaxViTPooler(tiny_config).apply({"params": {"dense": dense}}, hidden_states)
    assert_close(pooled, (hidden_states[:, 0] @ dense["kernel"] + dense["bias"]).clip(min=0))
    model = wide(FlaxViTModel, tiny_config)
    assert jax.eval_shape(model, images(2, 3, 32, 32)).pooler_output.shape == (2, 7)


def test_without_a_pooler_there_is_one_result(tiny_config):
    outputs = jax.eval_shape(wide(FlaxViTModel, tiny_config, add_pooling_layer=False), images(1, 3, 32, 32))
    assert outputs.pooler_output is None
    assert list(outputs.keys()) == ["last_hidden_state"]


def test_without_labels_the_classifier_passes_the_class_token_on(tiny_config):
    tiny_config.num_labels, tiny_config.num_hidden_layers = 0, 1
    model, pixel_values = wide(FlaxViTForImageClassification, tiny_config), images(2, 3, 32, 32)
    base = FlaxViTModel(tiny_config, add_pooling_layer=False, _do_init=False)
    expected = jax.jit(base)(pixel_values, params=model.params["vit"]).last_hidden_state[:, 0]
    assert_close(compiled(model)(pixel_values).logits, expected)


def uses_pooler(config):
    config.classifier_uses_pooler, config.pooler_output_size = True, 24
    return config


@pytest.mark.parametrize("scan_layers", [False, True])
def test_a_classifier_may_read_the_pooler(tiny_config, scan_layers):
    model = wide(FlaxViTForImageClassification, uses_pooler(tiny_config), scan_layers=scan_layers)
    base, classifier = FlaxViTModel(tiny_config, scan_layers=scan_layers, _do_init=False), model.params["classifier"]
    assert classifier["kernel"].shape == (24, 5)

    @jax.jit
    def run(pixel_values):
        pooled = base(pixel_values, params=model.params["vit"]).pooler_output
        asked = ({}, {"output_attentions": True}, {"output_hidden_states": True})
        return pooled, [model(pixel_values, **options).logits for options in asked]

    pooled, found = run(images(2, 3, 32, 32))
    for logits in found:
        assert_close(logits, pooled @ classifier["kernel"] + classifier["bias"], 1e-5)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_a_classifier_that_reads_the_pooler_starts_as_the_table_says(tiny_config, scan_layers):
    tiny_config.initializer_range = 0.2
    model = FlaxViTForImageClassification(uses_pooler(tiny_config), scan_layers=scan_layers)
    made = jax.eval_shape(model.module.init, model.key, jnp.zeros((1, 32, 32, 3)))["params"]
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, model.params)
    pooler = model.params["vit"]["pooler"]["dense"]
    assert (pooler["kernel"].shape, pooler["bias"].shape) == ((32, 24), (24,))
    assert 0.17 < np.std(pooler["kernel"]) < 0.23
    assert not np.any(pooler["bias"])


@pytest.mark.parametrize("scan_layers", [False, True])
def test_a_classifier_that_reads_the_pooler_fits_a_base_checkpoint(fixture_folder, scan_layers):
    folder = fixture_folder / "hf_vit_model"
    with pytest.warns(UserWarning, match="classifier.weight, classifier.bias were not in the checkpoint"):
        model, info = FlaxViTForImageClassification.from_pretrained(
            folder, classifier_uses_pooler=True, num_labels=3, scan_layers=scan_layers, output_loading_info=True
        )
    assert info["missing_keys"] == ["classifier.weight", "classifier.bias"]
    assert info["unexpected_keys"] == []
    expected = FlaxViTModel.from_pretrained(folder).params["pooler"]
    assert jax.tree.all(jax.tree.map(np.array_equal, model.params["vit"]["pooler"], expected))


def test_a_mesh_may_split_what_the_pooler_puts_out(tiny_config):
    mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "model"))
    on = vit_flax.Partitioning(mesh, (*vit_flax.FSDP, ("pooled", "model")))
    alone = wide(FlaxViTForImageClassification, uses_pooler(tiny_config))
    spread = FlaxViTForImageClassification(tiny_config, partitioning=on, _do_init=False)
    params = jax.device_put(alone.params, spread.parameter_shardings())
    kernels = params["vit"]["pooler"]["dense"]["kernel"], params["classifier"]["kernel"]
    assert [{shard.data.shape for shard in kernel.addressable_shards} for kernel in kernels] == [{(16, 6)}, {(6, 5)}]
    pixel_values = images(2, 3, 32, 32)
    found = jax.jit(spread)(jax.device_put(pixel_values, on.sharding("batch")), params=params)
    assert_close(found.logits, compiled(alone)(pixel_values).logits)
    tiny_config.pooler_output_size = 23
    with pytest.raises(ValueError, match="have 23 entries along 'pooled', which the rules split over the 4 devices"):
        FlaxViTForImageClassification(tiny_config, partitioning=on, _do_init=False)


def test_masked_image_modeling_has_no_pooler_whatever_the_classifier_uses(tiny_config):
    model = FlaxViTForMaskedImageModeling(uses_pooler(tiny_config), _do_init=False)
    made = jax.eval_shape(model.module.init, model.key, jnp.zeros((1, 32, 32, 3)))["params"]
    assert made["vit"].keys() == {"embeddings", "encoder", "layernorm"}


def test_nearly_uniform_tokens_are_normalized_by_their_own_variance(tiny_config):
    # Mean of squares less square of mean, which Flax computes by default, is off by percents here.
    token = 100 + normal(32)
    scale, bias = normal(32, 2), normal(32, 3)
    layer_norm = FlaxViTPooler(tiny_config).layer_norm()
    found = layer_norm.apply({"params": {"scale": scale, "bias": bias}}, token)
    deviation = np.float64(token) - np.float64(token).mean()
    assert_close(found, deviation / np.sqrt(np.square(deviation).mean() + 1e-12) * scale + bias, 1e-4)


# Dropout

KEY = jax.random.key(0)


def test_dropout_acts_in_training_only(tiny_config):
    tiny_config.hidden_dropout_prob = tiny_config.attention_probs_dropout_prob = 0.5
    tiny_config.num_hidden_layers = 1
    model, pixel_values = wide(FlaxViTForImageClassification, tiny_config), images(1, 3, 32, 32)
    training = jax.jit(lambda key: model(pixel_values, dropout_rng=key, train=True).logits)
    plain, with_key = jax.jit(lambda key: (model(pixel_values).logits, model(pixel_values, dropout_rng=key).logits))(
        KEY
    )
    np.testing.assert_array_equal(plain, with_key)
    np.testing.assert_array_equal(training(KEY), training(KEY))
    assert (training(KEY) != plain).any()
    assert (training(KEY) != training(jax.random.key(1))).any()


def test_dropout_without_random_numbers_is_named(tiny_config):
    words = r"dropout acts in training and needs random numbers; pass dropout_rng=jax.random.key\(...\), another one"
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        config = ViTConfig.from_dict({**tiny_config.to_dict(), name: 0.1})
        for model_class in MODELS:
            model = wide(model_class, config)
            with pytest.raises(ValueError, match=words):
                model(images(1, 3, 32, 32), train=True)
            with pytest.raises(ValueError, match=words):
                model.module.apply({"params": model.params}, images(1, 32, 32, 3), deterministic=False)


def test_training_without_dropout_needs_no_random_numbers(tiny_config):
    model, pixel_values = wide(FlaxViTForImageClassification, tiny_config), images(1, 3, 32, 32)
    assert jax.eval_shape(functools.partial(model, train=True), pixel_values).logits.shape == (1, 5)


def assert_dropped(found, kept, probability):
    """Some entries are zero, and the others so much larger that the expectation stays."""
    is_dropped = np.asarray(found) == 0
    assert abs(is_dropped.mean() - probability) < 0.05
    assert_close(np.asarray(found)[~is_dropped], np.asarray(kept / (1 - probability))[~is_dropped], 1e-5)


def test_dropout_of_embeddings_keeps_their_expectation(tiny_config):
    tiny_config.hidden_dropout_prob, tiny_config.num_hidden_layers = 0.25, 0
    model, pixel_values = wide(FlaxViTModel, tiny_config, add_pooling_layer=False), images(4, 3, 32, 32)
    run = compiled(model, output_hidden_states=True)
    training = compiled(model, output_hidden_states=True, train=True)
    assert_dropped(training(pixel_values, dropout_rng=KEY).hidden_states[0], run(pixel_values).hidden_states[0], 0.25)


@pytest.mark.parametrize(("part", "inputs"), [(FlaxViTSelfOutput, 32), (FlaxViTOutput, 48)])
def test_dropout_before_a_residual_keeps_the_expectation(tiny_config, part, inputs):
    tiny_config.hidden_dropout_prob = 0.25
    params = {"params": {"dense": {"kernel": normal((inputs, 32)), "bias": normal(32)}}}
    module, hidden_states, residual = part(tiny_config), images(4, 17, inputs), jnp.zeros((4, 17, 32))
    dropped = module.apply(params, hidden_states, residual, deterministic=False, rngs={"dropout": KEY})
    assert_dropped(dropped, module.apply(params, hidden_states, residual), 0.25)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_attention_dropout_drops_probabilities_differently_in_each_layer(tiny_config, scan_layers):
    tiny_config.attention_probs_dropout_prob = 0.5
    model, pixel_values = wide(FlaxViTModel, tiny_config, scan_layers=scan_layers), images(2, 3, 32, 32)
    training, plain = jax.jit(
        lambda key: tuple(
            model(pixel_values, dropout_rng=key, train=is_training, output_attentions=True).attentions
            for is_training in (True, False)
        )
    )(KEY)
    assert_dropped(training[0], plain[0], 0.5)
    assert_close(plain[0].sum(-1), 1)
    assert np.abs(training[0].sum(-1) - 1).max() > 0.1
    first, second = (np.asarray(each) == 0 for each in training)
    assert 0.4 < (first != second).mean() < 0.6  # half, since they have nothing to do with each other


# As a module of Flax


def test_a_model_holds_a_linen_module_whose_init_makes_such_parameters_and_whose_apply_takes_them(tiny_config):
    tiny_config.num_hidden_layers = 1
    model, pixel_values = wide(FlaxViTForImageClassification, tiny_config), images(2, 3, 32, 32)
    variables = jax.eval_shape(model.module.init, jax.random.key(3), images(1, 32, 32, 3))
    assert variables.keys() == {"params"}
    assert jax.tree.structure(variables["params"]) == jax.tree.structure(model.params)
    found = jax.jit(model.module.apply)({"params": model.params}, pixel_values.transpose(0, 2, 3, 1))
    assert_close(found.logits, compiled(model)(pixel_values).logits)


def test_a_module_can_be_cloned_with_other_fields(tiny_config):
    model = wide(FlaxViTModel, tiny_config)
    clone = model.module.clone(dtype=jnp.bfloat16, add_pooling_layer=False, name="backbone")
    params = {name: value for name, value in model.params.items() if name != "pooler"}
    outputs = jax.eval_shape(clone.apply, {"params": params}, images(1, 32, 32, 3))
    assert outputs.pooler_output is None
    assert outputs.last_hidden_state.dtype == jnp.bfloat16
    assert model.module.dtype == jnp.float32


@pytest.mark.parametrize("model_class", MODELS)
def test_modules_return_tuples_on_request_and_their_arguments_have_flax_order(tiny_config, model_class):
    model = wide(model_class, tiny_config)

    def run(*arguments):
        return jax.eval_shape(
            lambda params: model.module.apply({"params": params}, images(1, 32, 32, 3), *arguments), model.params
        )

    outputs = run(True, True, True)
    assert (len(outputs.attentions), len(outputs.hidden_states)) == (2, 3)
    as_tuple = run(True, False, True, False)
    assert type(as_tuple) is tuple
    assert [each.shape for each in as_tuple[-1]] == [(1, 17, 32)] * 3


# Conveniences


def test_conveniences(tiny_config):
    model = FlaxViTForImageClassification(tiny_config, _do_init=False, dtype=jnp.bfloat16)
    assert model.num_parameters() == sum(row.size for row in model.parameter_table())
    assert model.dtype == jnp.bfloat16
    assert (model.main_input_name, model.base_model_prefix, model.framework) == ("pixel_values", "vit", "flax")
    assert (model.num_labels, model.can_generate()) == (5, False)
    model.enable_gradient_checkpointing()
    assert model.module.remat is True
    assert model.module.dtype == jnp.bfloat16


def test_something_else_than_a_config_is_named():
    with pytest.raises(TypeError, match="FlaxViTModel takes a ViTConfig, not a str; .* FlaxViTModel.from_pretrained"):
        FlaxViTModel("bundled/vit-digits")


def test_a_config_that_was_made_impossible_is_refused(tiny_config):
    tiny_config.hidden_size = 33
    with pytest.raises(ValueError, match="hidden_size is 33"):
        FlaxViTModel(tiny_config)


def test_names_without_the_prefix_are_the_same_classes():
    for model_class in MODELS:
        assert getattr(vit_flax, model_class.__name__.removeprefix("Flax")) is model_class
    assert isinstance(ViTConfig(), FlaxViTModel.config_class)
