import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_flax import FlaxViTForImageClassification, ViTConfig
from vit_flax.rematerialization import POLICIES

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
CHOICES = [True, *POLICIES, jax.checkpoint_policies.dots_saveable]

#: Many gradients in one function: the compiler need not make it fast.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def loss(model, params, images=IMAGES):
    return model(images, params=params, labels=np.arange(len(images)), train=True, dropout_rng=jax.random.key(0)).loss


def wide_params(model):
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: random.normal(0, 0.2, leaf.shape).astype(np.float32), model.params_shape_tree)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_what_is_kept_for_the_backward_pass_changes_no_gradient(tiny_config, scan_layers):
    tiny_config.num_hidden_layers = 2 if scan_layers else 1
    # Dropout drops the same the second time.
    tiny_config.hidden_dropout_prob = tiny_config.attention_probs_dropout_prob = 0.1
    models = [
        FlaxViTForImageClassification(tiny_config, remat=remat, scan_layers=scan_layers, _do_init=False)
        for remat in (False, *CHOICES)
    ]
    run = functools.partial(jax.jit, compiler_options=QUICKLY)(
        lambda params: [jax.value_and_grad(functools.partial(loss, model))(params) for model in models]
    )
    (value, gradients), *others = run(wide_params(models[0]))
    for other_value, other in others:
        np.testing.assert_allclose(other_value, value, rtol=1e-6)
        for one, two in zip(jax.tree.leaves(gradients), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-6)


def test_gradient_checkpointing_is_remat_under_the_name_of_the_other_frameworks(tiny_config):
    model = FlaxViTForImageClassification(tiny_config, _do_init=False)
    before = products(model)
    model.enable_gradient_checkpointing()
    assert products(model) > before


def products(model):
    """The matrix products of a gradient on a TPU, before the compiler merges any."""
    traced = jax.jit(jax.grad(functools.partial(loss, model))).trace(model.params_shape_tree)
    return traced.lower(lowering_platforms=("tpu",)).as_text().count("stablehlo.dot_general")


@pytest.mark.parametrize(("scan_layers", "dtype"), [(False, jnp.float32), (False, jnp.bfloat16), (True, jnp.bfloat16)])
def test_policies_decide_what_is_computed_again(tiny_config, scan_layers, dtype):
    counts = {
        remat: products(
            FlaxViTForImageClassification(
                tiny_config, remat=remat, scan_layers=scan_layers, dtype=dtype, _do_init=False
            )
        )
        for remat in (False, True, *POLICIES)
    }
    assert counts["everything_saveable"] == counts["dots_saveable"] == counts[False]
    # Products of attention, which have a batch dimension, or all products.
    assert counts[False] < counts["dots_with_no_batch_dims_saveable"] < counts["nothing_saveable"] == counts[True]


def test_scanned_layers_that_are_computed_again_take_less_than_half_the_memory():
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=8,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=128,
        patch_size=8,
        num_labels=5,
    )

    def temporary_bytes(**options):
        model = FlaxViTForImageClassification(config, _do_init=False, **options)
        images = jax.ShapeDtypeStruct((4, 3, 128, 128), jnp.float32)
        run = jax.jit(jax.grad(lambda params, images: loss(model, params, images)))
        return run.lower(model.params_shape_tree, images).compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes(scan_layers=True, remat=True) <= temporary_bytes() / 2


def test_without_a_backward_pass_the_outputs_are_the_same_to_the_bit(tiny_config):
    model = FlaxViTForImageClassification(tiny_config, _do_init=False)
    params = wide_params(model)
    before = model(IMAGES, params=params).logits
    model.enable_gradient_checkpointing()
    np.testing.assert_array_equal(model(IMAGES, params=params).logits, before)
    # Also where one layer alone is differentiated.
    text = str(jax.make_jaxpr(jax.grad(lambda bias: loss(model, with_last_bias(params, bias))))(jnp.zeros(32)))
    assert "remat" in text


def with_last_bias(params, bias):
    layers = params["vit"]["encoder"]["layer"]
    last = {**layers["1"], "output": {"dense": {**layers["1"]["output"]["dense"], "bias": bias}}}
    return {**params, "vit": {**params["vit"], "encoder": {"layer": {**layers, "1": last}}}}
