import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_flax import FlaxViTForMaskedImageModeling, FlaxViTModel
from vit_flax.parameter_tree import flatten
from vit_flax.parts import Linear
from vit_flax.precision import product

HALVES = ["bfloat16", "float16"]


def as_float32(array):
    return np.asarray(array.astype(jnp.float32))


def assert_close_to_its_range(found, expected, share=2e-2):
    assert np.abs(as_float32(found) - expected).max() <= share * np.ptp(expected)


def dtypes(tree):
    return {jnp.dtype(leaf.dtype).name for leaf in jax.tree.leaves(tree)}


def labelled(expected):
    return {name: expected[name] for name in ("pixel_values", "labels", "bool_masked_pos") if name in expected}


# Models in half precision


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_close_to_float32_and_keeps_its_parameters(load, dtype, scan_layers):
    model, expected = load("hf_vit_classifier", dtype=dtype, scan_layers=scan_layers)
    assert dtypes(model.params) == {"float32"}

    @jax.jit
    def run(batch, large):
        return model(**batch, output_hidden_states=True, output_attentions=True), model(
            large, interpolate_pos_encoding=True
        )

    outputs, large = run(labelled(expected), expected["pixel_values_large"])
    assert dtypes((outputs.logits, outputs.hidden_states, outputs.attentions, large)) == {dtype}
    assert_close_to_its_range(outputs.logits, expected["logits"])
    assert_close_to_its_range(large.logits, expected["large/logits"])
    assert outputs.loss.dtype == jnp.float32
    np.testing.assert_allclose(outputs.loss, expected["loss"], rtol=2e-2)


@pytest.mark.parametrize("dtype", HALVES)
def test_masked_image_modeling_in_half_precision(load, dtype):
    model, expected = load("hf_vit_masked", dtype=dtype)
    outputs = jax.jit(model)(**labelled(expected))
    assert dtypes(outputs.reconstruction) == {dtype}
    assert_close_to_its_range(outputs.reconstruction, expected["reconstruction"])
    assert outputs.loss.dtype == jnp.float32
    np.testing.assert_allclose(outputs.loss, expected["loss"], rtol=2e-2)


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("dtype", HALVES)
def test_gradients_in_half_precision_are_float32_and_close(load, dtype, scan_layers):
    model, expected = load("hf_vit_classifier", dtype=dtype, scan_layers=scan_layers)
    gradients = jax.jit(jax.grad(lambda params: model(**labelled(expected), params=params).loss))(model.params)
    assert dtypes(gradients) == {"float32"}
    leaves = flatten(gradients)
    for row in model.parameter_table():
        gradient, reference = leaves[model.layout.path(row)], expected[f"grad/{row.name}"]
        gradient = model.layout.to_canonical(row, gradient[row.layer] if model.layout.is_stacked(row) else gradient)
        if not row.name.endswith("key.bias"):  # which are rounding only
            error = np.linalg.norm(np.asarray(gradient) - reference) / np.linalg.norm(reference)
            assert error <= 0.05, row.name


def test_parameters_in_half_precision_compute_what_they_hold(load):
    model, expected = load("hf_vit_classifier", dtype="bfloat16", param_dtype="bfloat16")
    wide, _ = load("hf_vit_classifier", dtype="bfloat16")
    assert dtypes(model.params) == {"bfloat16"}
    found, halves, exact = jax.jit(
        lambda images: [
            each(images, params=params).logits
            for each, params in ((model, None), (wide, wide.to_bf16(wide.params)), (wide, None))
        ]
    )(expected["pixel_values"])
    np.testing.assert_array_equal(found, halves)
    assert_close_to_its_range(found, expected["logits"])
    # Biases and normalization keep what float32 parameters have beyond bfloat16.
    assert (found != exact).any()


@pytest.mark.parametrize(
    ("given", "expected"), [("bfloat16", "bfloat16"), ("torch.float16", "float16"), (jnp.bfloat16, "bfloat16")]
)
def test_types_go_by_the_names_that_people_call_them(tiny_config, given, expected):
    model = FlaxViTModel(tiny_config, dtype=given, param_dtype=given, _do_init=False)
    assert jnp.dtype(model.dtype).name == jnp.dtype(model.module.param_dtype).name == expected


# No silent promotion


def dots(jaxpr):
    """The matrix products of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from dots(getattr(inner, "jaxpr", inner))


CALLS = {
    "plain": {},
    "maps": {"output_attentions": True},
    "head mask": {"head_mask": np.array([1.0, 0.5, 0.0, 1.0], np.float32)},
    "dropout": {"train": True, "dropout_rng": jax.random.key(0)},
    "eager": {"attn_implementation": "eager"},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("dtype", HALVES)
def test_every_product_of_a_gradient_has_half_precision_operands_and_wider_sums(tiny_config, dtype, call):
    options = dict(CALLS[call])
    tiny_config.attn_implementation = options.pop("attn_implementation", "sdpa")
    if call == "dropout":
        tiny_config.hidden_dropout_prob = tiny_config.attention_probs_dropout_prob = 0.1
    model = FlaxViTForMaskedImageModeling(tiny_config, dtype=dtype, _do_init=False)

    def loss(params, images, mask):
        return model(images, mask, params=params, **options).loss

    shapes = (jax.ShapeDtypeStruct((2, 3, 32, 32), jnp.float32), jax.ShapeDtypeStruct((2, 16), bool))
    found = list(dots(jax.make_jaxpr(jax.grad(loss))(model.params_shape_tree, *shapes).jaxpr))
    # Forward, in each of two layers six by weights and two of attention, and the projection and the decoder; backward,
    # two for each but one for the projection of the images, which have no gradient.
    assert len(found) >= 3 * (2 * 8 + 2) - 1
    for equation in found:
        assert {variable.aval.dtype.name for variable in equation.invars} == {dtype}
        # JAX's own attention, which has five axes, returns the product with values in the dtype of the values.
        result = equation.outvars[0].aval
        assert result.dtype == jnp.float32 or (result.ndim == 5 and result.dtype == dtype)


# The product of which all are made

FORMS = {
    "ri,io->ro": ((6, 5), (5, 7)),
    "bhqd,bhkd->bhqk": ((2, 3, 4, 5), (2, 3, 6, 5)),
    "bhqk,bhkd->bhqd": ((2, 3, 4, 6), (2, 3, 6, 5)),
}


def rounded(shape, dtype, seed):
    """Numbers that half precision holds, in float32."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype).astype(jnp.float32)


@pytest.mark.parametrize("subscripts", FORMS)
@pytest.mark.parametrize("dtype", HALVES)
def test_a_half_precision_product_is_float32s_of_its_rounded_operands(subscripts, dtype):
    shapes = FORMS[subscripts]
    left, right = (rounded(shape, dtype, seed) for seed, shape in enumerate(shapes))
    expected, pull = jax.vjp(functools.partial(jnp.einsum, subscripts), left, right)
    gradient = rounded(expected.shape, dtype, 2)
    left_gradient, right_gradient = pull(gradient)

    found, pull = jax.vjp(lambda left, right: product(subscripts, left, right, jnp.dtype(dtype)), left, right)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for each, reference in zip(pull(gradient), (left_gradient, right_gradient), strict=True):
        assert each.dtype == jnp.float32
        np.testing.assert_allclose(each, reference, atol=1e-5)
        # All the bits of the sum, not those of half precision.
        assert (each != each.astype(dtype).astype(jnp.float32)).any()

    # A half-precision operand has a gradient of its own dtype.
    _, pull = jax.vjp(lambda left, right: product(subscripts, left, right, jnp.dtype(dtype)), left.astype(dtype), right)
    one, other = pull(gradient)
    assert (one.dtype, other.dtype) == (jnp.dtype(dtype), jnp.float32)
    np.testing.assert_allclose(one.astype(jnp.float32), left_gradient, rtol=float(jnp.finfo(dtype).eps), atol=1e-5)
    np.testing.assert_allclose(other, right_gradient, atol=1e-5)


def test_gradients_are_rounded_before_they_are_multiplied():
    left, right, gradient = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8)), jnp.float32)
    exact = jax.vjp(jnp.matmul, left, right)[1](gradient)
    half = jax.vjp(lambda left, right: product("ri,io->ro", left, right, jnp.bfloat16), left, right)[1](gradient)
    for one, other in zip(half, exact, strict=True):
        error = np.abs(one - other).max() / np.abs(other).max()
        assert 1e-5 < error < 2**-6


def test_a_float32_product_is_einsum():
    left, right = rounded((6, 5), "float32", 0), rounded((5, 7), "float32", 1)
    found = product("ri,io->ro", left.astype(jnp.bfloat16), right, jnp.float32)
    np.testing.assert_array_equal(found, left.astype(jnp.bfloat16).astype(jnp.float32) @ right)


# float64


def test_float64_is_computed_in_float64(load):
    single, expected = load("hf_vit_classifier")
    results = {"logits": expected["logits"], "loss": expected["loss"]}
    with jax.enable_x64(True):
        model, _ = load("hf_vit_classifier", dtype="float64", param_dtype="float64")
        assert dtypes(model.params) == {"float64"}
        outputs = jax.jit(functools.partial(model, output_attentions=True))(**labelled(expected))
        assert dtypes(outputs) == {"float64"}
        outputs = {name: np.asarray(outputs[name]) for name in results}
    for name, reference in results.items():
        np.testing.assert_allclose(outputs[name], reference, atol=1e-5)
    in_float32 = np.asarray(jax.jit(single)(expected["pixel_values"]).logits)
    # The difference is float32's rounding: there is some, and no more.
    assert 0 < np.abs(in_float32 - outputs["logits"]).max() < 1e-5


def test_a_linear_layer_in_float64_has_its_digits(tiny_config):
    random = np.random.default_rng(0)
    x, kernel, bias = random.normal(size=(3, 4, 32)), random.normal(size=(32, 7)), random.normal(size=7)
    with jax.enable_x64(True):
        layer = Linear(tiny_config, dtype=jnp.float64, features=7)
        found = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, x @ kernel + bias, atol=1e-13)
