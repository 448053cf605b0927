import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState

from vit_flax import FlaxViTForImageClassification, FlaxViTForMaskedImageModeling
from vit_flax.parameter_tree import flatten

COLOURS = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
IMAGES = COLOURS.repeat(32, axis=2).repeat(32, axis=3)
MASKS = (np.arange(16) % 2).repeat(4).reshape(16, 4).T
CASES = [
    (FlaxViTForImageClassification, {"labels": np.arange(4)}),
    (FlaxViTForMaskedImageModeling, {"bool_masked_pos": MASKS}),
]


def start(config, model_class, **options):
    """A model and a training state, whose weights are drawn without compiling their random start."""
    model, random = model_class(config, _do_init=False, **options), np.random.default_rng(1)

    def drawn(path, leaf):
        return jnp.ones(leaf.shape) if path[-1].key == "scale" else jnp.float32(random.normal(0, 0.05, leaf.shape))

    params = jax.tree_util.tree_map_with_path(drawn, model.params_shape_tree)
    return model, TrainState.create(apply_fn=model.__call__, params=params, tx=optax.adamw(3e-3))


@pytest.mark.parametrize(("scan_layers", "dtype"), [(False, "float32"), (True, "bfloat16")])
@pytest.mark.parametrize(("model_class", "targets"), CASES)
def test_a_few_steps_learn_a_batch_by_heart(tiny_config, model_class, targets, scan_layers, dtype):
    tiny_config.hidden_dropout_prob = 0.1 if scan_layers else 0.0
    _, state = start(tiny_config, model_class, scan_layers=scan_layers, dtype=dtype)

    @jax.jit
    def step(state, batch, key):
        def loss(params):
            return state.apply_fn(**batch, params=params, dropout_rng=key, train=True).loss

        value, gradients = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=gradients), value, gradients

    losses, keys = [], jax.random.split(jax.random.key(0), 40)
    for key in keys:
        state, loss, gradients = step(state, {"pixel_values": IMAGES, **targets}, key)
        if not losses:
            assert_every_parameter_learns(gradients)
        losses.append(float(loss))
    assert losses[-1] < losses[0] / 2
    assert state.step == 40
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"float32"}


def assert_every_parameter_learns(gradients):
    leaves = flatten(gradients)
    largest = max(np.abs(gradient).max() for gradient in leaves.values())
    for path, gradient in leaves.items():
        assert np.isfinite(gradient).all()
        if path[-2:] == ("key", "bias"):  # softmax does not change when the same is added to all scores
            assert np.abs(gradient).max() < 0.01 * largest
        else:
            assert np.abs(gradient).max() > 1e-5 * largest, path


def test_frozen_parameters_stay_as_they_are(tiny_config):
    tiny_config.num_hidden_layers = 1
    model, state = start(tiny_config, FlaxViTForImageClassification)
    labels = {"vit": "frozen", "classifier": "trained"}
    optimizer = optax.multi_transform({"frozen": optax.set_to_zero(), "trained": optax.sgd(0.1)}, labels)
    state = TrainState.create(apply_fn=model.__call__, params=state.params, tx=optimizer)

    @jax.jit
    def step(state):
        gradients = jax.grad(lambda params: model(IMAGES, params=params, labels=np.arange(4)).loss)(state.params)
        return state.apply_gradients(grads=gradients)

    trained = step(state).params
    assert jax.tree.all(jax.tree.map(np.array_equal, trained["vit"], state.params["vit"]))
    assert (trained["classifier"]["kernel"] != state.params["classifier"]["kernel"]).any()
