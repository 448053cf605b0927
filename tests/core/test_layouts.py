import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_core import ViTConfig, parameters
from vit_core.layouts import FLAX, FLAX_SCANNED, KERAS
from vit_core.parameters import INITIALIZERS, Parameter

TASKS = ["model", "image-classification", "masked-image-modeling"]
LAYOUTS = {"keras": KERAS, "flax": FLAX, "flax_scanned": FLAX_SCANNED}
NUMBERS_OF_AXES = {"token": 3, "positions": 3, "conv": 4, "linear": 2, "bias": 1, "scale": 1, "shift": 1}

each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())


@st.composite
def rows(draw):
    kind = draw(st.sampled_from(sorted(NUMBERS_OF_AXES)))
    axes = NUMBERS_OF_AXES[kind]
    shape = draw(st.lists(st.integers(1, 5), min_size=axes, max_size=axes))
    return Parameter("layer.weight", tuple(shape), kind, INITIALIZERS[kind], ("axis",) * len(shape), "encoder")


def row(kind, *shape):
    return Parameter("layer.weight", shape, kind, INITIALIZERS[kind], ("axis",) * len(shape), "encoder")


@each_layout
@pytest.mark.parametrize("task", TASKS)
def test_every_parameter_has_a_place_of_its_own(layout, task):
    table = parameters(ViTConfig(num_hidden_layers=3), task, use_mask_token=True)
    places = layout.places(table)
    assert sorted(row.name for rows in places.values() for row in rows) == sorted(row.name for row in table)
    for rows in places.values():  # those that share a stack lie there at the index of their layer
        assert [row.layer for row in rows] == ([0, 1, 2] if layout.is_stacked(rows[0]) else [rows[0].layer])
    # No place lies within another: what is found there is a parameter, not a layer.
    starts = {path[:length] for path in places for length in range(1, len(path))}
    assert not places.keys() & starts


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


FLAX_PLACES = {
    "vit.embeddings.cls_token": "vit/embeddings/cls_token",
    "vit.embeddings.mask_token": "vit/embeddings/mask_token",
    "vit.embeddings.position_embeddings": "vit/embeddings/position_embeddings",
    "vit.embeddings.patch_embeddings.projection.weight": "vit/embeddings/patch_embeddings/projection/kernel",
    "vit.embeddings.patch_embeddings.projection.bias": "vit/embeddings/patch_embeddings/projection/bias",
    "vit.encoder.layer.0.attention.attention.query.weight": "vit/encoder/layer/0/attention/attention/query/kernel",
    "vit.encoder.layer.0.attention.attention.key.bias": "vit/encoder/layer/0/attention/attention/key/bias",
    "vit.encoder.layer.0.attention.output.dense.bias": "vit/encoder/layer/0/attention/output/dense/bias",
    "vit.encoder.layer.1.intermediate.dense.weight": "vit/encoder/layer/1/intermediate/dense/kernel",
    "vit.encoder.layer.1.output.dense.weight": "vit/encoder/layer/1/output/dense/kernel",
    "vit.encoder.layer.1.layernorm_before.weight": "vit/encoder/layer/1/layernorm_before/scale",
    "vit.encoder.layer.1.layernorm_after.bias": "vit/encoder/layer/1/layernorm_after/bias",
    "vit.layernorm.weight": "vit/layernorm/scale",
    "vit.layernorm.bias": "vit/layernorm/bias",
    "decoder.0.weight": "decoder/0/kernel",  # transformers' Flax has no decoder; spelt by the same rule
    "decoder.0.bias": "decoder/0/bias",
}


def test_places_are_spelt_as_transformers_spells_them_in_flax():
    table = parameters(ViTConfig(num_hidden_layers=2), "masked-image-modeling")
    paths = {row.name: "/".join(FLAX.path(row)) for row in table}
    assert {name: paths[name] for name in FLAX_PLACES} == FLAX_PLACES
    pooler, classifier = (
        ["/".join(FLAX.path(row)) for row in parameters(ViTConfig(), task)[-2:]] for task in TASKS[:2]
    )
    assert pooler == ["pooler/dense/kernel", "pooler/dense/bias"]
    assert classifier == ["classifier/kernel", "classifier/bias"]


def test_a_stack_has_the_place_of_its_layers_without_their_number():
    table = parameters(ViTConfig(num_hidden_layers=2), "masked-image-modeling")
    paths = {row.name: "/".join(FLAX_SCANNED.path(row)) for row in table}
    expected = {name: re.sub(r"layer/\d/", "layer/", path) for name, path in FLAX_PLACES.items()}
    assert {name: paths[name] for name in expected} == expected


def test_layers_have_the_same_place_whatever_numbers_their_names_hold():
    table = parameters(ViTConfig(num_hidden_layers=12))
    query = ("encoder", "layer", "attention", "attention", "query", "kernel")
    rows = FLAX_SCANNED.places(table)[query]
    assert [row.name for row in rows] == [
        f"encoder.layer.{index}.attention.attention.query.weight" for index in range(12)
    ]
    assert FLAX.places(table)[("encoder", "layer", "10", *query[2:])] == [rows[10]]


@pytest.mark.parametrize("task", TASKS)
def test_only_transformer_layers_are_stacked(task):
    table = parameters(ViTConfig(num_hidden_layers=2), task, use_mask_token=True)
    assert not any(layout.is_stacked(row) for row in table for layout in (KERAS, FLAX))
    stacked = {row.name for row in table if FLAX_SCANNED.is_stacked(row)}
    assert stacked == {row.name for row in table if ".layer." in row.name}  # "decoder.0" is none
    assert len(stacked) == 2 * 16


@each_layout
@given(row=rows())
def test_there_and_back_is_the_same(layout, row):
    array = np.arange(row.size).reshape(row.shape)
    np.testing.assert_array_equal(layout.to_canonical(row, layout.from_canonical(row, array)), array)
    stored = np.arange(row.size).reshape(layout.from_canonical(row, array).shape)
    np.testing.assert_array_equal(layout.from_canonical(row, layout.to_canonical(row, stored)), stored)


@each_layout
@given(row=rows())
def test_shapes_have_the_axes_of_the_framework(layout, row):
    assert layout.shape(row) == layout.from_canonical(row, np.empty(row.shape)).shape
    if row.kind == "linear":
        assert layout.shape(row) == row.shape[::-1]  # (in, out)
    elif row.kind == "conv":
        outputs, inputs, height, width = row.shape
        assert layout.shape(row) == (height, width, inputs, outputs)
    else:
        assert layout.shape(row) == row.shape


@each_layout
@given(row=rows())
def test_nothing_is_copied(layout, row):
    array = np.arange(row.size).reshape(row.shape)
    assert np.shares_memory(layout.from_canonical(row, array), array)
    assert np.shares_memory(layout.to_canonical(row, layout.from_canonical(row, array)), array)


@each_layout
@given(inputs=st.integers(1, 5), outputs=st.integers(1, 5))
def test_a_linear_kernel_multiplies_from_the_right(layout, inputs, outputs):
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(outputs, inputs)), rng.normal(size=inputs)
    by_formula = [sum(weight[o, i] * x[i] for i in range(inputs)) for o in range(outputs)]
    kernel = layout.from_canonical(row("linear", outputs, inputs), weight)
    np.testing.assert_allclose(x @ kernel, by_formula, atol=1e-12)


@each_layout
@given(outputs=st.integers(1, 3), inputs=st.integers(1, 4), height=st.integers(1, 3), width=st.integers(1, 4))
def test_a_convolution_kernel_has_height_width_in_and_out(layout, outputs, inputs, height, width):
    rng = np.random.default_rng(0)
    weight, patch = rng.normal(size=(outputs, inputs, height, width)), rng.normal(size=(inputs, height, width))
    places = list(itertools.product(range(inputs), range(height), range(width)))
    by_formula = [sum(weight[o, c, y, x] * patch[c, y, x] for c, y, x in places) for o in range(outputs)]
    kernel = layout.from_canonical(row("conv", outputs, inputs, height, width), weight)
    channels_last = np.moveaxis(patch, 0, -1)
    assert kernel.shape == (height, width, inputs, outputs)
    # Keras and Flax lay a patch out as height, width, in; each place of it has a row of the kernel.
    np.testing.assert_allclose(channels_last.reshape(-1) @ kernel.reshape(-1, outputs), by_formula, atol=1e-12)
