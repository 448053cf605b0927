"""Attention in blocks of queries, forced on small images, gives what the whole scores give."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_flax
from vit_core import VisionTransformerConfig
from vit_flax import FlaxViTForImageClassification, FlaxViTModel, attention_blocks
from vit_flax.attention import attention
from vit_flax.attention_blocks import attention_in_blocks

sys.path.insert(0, str(Path(__file__).parents[1] / "cross"))
from relatives import SIZES, VARIANTS, inputs_of

#: Relative positions of each layer and of all, norms and rotary positions of queries and keys.
OPTIONS = VARIANTS["vision_transformer"][1:5]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of at most five queries, on a CPU and elsewhere."""
    attention_in_blocks.clear_cache()  # of blocks of another size
    for name, value in {"BLOCK": 5, "LARGEST_WHOLE": 0, "LARGEST_TOGETHER": 0}.items():
        monkeypatch.setattr(attention_blocks, name, value)
    yield
    attention_in_blocks.clear_cache()


def heads_of(batch=2, tokens=17, heads=3, width=8, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(key, (batch, tokens, heads, width), dtype) for key in keys]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("number", range(len(OPTIONS)))
def test_results_and_gradients_are_those_of_whole_scores(number):
    config = VisionTransformerConfig(**{**SIZES, "num_hidden_layers": 1}, **OPTIONS[number], pruned_heads={0: [1]})
    params = vit_flax.VisionTransformerForImageClassification(config, seed=0).params
    inputs = inputs_of(config, "image-classification")
    labels = inputs.pop("labels")
    mask = np.random.default_rng(0).random((config.num_hidden_layers, config.num_attention_heads)).astype("float32")

    def run(implementation):
        config.attn_implementation = implementation
        model = vit_flax.VisionTransformerForImageClassification(config, _do_init=False)

        @jax.jit
        @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
        def loss(params, mask):
            output = model(**inputs, params=params, labels=labels, head_mask=mask, output_hidden_states=True)
            return output.loss, output.hidden_states

        return loss(params, mask)

    (results, gradients), (whole, references) = run("sdpa"), run("eager")
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5, rtol=0), results, whole)
    largest = max(np.abs(each).max() for each in jax.tree.leaves(references))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5 * largest, rtol=0), gradients, references)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-6), (jnp.bfloat16, 0.02)])
def test_an_accelerator_gives_all_heads_of_a_block_together_the_same(dtype, tolerance):
    heads = heads_of(dtype=dtype)
    bias = jax.random.normal(jax.random.key(1), (1, 3, 17, 17))
    first = [each.transpose(0, 2, 1, 3) for each in heads]
    together = attention_blocks._attend(attention_blocks._vmap, 5, 0.0, *first, bias[0], None).transpose(0, 2, 1, 3)
    whole = attention(*heads, bias)
    assert together.dtype == whole.dtype == dtype
    np.testing.assert_allclose(together.astype("float32"), whole.astype("float32"), atol=tolerance)
    in_turn = attention_in_blocks(*heads, bias)
    np.testing.assert_allclose(in_turn.astype("float32"), together.astype("float32"), atol=tolerance)


@pytest.mark.usefixtures("small_blocks")
def test_each_block_drops_for_itself_and_the_backward_pass_drops_the_same():
    rate, tokens = 0.25, 64
    query, key, value = jnp.zeros((3, 2, tokens, 2, 8)).at[2].set(1)
    value = jnp.broadcast_to(jnp.eye(tokens)[None, :, None], (2, tokens, 2, tokens))  # shows the probabilities

    def attend(value):
        return attention_in_blocks(query, key, value, None, None, jax.random.key(0), rate)

    probabilities, backward = jax.vjp(attend, value)
    kept = np.asarray(probabilities > 0)
    np.testing.assert_allclose(probabilities, kept / tokens / (1 - rate), rtol=1e-6)
    assert abs(kept.mean() - (1 - rate)) < 4 * (rate * (1 - rate) / kept.size) ** 0.5
    rows = kept.transpose(0, 2, 1, 3).reshape(-1, tokens)
    assert len(np.unique(rows, axis=0)) == len(rows)  # no two of images, heads and queries drop alike
    gradient = jax.random.normal(jax.random.key(1), value.shape)
    np.testing.assert_allclose(
        backward(gradient)[0], np.einsum("bqhk,bqhd->bkhd", probabilities, gradient), atol=1e-6, rtol=0
    )


@pytest.mark.usefixtures("small_blocks")
def test_layers_that_are_scanned_and_computed_again_drop_in_training_alone(tiny_config):
    tiny_config.attention_probs_dropout_prob = 0.5
    model = FlaxViTForImageClassification(tiny_config, scan_layers=True, remat=True)
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype("float32")

    def loss(params, seed, train=True):
        key = jax.random.key(seed)
        return model(images, params=params, labels=np.arange(2), train=train, dropout_rng=key).loss

    gradient = jax.jit(jax.value_and_grad(loss))
    (one, first), (again, same), (other, _) = (gradient(model.params, seed) for seed in (0, 0, 1))
    assert one == again != other
    jax.tree.map(np.testing.assert_array_equal, first, same)
    still = jax.jit(functools.partial(loss, train=False))
    assert still(model.params, 0) == still(model.params, 1)


def test_scores_are_never_whole_in_a_gradient_of_a_large_image(tiny_config, monkeypatch):
    attention_in_blocks.clear_cache()
    monkeypatch.setattr(attention_blocks, "LARGEST_TOGETHER", 2**20)
    tiny_config.image_size, tiny_config.num_hidden_layers, tokens = 256, 1, 1025
    model = FlaxViTModel(tiny_config, _do_init=False)
    images = jax.ShapeDtypeStruct((2, 3, 256, 256), jnp.float32)

    def loss(params, images):
        return model(images, params=params, train=True).last_hidden_state.var()

    def traced(implementation):
        tiny_config.attn_implementation = implementation
        return jax.jit(jax.grad(loss)).trace(model.params_shape_tree, images)

    def memory(traced):
        return traced.lower().compile().memory_analysis().temp_size_in_bytes

    of_a_head = 4 * tokens**2
    assert memory(traced("eager")) > 2 * 4 * of_a_head > 4 * memory(traced("sdpa"))
    assert f"x{tokens}x{tokens}x" in traced("eager").lower(lowering_platforms=("tpu",)).as_text()
    assert f"x{tokens}x{tokens}x" not in traced("sdpa").lower(lowering_platforms=("tpu",)).as_text()


def test_small_images_and_asked_for_maps_are_computed_as_ever(tiny_config):
    model = FlaxViTModel(tiny_config, _do_init=False)
    images = jax.ShapeDtypeStruct((1, 3, 32, 32), jnp.float32)
    run = jax.jit(lambda params, images: model(images, params=params).last_hidden_state)
    assert "while" not in run.lower(model.params_shape_tree, images).as_text()
    large = jax.ShapeDtypeStruct((1, 3, 256, 256), jnp.float32)
    maps = jax.eval_shape(
        lambda params, images: model(images, params=params, output_attentions=True, interpolate_pos_encoding=True),
        model.params_shape_tree,
        large,
    ).attentions
    assert [each.shape for each in maps] == [(1, 4, 1025, 1025)] * 2
