"""Each rule moves axes as the format's own code has them, in both directions, and reads nothing before it is asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversion.formats import FORMATS, WRITABLE
from conversion.formats.rules import (
    DropFirstAxis,
    FoldClassPosition,
    Fuse,
    Rule,
    SplitHeads,
    Transpose,
    kinds,
    read,
    write,
)
from vit_core import ViTConfig, parameters
from vit_core.stored_tensor import StoredTensor, from_numpy

random = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def unread(*shape: int) -> StoredTensor:
    def refuse() -> np.ndarray:
        raise AssertionError("a tensor was read that nobody asked for")

    return StoredTensor("F32", shape, refuse)


def theirs(name: str, ours: str) -> Callable[..., list[np.ndarray]]:
    """What a format's rule for a canonical tensor makes of it."""
    rule = next(rule for rule in FORMATS[name].rules if ours in rule.ours)

    def make(*arrays: np.ndarray, heads: int = 3) -> list[np.ndarray]:
        return [tensor.read() for tensor in rule.write([from_numpy(each) for each in arrays], heads)]

    return make


# What a format's arrays mean, by formulas of the code that writes them


@pytest.mark.parametrize("name", ["google", "google-linen", "big-vision", "transformers-flax", "transformers-tf"])
def test_a_kernel_of_jax_and_tensorflow_takes_inputs_from_the_left(name: str) -> None:
    weight, tokens = array(20, 12), array(4, 12)
    (kernel,) = theirs(name, "encoder.layer.*.intermediate.dense.weight")(weight)
    np.testing.assert_allclose(tokens @ kernel, tokens @ weight.T, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["google", "google-linen", "big-vision", "transformers-flax", "transformers-tf", "keras-hub"]
)
def test_a_convolution_of_jax_and_tensorflow_is_height_width_in_out(name: str) -> None:
    weight, patch = array(12, 3, 8, 4), array(3, 8, 4)
    (kernel,) = theirs(name, "embeddings.patch_embeddings.projection.weight")(weight)
    assert kernel.shape == (8, 4, 3, 12)
    found = np.einsum("chw,hwco->o", patch, kernel)
    np.testing.assert_allclose(found, np.einsum("chw,ochw->o", patch, weight), atol=1e-5)


@pytest.mark.parametrize("name", ["google", "google-linen", "big-vision", "keras-hub"])
@pytest.mark.parametrize("part", ["query", "key", "value"])
def test_a_projection_with_an_axis_for_heads_is_in_heads_width(name: str, part: str) -> None:
    weight, bias, token = array(12, 12), array(12), array(12)
    ours = f"encoder.layer.*.attention.attention.{part}"
    (kernel,), (their_bias,) = theirs(name, f"{ours}.weight")(weight), theirs(name, f"{ours}.bias")(bias)
    assert (kernel.shape, their_bias.shape) == ((12, 3, 4), (3, 4))
    found = np.einsum("i,ihd->hd", token, kernel) + their_bias  # flax.linen.DenseGeneral, keras.layers.EinsumDense
    np.testing.assert_allclose(found, (weight @ token + bias).reshape(3, 4), atol=1e-5)


@pytest.mark.parametrize("name", ["google", "google-linen", "big-vision", "keras-hub"])
def test_the_projection_after_attention_is_heads_width_out(name: str) -> None:
    weight, bias, seen = array(12, 12), array(12), array(3, 4)
    ours = "encoder.layer.*.attention.output.dense"
    (kernel,), (their_bias,) = theirs(name, f"{ours}.weight")(weight), theirs(name, f"{ours}.bias")(bias)
    assert kernel.shape == (3, 4, 12)
    np.testing.assert_allclose(np.einsum("hd,hdo->o", seen, kernel), weight @ seen.reshape(-1), atol=1e-5)
    np.testing.assert_array_equal(their_bias, bias)


@pytest.mark.parametrize("name", ["timm", "dino", "torchvision"])
def test_fused_projections_are_query_then_key_then_value(name: str) -> None:
    weights, biases = [array(12, 12) for _ in range(3)], [array(12) for _ in range(3)]
    ours = "encoder.layer.*.attention.attention.query"
    np.testing.assert_array_equal(theirs(name, f"{ours}.weight")(*weights)[0], np.vstack(weights))
    np.testing.assert_array_equal(theirs(name, f"{ours}.bias")(*biases)[0], np.hstack(biases))


def test_big_vision_adds_positions_to_patches_before_the_class_token_comes() -> None:
    token, positions, patches = array(1, 1, 12), array(1, 5, 12), array(1, 4, 12)
    cls, position_embedding = theirs("big-vision", "embeddings.cls_token")(token, positions)
    found = np.concatenate([cls, patches + position_embedding], axis=1)  # big_vision/models/vit.py
    np.testing.assert_allclose(found, np.concatenate([token, patches], axis=1) + positions, atol=1e-6)


def test_keras_hub_keeps_positions_in_an_embedding_layer() -> None:
    positions = array(1, 5, 12)
    np.testing.assert_array_equal(
        theirs("keras-hub", "embeddings.position_embeddings")(positions)[0], positions.reshape(5, 12)
    )


# Every rule undoes itself


@st.composite
def configs(draw: st.DrawFn) -> ViTConfig:
    heads = draw(st.integers(1, 4))
    return ViTConfig(
        hidden_size=heads * draw(st.integers(1, 5)),
        num_attention_heads=heads,
        intermediate_size=draw(st.integers(1, 9)),
        num_hidden_layers=draw(st.integers(0, 3)),
        num_channels=draw(st.integers(1, 4)),
        patch_size=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        image_size=(draw(st.integers(3, 7)), draw(st.integers(3, 7))),
        num_labels=draw(st.integers(1, 5)),
        pooler_output_size=draw(st.none() | st.integers(1, 6)),
    )


@pytest.mark.parametrize("name", WRITABLE)
@given(config=configs(), seed=st.integers(0, 2**32 - 1))
def test_what_is_written_is_read_back_bit_for_bit(name: str, config: ViTConfig, seed: int) -> None:
    form, draws = FORMATS[name], np.random.default_rng(seed)
    table = (*parameters(config), *parameters(config, "image-classification")[-2:])
    canonical = {row.name: draws.standard_normal(row.shape).astype(np.float32) for row in table}
    if name == "big-vision":
        canonical["embeddings.position_embeddings"][:, 0] = 0
    stored = write(form.rules, {key: from_numpy(value) for key, value in canonical.items()}, config.num_attention_heads)
    assert all(tensor.read().shape == tensor.shape for tensor in stored.values())
    found = read(form.rules, stored)
    assert found.unused == ()
    assert found.heads in (None, config.num_attention_heads)
    kept = {ours.replace("*", str(layer)) for rule in form.rules for ours in rule.ours for layer in range(3)}
    assert set(found.tensors) == set(canonical) & kept
    for key, tensor in found.tensors.items():
        assert tensor.shape == canonical[key].shape
        np.testing.assert_array_equal(tensor.read(), canonical[key])


def test_importing_the_formats_makes_no_rules() -> None:
    program = "import conversion.formats.rules as rules; print(rules.kinds.cache_info(), rules._made.cache_info())"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.count("currsize=0") == 2


@pytest.mark.parametrize("name", FORMATS)
def test_every_rule_of_a_format_is_for_tensors_that_exist_and_no_two_write_one_name(name: str) -> None:
    table = FORMATS[name].rules
    assert {ours for rule in table for ours in rule.ours} <= set(kinds())
    names = [(rule.is_of_base, theirs) for rule in table for theirs in rule.theirs]
    assert len(names) == len(set(names))


# Reading


def test_no_tensor_is_read_before_it_is_asked_for() -> None:
    rule = Rule(("a", "b", "c"), ("abc",), (Fuse(3), Transpose((1, 0))))
    found = read([rule], {"abc": unread(7, 12)}).tensors
    assert {name: tensor.shape for name, tensor in found.items()} == dict.fromkeys("abc", (4, 7))
    written = write([rule], dict.fromkeys("abc", unread(4, 7)), heads=1)
    assert written["abc"].shape == (7, 12)


def test_layers_are_found_by_whole_numbers_written_plainly() -> None:
    rule = Rule(("encoder.layer.*.x.weight",), ("blocks.*.x",))
    stored = {f"blocks.{number}.x": unread(1) for number in ("0", "1", "10", "01", "-1", "x", "", "0.0", "1000000")}
    found = read([rule], stored)
    assert set(found.tensors) == {f"encoder.layer.{number}.x.weight" for number in (0, 1, 10)}
    assert set(found.unused) == {f"blocks.{number}.x" for number in ("01", "-1", "x", "", "0.0", "1000000")}


def test_the_number_of_heads_is_read_where_they_have_an_axis() -> None:
    rule = Rule(("encoder.layer.*.q.weight",), ("q_*",), (Transpose((1, 0)), SplitHeads(1, 2)))
    assert read([rule], {"q_0": unread(12, 3, 4)}).heads == 3
    assert read([Rule(("a",), ("b",))], {"b": unread(12, 12)}).heads is None


@pytest.mark.parametrize(
    ("step", "shape", "needed"),
    [
        (Transpose((1, 0)), (2, 3, 4), "one of 2 axes"),
        (SplitHeads(1, 2), (2, 3), "one of 3 axes"),
        (SplitHeads(0, 1), (6,), "one of 2 axes"),
        (Fuse(3), (7, 2), "a first axis that 3 divides"),
        (Fuse(3), (), "a first axis that 3 divides"),
    ],
)
def test_a_shape_that_cannot_be_is_named_with_what_is_needed(step: Any, shape: tuple[int, ...], needed: str) -> None:
    ours = ("a", "b", "c") if isinstance(step, Fuse) else ("a",)
    with pytest.raises(ValueError, match=f"^x has shape .* where {needed} is needed\\.$"):
        read([Rule(ours, ("x",), (step,))], {"x": unread(*shape)})


def test_positions_to_unfold_need_three_axes() -> None:
    rule = Rule(("token", "positions"), ("cls", "pos"), (FoldClassPosition(),))
    with pytest.raises(ValueError, match=r"^pos has shape \(4, 12\), where one of 3 axes is needed\.$"):
        read([rule], {"cls": unread(1, 1, 12), "pos": unread(4, 12)})


def test_a_first_axis_that_was_dropped_comes_back() -> None:
    rule = Rule(("positions",), ("pos",), (DropFirstAxis(),))
    assert read([rule], {"pos": unread(5, 12)}).tensors["positions"].shape == (1, 5, 12)


def test_tensors_that_become_one_must_be_of_one_dtype() -> None:
    rule = Rule(("a", "b"), ("ab",), (Fuse(2),))
    with pytest.raises(ValueError, match="a and b have several dtypes; convert with a dtype for all"):
        rule.write([from_numpy(array(2)), from_numpy(array(2).astype(np.float16))], 1)


def test_a_position_of_the_class_token_cannot_be_added_in_bfloat16() -> None:
    bits = np.full((1, 3, 2), 0x3F80, np.uint16)
    stored = [StoredTensor("BF16", (1, 1, 2), lambda: bits[:, :1]), StoredTensor("BF16", (1, 3, 2), lambda: bits)]
    rule = Rule(("token", "positions"), ("cls", "pos"), (FoldClassPosition(),))
    with pytest.raises(ValueError, match="convert to float32"):
        rule.write(stored, 1)[0].read()
