"""The modules in Flax NNX, by its bridge."""

import functools

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vit_flax import TENSOR_PARALLEL, FlaxViTForImageClassification, Partitioning

IMAGES = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype("float32")
LABELS = np.arange(8, dtype="int32") % 5


@pytest.fixture
def config(tiny_config):
    """One layer, to compile less."""
    tiny_config.num_hidden_layers = 1
    return tiny_config


def numbers(model):
    """Parameters that cost no compilation."""
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: random.normal(0, 0.1, leaf.shape).astype("float32"), model.params_shape_tree)


def bridged(model, params):
    """The module of a model in NNX, with parameters of the model's instead of random ones."""
    module = nnx.eval_shape(lambda: nnx.bridge.ToNNX(model.module, rngs=nnx.Rngs(0)).lazy_init(IMAGES[:1]))
    state = nnx.state(module, nnx.Param)
    nnx.replace_by_pure_dict(state, params)
    nnx.update(module, state)
    module.to_nnx__rngs = nnx.Rngs(dropout=0)
    return module


@nnx.jit
def logits_of(module, images):
    return module(images).logits


def test_a_bridged_module_starts_with_the_parameters_of_the_model_drawn_at_random(config):
    model = FlaxViTForImageClassification(config, _do_init=False)
    module = nnx.jit(lambda: nnx.bridge.ToNNX(model.module, rngs=nnx.Rngs(params=0)).lazy_init(IMAGES[:1]))()
    found = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, numbers(model))
    spread = np.std(found["vit"]["encoder"]["layer"]["0"]["intermediate"]["dense"]["kernel"])
    assert spread == pytest.approx(0.02, rel=0.05)


def test_a_bridged_module_gives_the_logits_of_the_model(config):
    model = FlaxViTForImageClassification(config, _do_init=False)
    params = numbers(model)
    expected = jax.jit(model)(IMAGES.transpose(0, 3, 1, 2), params).logits
    np.testing.assert_allclose(logits_of(bridged(model, params), IMAGES), expected, rtol=0, atol=1e-6)


def test_an_optimizer_of_nnx_trains_it_as_optax_trains_the_model(config):
    model = FlaxViTForImageClassification(config, _do_init=False)
    params = numbers(model)
    module, chain = bridged(model, params), optax.adamw(1e-3, eps=1e-4)
    optimizer = nnx.Optimizer(module, chain, wrt=nnx.Param)

    @nnx.jit
    def step(module, optimizer):
        def loss(module):
            return module(IMAGES, deterministic=False, labels=LABELS).loss

        value, gradients = nnx.value_and_grad(loss)(module)
        optimizer.update(module, gradients)
        return value

    @jax.jit
    def expected_step(params):
        def loss(params):
            return model(IMAGES.transpose(0, 3, 1, 2), params, labels=LABELS, train=True).loss

        value, gradients = jax.value_and_grad(loss)(params)
        updates, _ = chain.update(gradients, chain.init(params), params)
        return value, optax.apply_updates(params, updates)

    expected_loss, expected = expected_step(params)
    assert float(step(module, optimizer)) == pytest.approx(float(expected_loss), abs=1e-6)
    trained = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    for path, leaf in jax.tree_util.tree_leaves_with_path(trained):
        old, new = (functools.reduce(lambda node, key: node[key.key], path, tree) for tree in (params, expected))
        np.testing.assert_allclose(leaf, new, rtol=0, atol=1e-6)
        assert np.abs(leaf - old).max() > 0


def test_dropout_draws_from_the_streams_of_nnx(config):
    config.hidden_dropout_prob = 0.3
    model = FlaxViTForImageClassification(config, _do_init=False)
    module = bridged(model, numbers(model))

    @nnx.jit
    def dropped(module):
        return module(IMAGES, deterministic=False).logits

    first, second = dropped(module), dropped(module)
    module.to_nnx__rngs = nnx.Rngs(dropout=0)
    np.testing.assert_array_equal(dropped(module), first)
    assert np.abs(first - second).max() > 0.01
    assert np.abs(first - logits_of(module, IMAGES)).max() > 0.01


def test_a_module_on_a_mesh_keeps_its_axes_and_its_numbers(config):
    alone = FlaxViTForImageClassification(config, _do_init=False)
    params = numbers(alone)
    expected = logits_of(bridged(alone, params), IMAGES)

    on = Partitioning(jax.make_mesh((2, 4), ("data", "model")), TENSOR_PARALLEL)
    model = FlaxViTForImageClassification(config, partitioning=on, _do_init=False)
    module = bridged(model, jax.device_put(params, model.parameter_shardings()))
    kernel = module.vit["encoder"]["layer"]["0"]["attention"]["attention"]["query"]["kernel"]
    assert kernel[...].sharding.is_equivalent_to(NamedSharding(on.mesh, P(None, "model")), 2)
    specs = nnx.get_partition_spec(nnx.state(module, nnx.Param))
    assert nnx.to_pure_dict(specs)["vit"]["encoder"]["layer"]["0"]["output"]["dense"]["kernel"] == P("model", None)
    logits = logits_of(module, jax.device_put(IMAGES, on.sharding("batch")))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-6)
