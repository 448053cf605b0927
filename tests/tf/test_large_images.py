"""Attention in blocks of queries, forced on small images, gives what the whole scores give."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import vit_tf
from vit_core import VisionTransformerConfig
from vit_tf import TFViTForImageClassification, TFViTModel, attention_blocks
from vit_tf.attention_blocks import attention_in_blocks

sys.path.insert(0, str(Path(__file__).parents[1] / "cross"))
from relatives import SIZES, VARIANTS, inputs_of

#: Relative positions of each layer and of all, norms and rotary positions of queries and keys.
OPTIONS = VARIANTS["vision_transformer"][1:5]


@pytest.fixture
def whole_or_blocks(monkeypatch):
    """Says whether scores and what the MLP computes are kept whole, or are of five queries and six tokens at most."""

    def choose(is_whole):
        monkeypatch.setattr(attention_blocks, "BLOCK", 5)
        monkeypatch.setattr(attention_blocks, "LARGEST_WHOLE", 10**6 if is_whole else 0)
        monkeypatch.setattr(attention_blocks, "TOKENS", 10**6 if is_whole else 6)

    choose(False)
    return choose


@pytest.mark.parametrize("number", range(len(OPTIONS)))
def test_results_and_gradients_are_those_of_whole_scores(number, whole_or_blocks):
    config = VisionTransformerConfig(**SIZES, **OPTIONS[number], pruned_heads={0: [1]})
    inputs = inputs_of(config, "image-classification")
    mask = np.random.default_rng(0).random((config.num_hidden_layers, config.num_attention_heads)).astype("float32")
    model = vit_tf.VisionTransformerForImageClassification(config)
    mask = tf.constant(mask)

    def run(is_whole):
        whole_or_blocks(is_whole)

        @tf.function
        def gradients():
            variables = [variable.value for variable in model.trainable_variables]
            with tf.GradientTape() as tape:
                tape.watch(mask)
                output = model(**inputs, head_mask=mask, output_hidden_states=True)
            found = tape.gradient(output.loss, [mask, *variables])
            return (
                output.hidden_states,
                output.loss,
                [each if each is None else tf.convert_to_tensor(each) for each in found],
            )

        return gradients()

    (hidden_states, loss, gradients), (whole, whole_loss, references) = run(False), run(True)
    for one, other in zip([loss, *hidden_states], [whole_loss, *whole], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=0)
    largest = max(np.abs(each).max() for each in references if each is not None)
    for one, other in zip(gradients, references, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, atol=1e-5 * largest, rtol=0)


@pytest.mark.parametrize("output_keys", [False, True])
def test_merged_tokens_weigh_in_blocks_as_in_whole_scores(tiny_config, whole_or_blocks, output_keys):
    attention = TFViTModel(tiny_config).encoder.layer[0].attention.attention
    random = np.random.default_rng(0)
    tokens, sizes = random.normal(size=(2, 17, 32)), random.integers(1, 5, (2, 1, 1, 17))
    bias = tf.constant(np.log(sizes), "float32")

    def attend():
        return attention(tf.constant(tokens, "float32"), relative_position_bias=bias, output_keys=output_keys)

    blocks = attend()
    whole_or_blocks(True)
    whole = attend()
    assert len(blocks) == len(whole) == (3 if output_keys else 1)
    np.testing.assert_allclose(blocks[0], whole[0], atol=1e-6, rtol=0)
    assert np.abs(whole[0] - attention(tf.constant(tokens, "float32"))[0]).max() > 1e-4
    if output_keys:
        assert blocks[1] is whole[1] is None
        np.testing.assert_array_equal(blocks[2], whole[2])


def test_each_block_drops_for_itself_and_the_backward_pass_drops_the_same(whole_or_blocks):
    rate, tokens = 0.25, 64
    query = key = tf.zeros((2, tokens, 2, 8))
    value = tf.tile(tf.eye(tokens)[None, :, None], (2, 1, 2, 1))  # shows the probabilities
    gradient = tf.random.stateless_normal((2, tokens, 2, tokens), (0, 0))
    with tf.GradientTape() as tape:
        tape.watch(value)
        probabilities = attention_in_blocks(query, key, value, seed=tf.constant([0, 1]), rate=rate)
    backward = tape.gradient(probabilities, value, gradient)
    kept = probabilities.numpy() > 0
    np.testing.assert_allclose(probabilities, kept / tokens / (1 - rate), rtol=1e-5)
    assert abs(kept.mean() - (1 - rate)) < 4 * (rate * (1 - rate) / kept.size) ** 0.5
    rows = kept.transpose(0, 2, 1, 3).reshape(-1, tokens)
    assert len(np.unique(rows, axis=0)) == len(rows)  # no two of images, heads and queries drop alike
    np.testing.assert_allclose(backward, np.einsum("bqhk,bqhd->bkhd", probabilities, gradient), atol=1e-6, rtol=0)


def test_attention_is_dropped_in_training_alone_and_layers_run_again_drop_the_same(tiny_config, whole_or_blocks):
    tiny_config.attention_probs_dropout_prob = 0.5
    model = TFViTForImageClassification(tiny_config)
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype("float32")
    states = model.non_trainable_variables

    def gradients():
        for state in states:
            state.assign(tf.zeros_like(state.value))
        with tf.GradientTape() as tape:
            loss = model(images, labels=np.arange(2), training=True).loss
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    plain = gradients()
    assert all(np.any(state != 0) for state in states)  # random numbers were drawn
    drawn, kept = (model(images, training=training).logits for training in (True, False))
    assert np.abs(drawn - kept).max() > 1e-5
    np.testing.assert_array_equal(model(images).logits, kept)
    model.gradient_checkpointing_enable()
    for one, other in zip(tf.function(gradients)(), plain, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_compiled_graphs_give_the_same(tiny_config, whole_or_blocks, policy):
    model = TFViTModel(tiny_config, dtype=policy)
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype("float32")
    blocks = tf.function(lambda: model(images).last_hidden_state, jit_compile=True)()
    whole_or_blocks(True)
    whole = model(images).last_hidden_state
    assert blocks.dtype == whole.dtype
    tolerance = 1e-5 if policy == "float32" else 0.05
    np.testing.assert_allclose(tf.cast(blocks, "float32"), tf.cast(whole, "float32"), atol=tolerance, rtol=0)


def test_an_export_attends_in_blocks_to_images_of_any_size(tiny_config, tmp_path, whole_or_blocks):
    model = TFViTForImageClassification(tiny_config)
    model.export(tmp_path / "exported", verbose=False, interpolate_pos_encoding=True)
    served = tf.saved_model.load(str(tmp_path / "exported"))
    whole_or_blocks(True)
    for size in ((16, 16), (48, 72)):
        images = np.random.default_rng(0).normal(size=(2, 3, *size)).astype("float32")
        expected = model(images, interpolate_pos_encoding=True).logits
        np.testing.assert_allclose(served.serve(images)["logits"], expected, atol=1e-5, rtol=0)


def test_scores_are_never_whole_in_a_gradient_of_a_large_image(tiny_config, monkeypatch):
    tiny_config.image_size, tiny_config.num_hidden_layers, tokens = 264, 1, 1090
    model = TFViTModel(tiny_config)

    def shapes(**options):
        @tf.function
        def gradient(images):
            with tf.GradientTape() as tape:
                loss = tf.math.reduce_variance(model(images, **options).last_hidden_state)
            return tape.gradient(loss, model.trainable_variables[0].value)

        graph = gradient.get_concrete_function(tf.TensorSpec((1, 3, 264, 264))).graph
        graphs = [graph, *(graph._get_function(name).graph for name in graph._functions)]
        return {tuple(out.shape) for each in graphs for op in each.get_operations() for out in op.outputs if out.shape}

    whole = (1, 4, tokens, tokens)
    assert whole in shapes(output_attentions=True)
    assert whole not in shapes()
    assert any(shape[-1:] == (tokens,) and len(shape) == 4 for shape in shapes())


def test_small_images_are_computed_as_ever(tiny_config):
    model = TFViTModel(tiny_config)
    run = tf.function(lambda images: model(images).last_hidden_state)
    graph = run.get_concrete_function(tf.TensorSpec((None, 3, 32, 32))).graph
    assert not [op for op in graph.get_operations() if "While" in op.type]
