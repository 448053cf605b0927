import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from scipy import special

from vit_core.layouts import FLAX
from vit_flax import (
    FlaxViTForImageClassification,
    FlaxViTForMaskedImageModeling,
    FlaxViTModel,
    stack_layers,
    unstack_layers,
)
from vit_flax.initialization import normal

MODELS = [FlaxViTModel, FlaxViTForImageClassification, FlaxViTForMaskedImageModeling]


def shapes(tree):
    return {path: (leaf.shape, leaf.dtype) for path, leaf in flatten_dict(tree).items()}


# Names and shapes


def test_parameters_are_named_as_transformers_flax_checkpoints_name_them(tiny_config):
    tiny_config.num_hidden_layers = 1
    model = FlaxViTForImageClassification(tiny_config, _do_init=False)
    linears = {
        **{f"attention/attention/{name}": (32, 32) for name in ("query", "key", "value")},
        "attention/output/dense": (32, 32),
        "intermediate/dense": (32, 48),
        "output/dense": (48, 32),
    }
    layer, embeddings = "vit/encoder/layer/0", "vit/embeddings"
    assert {"/".join(path): shape for path, (shape, _) in shapes(model.params_shape_tree).items()} == {
        f"{embeddings}/cls_token": (1, 1, 32),
        f"{embeddings}/position_embeddings": (1, 17, 32),
        f"{embeddings}/patch_embeddings/projection/kernel": (8, 8, 3, 32),
        f"{embeddings}/patch_embeddings/projection/bias": (32,),
        **{f"{layer}/{name}/kernel": shape for name, shape in linears.items()},
        **{f"{layer}/{name}/bias": shape[1:] for name, shape in linears.items()},
        **{f"{layer}/layernorm_{place}/{leaf}": (32,) for place in ("before", "after") for leaf in ("scale", "bias")},
        "vit/layernorm/scale": (32,),
        "vit/layernorm/bias": (32,),
        "classifier/kernel": (32, 5),
        "classifier/bias": (5,),
    }


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("model_class", MODELS)
def test_what_init_makes_follows_the_table_name_by_name(tiny_config, model_class, qkv_bias, scan_layers):
    tiny_config.qkv_bias = qkv_bias
    model = model_class(tiny_config, _do_init=False, scan_layers=scan_layers)
    made = jax.eval_shape(model.module.init, model.key, jnp.zeros((1, 32, 32, 3)))["params"]
    assert shapes(made) == shapes(model.params_shape_tree)
    assert model.required_params == shapes(made).keys()
    one_by_one = unstacked(model.params_shape_tree) if scan_layers else shapes(made)
    assert {path: shape for path, (shape, _) in one_by_one.items()} == {
        FLAX.path(row): FLAX.shape(row) for row in model.parameter_table()
    }
    assert model.num_parameters() == sum(row.size for row in model.parameter_table())


def unstacked(tree):
    return shapes(unstack_layers(jax.tree.map(lambda leaf: np.zeros(leaf.shape), tree)))


@pytest.mark.parametrize(("options", "names"), [({}, {"pooler"}), ({"add_pooling_layer": False}, set())])
def test_the_pooler_is_a_choice(tiny_config, options, names):
    model = FlaxViTModel(tiny_config, _do_init=False, **options)
    assert model.params_shape_tree.keys() - {"embeddings", "encoder", "layernorm"} == names


@pytest.mark.parametrize("use_mask_token", [False, True])
def test_the_mask_token_is_a_choice(tiny_config, use_mask_token):
    model = FlaxViTModel(tiny_config, _do_init=False, use_mask_token=use_mask_token)
    assert ("mask_token" in model.params_shape_tree["embeddings"]) == use_mask_token


def test_the_dtype_of_parameters_is_an_option_of_its_own(tiny_config):
    tiny_config.num_hidden_layers = 0
    model = FlaxViTModel(tiny_config, dtype=jnp.float32, param_dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {jnp.dtype(jnp.bfloat16)}
    assert shapes(model.params) == shapes(model.params_shape_tree)
    model = FlaxViTModel(tiny_config, dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {jnp.dtype(jnp.float32)}


# Their start


@pytest.mark.parametrize("scan_layers", [False, True])
def test_new_weights_start_as_the_table_says(tiny_config, scan_layers):
    tiny_config.initializer_range = 0.5
    model = FlaxViTModel(tiny_config, use_mask_token=True, scan_layers=scan_layers)
    leaves = flatten_dict(unstack_layers(model.params) if scan_layers else model.params)
    table = {FLAX.path(row): row for row in model.parameter_table()}
    assert leaves.keys() == table.keys()
    for path, row in table.items():
        value = np.asarray(leaves[path])
        if row.initializer == "normal":
            assert np.abs(value).max() <= 2
            if row.size > 1000:
                assert 0.47 < value.std() < 0.53
        else:
            assert (value == (row.initializer == "ones")).all()
    # No two start alike: not two layers, and not two parameters of one.
    kernels = [np.ravel(leaf)[:100] for path, leaf in leaves.items() if path[-1] == "kernel" and np.size(leaf) > 100]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels) == 14


@pytest.mark.parametrize("std", [0.02, 0.5, 1.0, 2.0, 10.0])
def test_the_normal_distribution_is_cut_at_two_whatever_its_width(std):
    drawn = np.asarray(normal(std)(jax.random.key(0), (100, 1000), jnp.float32))
    assert drawn.dtype == np.float32
    assert np.abs(drawn).max() <= 2
    # Variance of a normal distribution cut at plus and minus 2 (Johnson, Kotz & Balakrishnan 1994, 13.10.1).
    cut = 2 / std
    density = np.exp(-(cut**2) / 2) / np.sqrt(2 * np.pi)
    expected = std * np.sqrt(1 - 2 * cut * density / special.erf(cut / np.sqrt(2)))
    assert abs(drawn.std() - expected) < 0.01 * expected
    assert abs(drawn.mean()) < 0.02 * expected


def test_a_normal_distribution_without_width_is_zero():
    np.testing.assert_array_equal(normal(0.0)(jax.random.key(0), (3, 4), jnp.float32), np.zeros((3, 4)))


def test_no_weight_of_millions_is_an_outlier():
    # Of a normal distribution, 2**24 draws stay within 6 deviations in 97 of 100 cases, and within 7 always.
    largest = jax.jit(lambda key: jnp.abs(normal(0.02)(key, (2**24,), jnp.float32)).max())(jax.random.key(0))
    assert 5 * 0.02 < largest < 7 * 0.02


def test_the_seed_decides_the_weights(tiny_config):
    tiny_config.num_hidden_layers = 0

    def weights(**options):
        params = FlaxViTModel(tiny_config, add_pooling_layer=False, **options).params
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])

    first = weights()
    np.testing.assert_array_equal(first, weights(seed=0))
    assert (first != weights(seed=1)).any()
    # The size of the images that init traces does not matter.
    np.testing.assert_array_equal(first, weights(input_shape=(2, 40, 64, 3)))


def test_stacked_layers_start_as_single_ones(tiny_config):
    unrolled, scanned = (FlaxViTModel(tiny_config, scan_layers=scan).params for scan in (False, True))
    assert jax.tree.all(jax.tree.map(np.array_equal, stack_layers(unrolled), scanned))


def test_init_weights_makes_only_what_is_missing(tiny_config):
    tiny_config.num_hidden_layers = 0
    model = FlaxViTForImageClassification(tiny_config, _do_init=False)
    key = jax.random.key(5)
    everything = model.init_weights(key)
    assert shapes(everything) == shapes(model.params_shape_tree)
    given = {"vit": jax.tree.map(lambda leaf: leaf + 1, everything["vit"])}
    filled = model.init_weights(key, params=given)
    assert shapes(filled) == shapes(everything)
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(filled["classifier"][name], everything["classifier"][name])
    assert jax.tree.all(jax.tree.map(lambda one, other: one is other, filled["vit"], given["vit"]))
    complete = model.init_weights(key, params=everything)
    assert jax.tree.all(jax.tree.map(lambda one, other: one is other, complete, everything))


# Stacks


def test_stacks_hold_the_layers_in_order_even_the_eleventh(tiny_config):
    tiny_config.num_hidden_layers = 12
    model = FlaxViTModel(tiny_config, _do_init=False)
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, layer_of(path), np.float32), model.params_shape_tree
    )
    stacked = stack_layers(params)
    scanned = FlaxViTModel(tiny_config, _do_init=False, scan_layers=True)
    assert shapes(stacked) == shapes(scanned.params_shape_tree)
    for leaf in jax.tree.leaves(stacked["encoder"]):
        np.testing.assert_array_equal(leaf.reshape(12, -1)[:, 0], np.arange(12))
    back = unstack_layers(stacked)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    assert jax.tree.all(jax.tree.map(np.array_equal, back, params))


def layer_of(path):
    names = [key.key for key in path]
    return int(names[2]) if names[0] == "encoder" else 0


def test_stacking_finds_the_layers_below_a_head_and_traces(tiny_config):
    model = FlaxViTForMaskedImageModeling(tiny_config, _do_init=False)
    scanned = FlaxViTForMaskedImageModeling(tiny_config, _do_init=False, scan_layers=True)
    assert shapes(jax.eval_shape(stack_layers, model.params_shape_tree)) == shapes(scanned.params_shape_tree)
    assert shapes(jax.eval_shape(unstack_layers, scanned.params_shape_tree)) == shapes(model.params_shape_tree)


# Casting


def cast_example():
    ones = np.ones(2, np.float32)
    return {"kernel": jnp.asarray(ones * 1.001), "norm": {"scale": jnp.asarray(ones), "count": jnp.array([3])}}


@pytest.mark.parametrize(
    ("name", "dtype"), [("to_bf16", jnp.bfloat16), ("to_fp16", jnp.float16), ("to_fp32", jnp.float32)]
)
def test_parameters_are_cast_and_the_given_ones_stay(tiny_config, name, dtype):
    cast, params = getattr(FlaxViTModel(tiny_config, _do_init=False), name), cast_example()
    found = cast(params)
    assert (found["kernel"].dtype, found["norm"]["scale"].dtype) == (dtype, dtype)
    assert found["norm"]["count"].dtype == jnp.int32  # no floating-point number
    np.testing.assert_array_equal(found["kernel"], params["kernel"].astype(dtype))
    assert params["kernel"].dtype == jnp.float32
    halves = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    assert cast(halves)["kernel"].dtype == dtype


def test_a_mask_says_which_parameters_are_cast(tiny_config):
    model, params = FlaxViTModel(tiny_config, _do_init=False), cast_example()
    found = model.to_bf16(params, {"kernel": True, "norm": {"scale": False, "count": True}})
    assert (found["kernel"].dtype, found["norm"]["scale"].dtype) == (jnp.bfloat16, jnp.float32)


@pytest.mark.parametrize(
    "mask", [{"kernel": True}, {"kernel": True, "norm": {"scale": True, "count": True, "bias": True}}]
)
def test_a_mask_of_other_parameters_is_refused(tiny_config, mask):
    model = FlaxViTModel(tiny_config, _do_init=False)
    with pytest.raises(ValueError, match="norm/.* is in only one of params and mask; give one bool for each"):
        model.to_bf16(cast_example(), mask)
