"""The same weights and inputs give the same numbers in every framework, to 1e-5: each is compared with PyTorch.

Outputs do in float32. Gradients do, to 1e-5 of the largest entry of each, unless they are mostly rounding, because
activations are saturated or terms cancel out; there, all frameworks are about equally far from float64. So gradients
are compared in float64 for models of any config, and in float32 for those whose weights are not that wide.
"""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from vit_core import ViTConfig
from vit_core.activations import ACTIVATIONS
from vit_core.config import PROBLEM_TYPES

TOLERANCE = 1e-5


def examples(framework, count):
    """The same examples in each run, and a few where each one is compiled.

    ReLU and the mean absolute error have kinks, where rounding decides which of two gradients is right; once in a
    thousand examples, a random input comes near one.
    """
    if framework.compiles:
        count = 2
    return settings(derandomize=True, phases=[Phase.generate], max_examples=count)  # none is simpler than another


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
    hidden_act, pooler_act = draw(st.sampled_from(ACTIVATIONS)), draw(st.sampled_from(ACTIVATIONS))
    # ReLU squared makes of 10 a 100, with a hundred times the rounding: smaller weights keep what it squares small.
    narrowed = 0.3 if "relu2" in (hidden_act, pooler_act) else 1.0
    return ViTConfig(
        **{
            "hidden_size": heads * head_dim,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": draw(st.integers(1, 80)),
            "hidden_act": hidden_act,
            "initializer_range": narrowed
            * draw(st.sampled_from([0.1, 0.15, 0.2]))  # at 0.3 hidden states reach 16, and 1e-5 is five roundings
            * min(1, (32 / (heads * head_dim)) ** 0.5),
            "layer_norm_eps": draw(st.sampled_from([1e-12, 1e-6, 1e-2])),
            "image_size": image,
            "patch_size": patch,
            "num_channels": draw(st.integers(1, 4)),
            "qkv_bias": draw(st.booleans()),
            "encoder_stride": patch[0],
            "num_labels": draw(st.sampled_from([1, 2, 7])),
            "problem_type": draw(st.sampled_from([None, *PROBLEM_TYPES])),
            "pruned_heads": {layer: heads for layer, heads in pruned.items() if heads},
            "pooler_act": pooler_act,
            "pooler_output_size": draw(st.sampled_from([None, 11])),
            "classifier_uses_pooler": draw(st.booleans()),
            **fields,
        }
    )


@st.composite
def ordinary_configs(draw):
    """Models that are not too small, for several labels and with weights that saturate little."""
    heads, head_dim = draw(st.sampled_from([3, 4])), draw(st.sampled_from([8, 16]))
    sizes = {"hidden_size": heads * head_dim, "num_attention_heads": heads, "initializer_range": 0.15}
    sizes["pruned_heads"] = draw(st.sampled_from([{}, {0: [0, 2]}]))
    sizes["num_hidden_layers"], sizes["intermediate_size"] = draw(st.integers(1, 3)), draw(st.integers(32, 80))
    return draw(configs(**sizes, num_labels=7))


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


def assert_same_outputs(output, reference):
    assert list(output.keys()) == list(reference.keys())
    for name, item in output.items():
        pairs = (item, reference[name])
        for one, other in zip(*pairs, strict=True) if isinstance(item, tuple) else [pairs]:
            assert one.shape == tuple(other.shape), name
            difference = np.abs(np.asarray(one) - other.detach().numpy()).max()
            assert difference <= TOLERANCE, f"{name}: {difference}"


def assert_same_gradients(gradients, references):
    assert gradients.keys() == references.keys()
    largest_of_all = max(np.abs(gradient).max() for gradient in references.values())
    for name, reference in references.items():
        # Softmax does not change when the same is added to all scores, so a key bias has no gradient but rounding.
        largest = 0.01 * largest_of_all if name.endswith("key.bias") else np.abs(reference).max()
        difference = np.abs(gradients[name] - reference).max()
        assert difference <= TOLERANCE * largest, f"{name}: {difference} where the largest is {largest}"


def loss_of(output):
    """The loss; of a base model, a sum in which the gradients of different tokens are not alike."""
    if "loss" in output:
        return output.loss
    return (output.last_hidden_state**3 / 100 + output.pooler_output[:, None, :1])[0, 0, 0]


def compare(pair, inputs, gradients=True, everything=True, **options):
    """Compare what the models return and, on request, the gradients of all parameters.

    With `everything`, that is with hidden states and attention maps; without, models need not compute each of them.
    """
    if everything:
        options |= {"output_hidden_states": True, "output_attentions": True}
    if gradients:
        options["loss_of"] = loss_of
    inputs = {name: value.astype(pair.dtype) if value.dtype == "float32" else value for name, value in inputs.items()}
    output, found = pair.other.run(inputs, **options)
    reference, expected = pair.torch.run(inputs, **options)
    assert_same_outputs(output, reference)
    if gradients:
        assert_same_gradients(found, expected)


def compare_in_both_precisions(twins, architecture, config, inputs, **options):
    compare(twins(architecture, config, **options), inputs, gradients=False)
    compare(twins(architecture, config, dtype="float64", **options), inputs, everything=False)


def test_classifiers_of_any_config_agree(framework, twins):
    @examples(framework, 6)
    @given(config=configs(), integers=st.booleans(), count=st.integers(1, 3))
    def agree(config, integers, count):
        inputs = {"pixel_values": images(config, count), "labels": labels_for(config, count, integers)}
        compare_in_both_precisions(twins, "ViTForImageClassification", config, inputs)

    agree()


def test_gradients_of_ordinary_classifiers_agree_in_float32(framework, twins):
    @examples(framework, 6)
    @given(config=ordinary_configs(), count=st.integers(1, 3))
    def agree(config, count):
        pair = twins("ViTForImageClassification", config)
        compare(pair, {"pixel_values": images(config, count), "labels": labels_for(config, count)})

    agree()


def test_masked_image_models_of_any_config_agree(framework, twins):
    @examples(framework, 3)
    @given(config=configs(square_patches=True), data=st.data())
    def agree(config, data):
        patches = config.grid[0] * config.grid[1]
        row = st.lists(st.booleans(), min_size=patches, max_size=patches)
        mask = data.draw(st.lists(row, min_size=2, max_size=2))
        mask[0][0] = True  # without a masked patch there is no gradient to compare
        inputs = {"pixel_values": images(config), "bool_masked_pos": np.array(mask)}
        compare_in_both_precisions(twins, "ViTForMaskedImageModeling", config, inputs)

    agree()


def test_base_models_of_any_config_agree(framework, twins):
    @examples(framework, 3)
    @given(config=configs(), use_mask_token=st.booleans())
    def agree(config, use_mask_token):
        inputs = {"pixel_values": images(config)}
        if use_mask_token:
            inputs["bool_masked_pos"] = np.ones((2, config.grid[0] * config.grid[1]), int)
            inputs["bool_masked_pos"][1, :-1] = 0
        compare_in_both_precisions(twins, "ViTModel", config, inputs, use_mask_token=use_mask_token)

    agree()


def test_images_of_another_size_agree(twins, tiny_config):
    tiny_config.initializer_range = 0.15
    pair = twins("ViTForImageClassification", tiny_config)
    for size, gradients in (((8, 8), False), ((24, 47), True), ((64, 40), False)):
        inputs = {"pixel_values": images(tiny_config, size=size), "labels": np.array([0, 4])}
        compare(pair, inputs, gradients, everything=gradients, interpolate_pos_encoding=True)


def test_head_masks_agree_also_with_pruned_heads(twins, tiny_config):
    tiny_config.initializer_range, tiny_config.pruned_heads = 0.15, {1: [0, 2]}
    pair = twins("ViTForImageClassification", tiny_config)
    inputs = {"pixel_values": images(tiny_config), "labels": np.array([0, 4])}
    for shape, gradients in (((4,), False), ((2, 4), True)):
        head_mask = np.random.default_rng(4).uniform(0.1, 1.5, shape).astype("float32")
        head_mask[..., 1] = 0
        compare(pair, {**inputs, "head_mask": head_mask}, gradients, everything=gradients)


@pytest.mark.parametrize("framework", ["keras", "flax"], indirect=True)  # scanned layers have no part in a loss
def test_labels_that_do_not_count_agree(twins, tiny_config):
    pair = twins("ViTForImageClassification", tiny_config)
    compare(pair, {"pixel_values": images(tiny_config, 3), "labels": np.array([0, -100, 4])})


def test_gradient_checkpointing_agrees(twins, tiny_config):
    pair = twins("ViTForImageClassification", tiny_config)
    pair.other.enable_gradient_checkpointing()
    pair.torch.enable_gradient_checkpointing()
    inputs = {"pixel_values": images(tiny_config), "labels": np.array([0, 4])}
    compare(pair, inputs, everything=False, training=True)
