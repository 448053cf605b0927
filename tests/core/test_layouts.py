import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_core import ViTConfig, parameters
from vit_core.layouts import KERAS
from vit_core.parameters import INITIALIZERS, Parameter

TASKS = ["model", "image-classification", "masked-image-modeling"]
NUMBERS_OF_AXES = {"token": 3, "positions": 3, "conv": 4, "linear": 2, "bias": 1, "scale": 1, "shift": 1}


@st.composite
def rows(draw):
    kind = draw(st.sampled_from(sorted(NUMBERS_OF_AXES)))
    axes = NUMBERS_OF_AXES[kind]
    shape = draw(st.lists(st.integers(1, 5), min_size=axes, max_size=axes))
    return Parameter("layer.weight", tuple(shape), kind, INITIALIZERS[kind])


def row(kind, *shape):
    return Parameter("layer.weight", shape, kind, INITIALIZERS[kind])


@pytest.mark.parametrize("task", TASKS)
def test_every_parameter_has_a_place_of_its_own(task):
    table = parameters(ViTConfig(num_hidden_layers=3), task, use_mask_token=True)
    paths = {KERAS.path(row) for row in table}
    assert len(paths) == len(table)
    # No place lies within another: what is found there is a parameter, not a layer.
    starts = {path[:length] for path in paths for length in range(1, len(path))}
    assert not paths & starts


def test_places_are_spelt_as_keras_spells_them():
    table = parameters(ViTConfig(num_hidden_layers=1), "masked-image-modeling")
    paths = {row.name: ".".join(KERAS.path(row)) for row in table}
    layer = "vit.encoder.layer.0"
    expected = {
        "vit.embeddings.mask_token": "vit.embeddings.mask_token",
        "vit.embeddings.position_embeddings": "vit.embeddings.position_embeddings",
        "vit.embeddings.patch_embeddings.projection.weight": "vit.embeddings.patch_embeddings.projection.kernel",
        "vit.embeddings.patch_embeddings.projection.bias": "vit.embeddings.patch_embeddings.projection.bias",
        f"{layer}.attention.attention.query.weight": f"{layer}.attention.attention.query.kernel",
        f"{layer}.attention.output.dense.bias": f"{layer}.attention.output_.dense.bias",
        f"{layer}.output.dense.weight": f"{layer}.output_.dense.kernel",
        f"{layer}.layernorm_before.weight": f"{layer}.layernorm_before.gamma",
        f"{layer}.layernorm_before.bias": f"{layer}.layernorm_before.beta",
        "decoder.0.weight": "decoder.0.kernel",
    }
    assert {name: paths[name] for name in expected} == expected


@given(rows())
def test_there_and_back_is_the_same(row):
    array = np.arange(row.size).reshape(row.shape)
    np.testing.assert_array_equal(KERAS.to_canonical(row, KERAS.from_canonical(row, array)), array)
    stored = np.arange(row.size).reshape(KERAS.from_canonical(row, array).shape)
    np.testing.assert_array_equal(KERAS.from_canonical(row, KERAS.to_canonical(row, stored)), stored)


@given(rows())
def test_nothing_is_copied(row):
    array = np.arange(row.size).reshape(row.shape)
    assert np.shares_memory(KERAS.from_canonical(row, array), array)
    assert np.shares_memory(KERAS.to_canonical(row, KERAS.from_canonical(row, array)), array)


@given(st.integers(1, 5), st.integers(1, 5))
def test_a_linear_kernel_multiplies_from_the_right(inputs, outputs):
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(outputs, inputs)), rng.normal(size=inputs)
    by_formula = [sum(weight[o, i] * x[i] for i in range(inputs)) for o in range(outputs)]
    kernel = KERAS.from_canonical(row("linear", outputs, inputs), weight)
    np.testing.assert_allclose(x @ kernel, by_formula, atol=1e-12)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4))
def test_a_convolution_kernel_has_height_width_in_and_out(outputs, inputs, height, width):
    rng = np.random.default_rng(0)
    weight, patch = rng.normal(size=(outputs, inputs, height, width)), rng.normal(size=(inputs, height, width))
    places = list(itertools.product(range(inputs), range(height), range(width)))
    by_formula = [sum(weight[o, c, y, x] * patch[c, y, x] for c, y, x in places) for o in range(outputs)]
    kernel = KERAS.from_canonical(row("conv", outputs, inputs, height, width), weight)
    channels_last = np.moveaxis(patch, 0, -1)
    assert kernel.shape == (height, width, inputs, outputs)
    # Keras lays a patch out as height, width, in, and each place of it has a row of the kernel.
    np.testing.assert_allclose(channels_last.reshape(-1) @ kernel.reshape(-1, outputs), by_formula, atol=1e-12)
