"""A training state, saved by Orbax from one mesh and restored onto another, goes on as if nothing had happened."""

import functools

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax.training.train_state import TrainState

from vit_flax import FSDP, TENSOR_PARALLEL, FlaxViTForImageClassification, Partitioning

IMAGES = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype("float32")
LABELS = np.arange(8, dtype="int32") % 5
OPTIMIZER = optax.adamw(1e-3, eps=1e-4)
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # to compile, not to run


def create(model, params):
    return TrainState.create(apply_fn=model, params=params, tx=OPTIMIZER)


def placed_shapes(model):
    """What is to be restored, and where."""
    shapes = jax.eval_shape(functools.partial(create, model), model.params_shape_tree)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        model.state_shardings(shapes),
    )


def step_on(model):
    """A compiled step of training, with everything where the model's mesh has it."""
    on, state = model.module.partitioning, placed_shapes(model)

    def step(state, images, labels):
        def loss(params):
            return state.apply_fn(images, params=params, labels=labels, train=True).loss

        value, gradients = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=gradients), value

    out_shardings = (jax.tree.map(lambda leaf: leaf.sharding, state), on.sharding())
    compiled = jax.jit(step, out_shardings=out_shardings, compiler_options=FAST)

    def run(state):
        return compiled(state, *jax.device_put((IMAGES, LABELS), on.sharding("batch")))

    return run


@pytest.fixture
def model(tiny_config):
    """A model with its parameters and moments split over eight devices."""
    on = Partitioning(jax.make_mesh((8,), ("data",)), FSDP)
    return FlaxViTForImageClassification(tiny_config, partitioning=on, scan_layers=True, _do_init=False)


@pytest.fixture
def other(tiny_config):
    """The same model elsewhere: on a mesh of another shape, split by other rules."""
    on = Partitioning(jax.make_mesh((2, 2), ("data", "model"), devices=jax.devices()[:4]), TENSOR_PARALLEL)
    return FlaxViTForImageClassification(tiny_config, partitioning=on, scan_layers=True, _do_init=False)


def assert_equal_and_placed(restored, saved, model):
    expected = placed_shapes(model)
    assert jax.tree.structure(restored) == jax.tree.structure(expected)
    for leaf, original, shape in zip(*map(jax.tree.leaves, (restored, saved, expected)), strict=True):
        np.testing.assert_array_equal(leaf, original)
        assert leaf.sharding.is_equivalent_to(shape.sharding, leaf.ndim)


def test_a_state_saved_from_one_mesh_is_trained_on_with_another(tmp_path, model, other):
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: random.normal(0, 0.1, leaf.shape).astype("float32"), model.params_shape_tree)
    state = jax.device_put(create(model, params), jax.tree.map(lambda leaf: leaf.sharding, placed_shapes(model)))
    step = step_on(model)
    saved, first_loss = step(state)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", saved)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", placed_shapes(model))
        moved = checkpointer.restore(tmp_path / "state", placed_shapes(other))

    assert_equal_and_placed(restored, saved, model)
    assert_equal_and_placed(moved, saved, other)
    assert int(moved.step) == 1
    query = moved.opt_state[0].mu["vit"]["encoder"]["layer"]["attention"]["attention"]["query"]["kernel"]
    assert {shard.data.shape for shard in query.addressable_shards} == {(2, 32, 16)}

    again, expected_loss = step(saved)
    assert expected_loss != first_loss
    assert step(restored)[1] == expected_loss
    moved, loss = step_on(other)(moved)
    assert float(loss) == pytest.approx(float(expected_loss), abs=1e-6)
    for leaf, expected in zip(jax.tree.leaves(moved), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=0, atol=1e-6)
