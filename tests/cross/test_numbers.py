"""The same weights and inputs give the same numbers in both frameworks: to 1e-5, and gradients to 1e-5 of their size."""

import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_core import ViTConfig
from vit_core.config import ACTIVATIONS, PROBLEM_TYPES

TOLERANCE = 1e-5

# The examples are the same in each run. ReLU and the mean absolute error have kinks, where rounding decides which of
# two gradients is right; once in a thousand examples, a random input comes near one.
few = settings(derandomize=True, max_examples=25)
very_few = settings(derandomize=True, max_examples=8)


@st.composite
def configs(draw, square_patches=False, **fields):
    heads, layers = draw(st.sampled_from([1, 2, 3, 4, 6])), draw(st.integers(0, 3))
    head_dim = draw(st.sampled_from([4, 5, 8, 16]))
    patch = draw(st.tuples(st.integers(2, 9), st.integers(2, 9)))
    if square_patches:
        patch = (patch[0], patch[0])
    grid = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    left_over = tuple(draw(st.integers(0, side - 1)) for side in patch)
    image = tuple(side * count + rest for side, count, rest in zip(patch, grid, left_over, strict=True))
    some_heads = st.lists(st.integers(0, heads - 1), max_size=heads - 1, unique=True)
    pruned = draw(st.dictionaries(st.integers(0, layers - 1), some_heads)) if layers else {}
    return ViTConfig(
        **{
            "hidden_size": heads * head_dim,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": draw(st.integers(16, 80)),
            "hidden_act": draw(st.sampled_from(ACTIVATIONS)),
            "initializer_range": draw(st.sampled_from([0.15, 0.2, 0.3])),
            "layer_norm_eps": draw(st.sampled_from([1e-12, 1e-6, 1e-2])),
            "image_size": image,
            "patch_size": patch,
            "num_channels": draw(st.integers(1, 4)),
            "qkv_bias": draw(st.booleans()),
            "encoder_stride": patch[0],
            "num_labels": draw(st.sampled_from([1, 2, 7])),
            "problem_type": draw(st.sampled_from([None, *PROBLEM_TYPES])),
            "pruned_heads": {layer: heads for layer, heads in pruned.items() if heads},
            "pooler_act": draw(st.sampled_from(ACTIVATIONS)),
            "pooler_output_size": draw(st.sampled_from([None, 11])),
            **fields,
        }
    )


def images(config, count=2, size=None):
    shape = (count, config.num_channels, *(size or config.image_shape))
    return np.random.default_rng(1).standard_normal(shape).astype("float32")


def labels_for(config, count=2, integers=True):
    random = np.random.default_rng(2)
    kind = config.problem_type or config.infer_problem_type(integers)
    if kind == "single_label_classification":
        return random.integers(0, config.num_labels, count)
    if kind == "multi_label_classification":
        return random.integers(0, 2, (count, config.num_labels)).astype("float32")
    return random.standard_normal((count, config.num_labels)).astype("float32")


def as_torch(inputs):
    return {name: torch.from_numpy(np.asarray(value)) for name, value in inputs.items()}


def assert_same(keras_tensor, torch_tensor, what):
    torch_array = torch_tensor.detach().numpy()
    assert tuple(keras_tensor.shape) == torch_array.shape, what
    difference = np.abs(np.asarray(keras_tensor) - torch_array).max()
    assert difference <= TOLERANCE, f"{what}: {difference}"


def assert_same_outputs(keras_output, torch_output):
    assert list(keras_output.keys()) == list(torch_output.keys())
    for name, keras_item in keras_output.items():
        pairs = (keras_item, torch_output[name])
        for index, (one, other) in enumerate(zip(*pairs, strict=True) if isinstance(keras_item, tuple) else [pairs]):
            assert_same(one, other, f"{name} {index}")


def assert_same_gradients(keras_gradients, torch_gradients):
    assert keras_gradients.keys() == torch_gradients.keys()
    largest_of_all = max(np.abs(gradient).max() for gradient in torch_gradients.values())
    for name, reference in torch_gradients.items():
        # Softmax does not change when the same is added to all scores, so a key bias has no gradient but rounding.
        largest = 0.01 * largest_of_all if name.endswith("key.bias") else np.abs(reference).max()
        difference = np.abs(keras_gradients[name] - reference).max()
        assert difference <= TOLERANCE * largest, f"{name}: {difference / largest} of {largest}"


def compare(pair, inputs, loss=lambda output: output.loss, **options):
    """Compare outputs of all kinds and the gradients of all parameters."""
    options |= {"output_hidden_states": True, "output_attentions": True}
    with tf.GradientTape() as tape:
        keras_output = pair.keras(inputs, **options)
        keras_loss = loss(keras_output)
    torch_output = pair.torch(**as_torch(inputs), **options)
    assert_same_outputs(keras_output, torch_output)
    assert_same_gradients(pair.keras_gradients(tape, keras_loss), pair.torch_gradients(loss(torch_output)))


@few
@given(config=configs(), integers=st.booleans(), count=st.integers(1, 3))
def test_classifiers_of_any_config_agree(twins, config, integers, count):
    pair = twins("ViTForImageClassification", config)
    compare(pair, {"pixel_values": images(config, count), "labels": labels_for(config, count, integers)})


@very_few
@given(config=configs(square_patches=True), data=st.data())
def test_masked_image_models_of_any_config_agree(twins, config, data):
    pair, patches = twins("ViTForMaskedImageModeling", config), config.grid[0] * config.grid[1]
    mask = data.draw(st.lists(st.lists(st.booleans(), min_size=patches, max_size=patches), min_size=2, max_size=2))
    mask[0][0] = True  # without a masked patch there is no gradient to compare
    compare(pair, {"pixel_values": images(config), "bool_masked_pos": np.array(mask)})


@very_few
@given(config=configs(), use_mask_token=st.booleans())
def test_base_models_of_any_config_agree(twins, config, use_mask_token):
    pair = twins("ViTModel", config, use_mask_token=use_mask_token)
    inputs = {"pixel_values": images(config)}
    if use_mask_token:
        inputs["bool_masked_pos"] = np.random.default_rng(3).integers(0, 2, (2, config.grid[0] * config.grid[1]))
        inputs["bool_masked_pos"][0, 0] = 1

    def loss(output):  # of the pooler and, so that their gradients are not alike, of every token
        pooled, tokens = output.pooler_output, output.last_hidden_state
        return (pooled[:, 0] + pooled[:, -1] ** 2).sum() + (tokens**3).mean()

    def keras_loss(output):
        pooled, tokens = output.pooler_output, output.last_hidden_state
        return tf.reduce_sum(pooled[:, 0] + pooled[:, -1] ** 2) + tf.reduce_mean(tokens**3)

    compare(pair, inputs, lambda output: (keras_loss if tf.is_tensor(output.pooler_output) else loss)(output))


@pytest.mark.parametrize("size", [(8, 8), (24, 47), (64, 40)])
def test_images_of_another_size_agree(twins, tiny_config, size):
    tiny_config.initializer_range = 0.2
    pair = twins("ViTForImageClassification", tiny_config)
    inputs = {"pixel_values": images(tiny_config, size=size), "labels": np.array([0, 4])}
    compare(pair, inputs, interpolate_pos_encoding=True)


@pytest.mark.parametrize("shape", [(4,), (2, 4)])
def test_head_masks_agree_also_with_pruned_heads(twins, tiny_config, shape):
    tiny_config.initializer_range, tiny_config.pruned_heads = 0.2, {1: [0, 2]}
    pair = twins("ViTForImageClassification", tiny_config)
    head_mask = np.random.default_rng(4).uniform(0.1, 1.5, shape).astype("float32")
    head_mask[..., 1] = 0
    inputs = {"pixel_values": images(tiny_config), "labels": np.array([0, 4]), "head_mask": head_mask}
    options = {"output_hidden_states": True, "output_attentions": True}
    assert_same_outputs(pair.keras(inputs, **options), pair.torch(**as_torch(inputs), **options))


def test_labels_that_do_not_count_agree(twins, tiny_config):
    pair = twins("ViTForImageClassification", tiny_config)
    compare(pair, {"pixel_values": images(tiny_config, 3), "labels": np.array([0, -100, 4])})


@pytest.mark.parametrize("architecture", ["ViTForImageClassification", "ViTForMaskedImageModeling"])
def test_gradient_checkpointing_agrees(twins, tiny_config, architecture):
    pair = twins(architecture, tiny_config)
    for model in (pair.keras, pair.torch.train()):
        model.gradient_checkpointing_enable()
    target = {"labels": np.array([0, 4])}
    if architecture == "ViTForMaskedImageModeling":
        target = {"bool_masked_pos": np.arange(32).reshape(2, 16) % 3 == 0}
    inputs = {"pixel_values": images(tiny_config), **target}
    with tf.GradientTape() as tape:
        loss = pair.keras(inputs, training=True).loss
    gradients = pair.keras_gradients(tape, loss)
    assert_same_gradients(gradients, pair.torch_gradients(pair.torch(**as_torch(inputs)).loss))
