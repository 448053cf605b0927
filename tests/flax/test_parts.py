"""The parts of `vit_flax.modeling` alone, as scripts for transformers build them: a config and a dtype, no number."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamShapeError
from flax.traverse_util import unflatten_dict

from vit_core.layouts import FLAX
from vit_core.parameters import parameters
from vit_flax import FlaxViTForImageClassification, FlaxViTModel, ViTConfig
from vit_flax.modeling import (
    FlaxViTAttention,
    FlaxViTEmbeddings,
    FlaxViTEncoder,
    FlaxViTForImageClassificationModule,
    FlaxViTIntermediate,
    FlaxViTLayer,
    FlaxViTLayerCollection,
    FlaxViTModule,
    FlaxViTOutput,
    FlaxViTPatchEmbeddings,
    FlaxViTPooler,
    FlaxViTSelfAttention,
    FlaxViTSelfOutput,
)
from vit_flax.parameter_tree import flatten, joined

RNG = jax.random.PRNGKey(0)
IMAGES = np.linspace(-1, 1, 2 * 3 * 32 * 32, dtype=np.float32).reshape(2, 32, 32, 3)
TOKENS = np.linspace(-1, 1, 2 * 17 * 32, dtype=np.float32).reshape(2, 17, 32)
MLP = np.ones((2, 17, 48), np.float32)


@pytest.fixture(scope="module")
def config():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    return ViTConfig(**sizes, image_size=32, patch_size=8)


@pytest.fixture(scope="module")
def params(config):
    """Parameters of a whole model without a head."""
    model, random = FlaxViTModel(config, _do_init=False), np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.float32(random.normal(0, 0.2, leaf.shape)), model.params_shape_tree)


#: Where each part lies in a model, and in each line the arguments of a call as scripts for transformers give them.
PARTS = {
    FlaxViTPatchEmbeddings: ("embeddings/patch_embeddings", [((IMAGES,), {})]),
    FlaxViTEmbeddings: (
        "embeddings",
        [((IMAGES,), {}), ((IMAGES, True), {}), ((), {"pixel_values": IMAGES, "deterministic": True})],
    ),
    FlaxViTSelfAttention: (
        "encoder/layer/0/attention/attention",
        [
            ((TOKENS,), {}),
            ((TOKENS, True, True), {}),
            ((), {"output_attentions": True, "deterministic": True, "hidden_states": TOKENS}),
        ],
    ),
    FlaxViTSelfOutput: (
        "encoder/layer/0/attention/output",
        [((TOKENS, TOKENS), {}), ((TOKENS, TOKENS, True), {}), ((TOKENS,), {"deterministic": True})],
    ),
    FlaxViTAttention: (
        "encoder/layer/0/attention",
        [((TOKENS,), {"deterministic": True}), ((TOKENS, True, True), {}), ((TOKENS,), {"output_attentions": True})],
    ),
    FlaxViTIntermediate: ("encoder/layer/0/intermediate", [((TOKENS,), {}), ((), {"hidden_states": TOKENS})]),
    FlaxViTOutput: (
        "encoder/layer/0/output",
        [((MLP, TOKENS), {}), ((MLP, TOKENS, True), {}), ((MLP,), {"attention_output": TOKENS, "deterministic": True})],
    ),
    FlaxViTLayer: (
        "encoder/layer/0",
        [((TOKENS,), {}), ((TOKENS, True, True), {}), ((TOKENS,), {"deterministic": True, "output_attentions": False})],
    ),
    FlaxViTLayerCollection: (
        "encoder/layer",
        [((TOKENS,), {}), ((TOKENS, True, True, True, False), {}), ((TOKENS,), {"output_hidden_states": True})],
    ),
    FlaxViTEncoder: (
        "encoder",
        [((TOKENS,), {}), ((TOKENS, True, True, True, True), {}), ((TOKENS,), {"return_dict": False})],
    ),
    FlaxViTPooler: ("pooler", [((TOKENS,), {})]),
    FlaxViTModule: (
        "",
        [((IMAGES,), {}), ((IMAGES, True, True, True, False), {}), ((IMAGES,), {"output_attentions": True})],
    ),
}


def inside(params, path):
    for name in filter(None, path.split("/")):
        params = params[name]
    return params


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_built_from_a_config_alone_and_has_the_parameters_that_it_has_in_a_model(config, params, part):
    path, calls = PARTS[part]
    own = {"params": inside(params, path)}
    (args, kwargs), *others = calls
    shapes = jax.eval_shape(lambda: part(config).init(RNG, *args, **kwargs))
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, own)
    assert jax.tree.leaves(shapes)[0].dtype == jnp.float32
    expected = part(config).apply(own, *args, **kwargs)
    first = expected if hasattr(expected, "dtype") else expected[0]
    for args, kwargs in others:
        output = part(config=config, dtype=jnp.float32).apply(own, *args, **kwargs)
        np.testing.assert_array_equal(output if hasattr(output, "dtype") else output[0], first)
    args, kwargs = jax.tree.map(lambda each: each if each is True else each.astype(jnp.bfloat16), calls[0])
    half = jax.eval_shape(lambda: part(config, jnp.bfloat16).apply(own, *args, **kwargs))
    assert jax.tree.leaves(half)[0].dtype == jnp.bfloat16


def test_outputs_of_parts_have_the_forms_of_transformers(config, params):
    def run(part, *args, **kwargs):
        return part(config).apply({"params": inside(params, PARTS[part][0])}, *args, **kwargs)

    for part in (FlaxViTSelfAttention, FlaxViTAttention, FlaxViTLayer):
        assert [each.shape for each in run(part, TOKENS)] == [(2, 17, 32)]
        assert [each.shape for each in run(part, TOKENS, output_attentions=True)] == [(2, 17, 32), (2, 4, 17, 17)]
        assert type(run(part, TOKENS)) is tuple
    for part in (FlaxViTLayerCollection, FlaxViTEncoder):
        assert list(run(part, TOKENS)) == ["last_hidden_state"]
        everything = run(part, TOKENS, True, True, True)
        assert [len(everything[name]) for name in ("hidden_states", "attentions")] == [3, 2]
        assert type(run(part, TOKENS, return_dict=False)) is tuple
    assert run(FlaxViTPooler, TOKENS).shape == (2, 32)
    assert FlaxViTModule(config, jnp.float32, False).add_pooling_layer is False  # by position, as there
    assert list(FlaxViTModule(config, add_pooling_layer=False).init_with_output(RNG, IMAGES)[0]) == [
        "last_hidden_state"
    ]


def test_parts_are_parts_of_a_bound_module(config):
    model, random = FlaxViTForImageClassification(config, _do_init=False), np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.float32(random.normal(0, 0.2, leaf.shape)), model.params_shape_tree)
    bound = model.module.bind({"params": params})
    tokens = bound.vit.embeddings(IMAGES)
    hidden_states = tokens
    for layer in bound.vit.encoder.layer.layers:
        hidden_states = layer(hidden_states)[0]
    logits = bound.classifier(bound.vit.layernorm(hidden_states)[:, 0])
    images = IMAGES.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(logits, model(images, params=params).logits, atol=1e-5)
    through_method = model.module.apply({"params": params}, IMAGES, method=lambda module, x: module.vit.embeddings(x))
    np.testing.assert_array_equal(through_method, tokens)


def test_what_a_module_computed_inside_is_captured(config, params):
    _, state = FlaxViTModule(config).apply(
        {"params": params}, IMAGES, capture_intermediates=True, mutable=["intermediates"]
    )
    pooled = state["intermediates"]["pooler"]["__call__"][0]
    np.testing.assert_array_equal(pooled, FlaxViTModule(config).apply({"params": params}, IMAGES).pooler_output)


def test_what_a_classifier_computed_inside_is_of_all_tokens(config):
    module = FlaxViTForImageClassificationModule(config)
    options = {"capture_intermediates": True, "mutable": ["intermediates"]}
    shapes = jax.eval_shape(lambda: module.init(RNG, IMAGES))
    _, state = jax.eval_shape(lambda variables: module.apply(variables, IMAGES, **options), shapes)
    assert state["intermediates"]["vit"]["layernorm"]["__call__"][0].shape == (2, 17, 32)


class Chain(nn.Module):
    """A script's own model of our parts, under names of its own."""

    config: ViTConfig

    @nn.compact
    def __call__(self, images):
        tokens = FlaxViTEmbeddings(self.config, name="stem")(images)
        return nn.Dense(3)(FlaxViTEncoder(self.config, name="body")(tokens)[0][:, 0])


def test_parts_are_put_together_in_another_module(config, params):
    variables = Chain(config).init(RNG, IMAGES)
    assert set(variables["params"]) == {"stem", "body", "Dense_0"}
    own = {**variables["params"], "stem": params["embeddings"], "body": params["encoder"]}
    assert Chain(config).apply({"params": own}, IMAGES).shape == (2, 3)


def test_the_number_of_a_layer_tells_its_pruned_heads(config):
    pruned = config.replaced(pruned_heads={1: [0, 3]})
    rows = {row.name: row for row in parameters(pruned)}
    for layer, heads in ((0, 4), (1, 2), (None, 4)):
        shapes = jax.eval_shape(lambda layer=layer: FlaxViTLayer(pruned, layer=layer).init(RNG, TOKENS))["params"]
        kernel = shapes["attention"]["attention"]["query"]["kernel"]
        assert kernel.shape == (32, heads * 8)
        if layer is not None:
            row = rows[f"encoder.layer.{layer}.attention.attention.query.weight"]
            assert kernel.shape == FLAX.shape(row)


class Wider(FlaxViTForImageClassificationModule):
    bits: int = 3


def test_a_field_that_a_subclass_adds_comes_after_the_dtype(config):
    assert Wider(config, jnp.float32, 5).bits == 5
    assert Wider(config, scan_layers=True).bits == 3


def test_every_parameter_of_the_table_is_in_a_part(config, params):
    assert set(flatten(params)) == {FLAX.path(row) for row in parameters(config)}


@pytest.mark.parametrize(("of_layer", "name"), [("intermediate/dense", "kernel"), ("layernorm_before", "scale")])
def test_a_parameter_of_another_shape_is_named_with_its_place(config, params, of_layer, name):
    layer = {joined(path): leaf for path, leaf in flatten(params["encoder"]["layer"]["0"]).items()}
    layer[f"{of_layer}/{name}"] = layer[f"{of_layer}/{name}"][:-1]
    with pytest.raises(ScopeParamShapeError) as caught:
        FlaxViTLayer(config).apply({"params": unflatten_dict(layer, sep="/")}, TOKENS)
    assert f'"{name}" in "/{of_layer}"' in str(caught.value)


def test_a_parameter_that_is_there_is_not_traced_again(config, params, monkeypatch):
    def fail(*_):
        raise AssertionError("an initialiser was called")

    monkeypatch.setattr("vit_flax.parts.normal", lambda deviation: fail)
    with_params = FlaxViTLayer(config).apply({"params": params["encoder"]["layer"]["0"]}, TOKENS)
    assert with_params[0].shape == TOKENS.shape
    with pytest.raises(AssertionError, match="initialiser"):
        FlaxViTLayer(config).init(RNG, TOKENS)


def test_a_parameter_of_a_subclass_is_declared_as_anywhere_in_flax(config):
    class Shifted(FlaxViTLayer):
        @nn.compact
        def __call__(self, hidden_states):
            gain = self.param("gain", lambda key: jnp.full(3, 2.0))  # an initialiser that is not told a shape
            return hidden_states * gain.mean() + self.param("shift", nn.initializers.ones, (32,))

    layer = Shifted(config)
    variables = layer.init(RNG, TOKENS)
    np.testing.assert_allclose(layer.apply(variables, TOKENS), 2 * TOKENS + 1, atol=1e-6)


def test_a_list_is_no_parameter(config, params):
    layer = {joined(path): leaf for path, leaf in flatten(params["encoder"]["layer"]["0"]).items()}
    layer["intermediate/dense/kernel"] = layer["intermediate/dense/kernel"].tolist()
    with pytest.raises(ScopeParamShapeError, match="kernel"):
        FlaxViTLayer(config).apply({"params": unflatten_dict(layer, sep="/")}, TOKENS)
