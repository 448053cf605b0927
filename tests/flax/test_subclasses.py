"""Models of one's own on top of these, as scripts for transformers write them."""

import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import freeze
from flax.training.train_state import TrainState
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file

from conversion.containers.weights_file import read_weights
from vit_core.parameters import parameters
from vit_flax import (
    FSDP,
    FlaxSequenceClassifierOutput,
    FlaxViTForImageClassification,
    FlaxViTForImageClassificationModule,
    FlaxViTModel,
    FlaxViTModule,
    FlaxViTPreTrainedModel,
    Partitioning,
    ViTConfig,
)

IMAGES = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0])


class WithHeadModule(nn.Module):
    """A head of its own, with a part that has a name of the base model's, and a parameter."""

    config: ViTConfig
    classes: int = 4
    dtype: Any = jnp.float32
    gradient_checkpointing: bool = False

    def setup(self):
        self.vit = FlaxViTModule(
            self.config, self.dtype, add_pooling_layer=False, remat=self.gradient_checkpointing, name="vit"
        )
        self.layernorm = nn.LayerNorm(dtype=self.dtype)
        self.head = nn.Dense(self.classes, dtype=self.dtype)
        self.temperature = self.param("temperature", nn.initializers.constant(2.0), (1,))

    def __call__(
        self,
        pixel_values,
        deterministic=True,
        output_attentions=False,
        output_hidden_states=False,
        return_dict=True,
    ):
        outputs = self.vit(pixel_values, deterministic, output_attentions, output_hidden_states, return_dict)
        logits = self.head(self.layernorm(outputs[0][:, 0])) / self.temperature
        if not return_dict:
            return (logits, *outputs[1:])
        return FlaxSequenceClassifierOutput(logits=logits, hidden_states=outputs.hidden_states)


class WithHead(FlaxViTPreTrainedModel):
    module_class = WithHeadModule


class DeeperModule(FlaxViTForImageClassificationModule):
    """One of our modules with a layer more and another classifier."""

    width: int = 24

    def setup(self):
        self.vit = FlaxViTModule(self.config, self.dtype, add_pooling_layer=False)
        self.pooler = nn.Dense(self.width)
        self.classifier = nn.Sequential([nn.Dense(16), nn.relu, nn.Dense(self.config.num_labels)])

    def __call__(self, pixel_values, deterministic=True, *options, **kwargs):
        hidden_states = self.vit(pixel_values, deterministic, **kwargs)[0]
        return FlaxSequenceClassifierOutput(logits=self.classifier(nn.tanh(self.pooler(hidden_states[:, 0]))))


class Deeper(FlaxViTForImageClassification):
    module_class = DeeperModule


class TowersModule(nn.Module):
    """Two models of ours under names of its own, one of them with a head."""

    config: ViTConfig
    dtype: Any = jnp.float32
    scan_layers: bool = False
    partitioning: Partitioning | None = None

    def setup(self):
        options = {"scan_layers": self.scan_layers, "partitioning": self.partitioning}
        self.backbone = FlaxViTModule(self.config, self.dtype, **options)
        self.teacher = FlaxViTForImageClassificationModule(self.config, self.dtype, **options)
        self.projector = nn.Dense(5, use_bias=False)

    def __call__(self, pixel_values, deterministic=True, *options):
        pooled = self.backbone(pixel_values, deterministic)[1]
        return self.projector(pooled) - self.teacher(pixel_values, deterministic).logits


class Towers(FlaxViTPreTrainedModel):
    module_class = TowersModule


class WideConfig(ViTConfig):
    model_type = "wide-vit"

    def __init__(self, width=6, **kwargs):
        super().__init__(**kwargs)
        self.width = width


class WideModule(nn.Module):
    config: WideConfig
    dtype: Any = jnp.float32
    scale: float = 1.0

    def setup(self):
        self.vit = FlaxViTModule(self.config, dtype=self.dtype)
        self.head = nn.Dense(self.config.width, kernel_init=nn.initializers.zeros)

    def __call__(self, pixel_values, deterministic=True, *options):
        return self.head(self.vit(pixel_values, deterministic)[1]) * self.scale


class Wide(FlaxViTPreTrainedModel):
    """Constructor arguments of its own, and its own start."""

    config_class = WideConfig
    module_class = WideModule

    def __init__(self, config, temperature=1.0, *args, **kwargs):
        super().__init__(config, *args, **kwargs, scale=1 / temperature)
        self.temperature = temperature

    def init_weights(self, rng, input_shape, params=None):
        started = super().init_weights(rng, input_shape, params)
        started["head"]["bias"] = jnp.full_like(started["head"]["bias"], 7.0)
        return started


def config_for(subclass, tiny_config):
    return subclass.config_class(**tiny_config.to_dict())


def result(model, params=None):
    outputs = jax.jit(lambda params: model(IMAGES, params=params))(model.params if params is None else params)
    return outputs.logits if isinstance(outputs, dict) else outputs


def assert_trees_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def random_params(model):
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.float32(random.normal(0, 0.2, leaf.shape)), model.params_shape_tree)


OWN = {
    WithHead: {"layernorm.scale", "layernorm.bias", "head.kernel", "head.bias", "temperature"},
    Deeper: {
        *("pooler.kernel", "pooler.bias", "classifier.layers_0.kernel", "classifier.layers_0.bias"),
        *("classifier.layers_2.kernel", "classifier.layers_2.bias"),
    },
    Towers: {"projector.kernel"},
    Wide: {"head.kernel", "head.bias"},
}


@pytest.mark.parametrize("subclass", OWN)
def test_a_subclass_is_saved_and_loaded_whole(tiny_config, tmp_path, subclass):
    config = config_for(subclass, tiny_config)
    model, params = subclass(config, _do_init=False), None
    params = random_params(model)
    model.save_pretrained(tmp_path / "one", params=params)
    again, info = subclass.from_pretrained(tmp_path / "one", output_loading_info=True)
    assert not any(info.values())
    assert_trees_equal(again.params, params)
    assert json.loads((tmp_path / "one/config.json").read_text())["architectures"] == [subclass.__name__]
    tensors = load_file(tmp_path / "one/model.safetensors")
    assert {name for name in tensors if name not in described(subclass, config)} == OWN[subclass]
    again.save_pretrained(tmp_path / "two")
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()


def described(subclass, config):
    """The names that the models inside a subclass have by the table of parameters, with the layout that it gives."""
    if subclass is not Towers:
        return {f"vit.{row.name}" for row in parameters(config)}
    teacher = {f"teacher.{row.name}" for row in parameters(config, "image-classification")}
    return {f"backbone.{row.name}" for row in parameters(config)} | teacher


@pytest.mark.parametrize("subclass", [WithHead, Deeper, Towers])
def test_the_file_of_transformers_flax_models_has_the_paths_of_the_parameters(tiny_config, tmp_path, subclass):
    model = subclass(tiny_config, _do_init=False)
    params = random_params(model)
    model.save_pretrained(tmp_path, params=params, safe_serialization=False)
    stored = read_weights(tmp_path / "flax_model.msgpack")
    assert set(stored) == {"/".join(path) for path in flatten_dict(params)}
    again, info = subclass.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert_trees_equal(again.params, params)


@pytest.mark.parametrize("with_head", [False, True])
@pytest.mark.parametrize(("subclass", "name"), [(WithHead, "vit"), (Deeper, "vit"), (Towers, "backbone")])
def test_a_subclass_starts_from_a_plain_checkpoint(tiny_config, tmp_path, subclass, name, with_head):
    plain = (FlaxViTForImageClassification if with_head else FlaxViTModel)(tiny_config, _do_init=False)
    plain.save_pretrained(tmp_path, params=random_params(plain))
    with pytest.warns(UserWarning, match="start at random, so train them before use") as caught:
        model, info = subclass.from_pretrained(tmp_path, output_loading_info=True)
    assert len(caught) == 1
    stored = load_file(tmp_path / "model.safetensors")
    filled = [row for row in model.parameter_table() if row.name.startswith(name)]
    for row in filled:
        plain_name = ("vit." if with_head else "") + row.name.removeprefix(f"{name}.")
        if plain_name in stored:
            array = np.asarray(flatten_dict(model.params)[model.layout.path(row)])
            np.testing.assert_array_equal(model.layout.to_canonical(row, array), stored[plain_name])
    assert OWN[subclass] <= set(info["missing_keys"])
    assert not any(leaf.weak_type or not np.isfinite(leaf).all() for leaf in jax.tree.leaves(model.params))
    if subclass is WithHead:  # whose own layernorm is none of the checkpoint's
        assert (np.asarray(model.params["layernorm"]["bias"]) == 0).all()


def test_a_base_model_takes_its_own_from_what_a_subclass_saved(tiny_config, tmp_path):
    model = WithHead(tiny_config, _do_init=False)
    params = random_params(model)
    model.save_pretrained(tmp_path, params=params)
    with pytest.warns(UserWarning, match="layernorm.*are in the checkpoint, but this model has no such"):
        base = FlaxViTModel.from_pretrained(tmp_path, add_pooling_layer=False)
    assert_trees_equal(base.params, params["vit"])


def test_constructor_arguments_and_fields_of_the_module_pass_through_from_pretrained(tiny_config, tmp_path):
    config = WideConfig(width=3, **tiny_config.to_dict())
    model = Wide(config, 4.0)
    assert (model.temperature, model.module.scale) == (4.0, 0.25)
    assert (np.asarray(model.params["head"]["bias"]) == 7).all()  # what init_weights of the subclass says
    model.save_pretrained(tmp_path)
    for loaded in (Wide.from_pretrained(tmp_path, jnp.float32, 2.0), Wide.from_pretrained(tmp_path, temperature=2.0)):
        assert (loaded.temperature, loaded.module.scale) == (2.0, 0.5)
        assert type(loaded.config) is WideConfig
        assert loaded.config.width == 3
    with pytest.warns(UserWarning, match=r"head.kernel \(32, 3\) -> \(32, 9\)"):
        wider = Wide.from_pretrained(tmp_path, width=9, ignore_mismatched_sizes=True)
    np.testing.assert_array_equal(wider.params["head"]["bias"], np.full(9, 7.0))
    assert WithHead(tiny_config, classes=9, _do_init=False).params_shape_tree["head"]["kernel"].shape == (32, 9)
    with pytest.raises(TypeError, match="WithHead has no option 'clases'; it has classes"):
        WithHead(tiny_config, clases=9)


def test_a_head_starts_by_its_own_initialisers_and_the_base_model_as_the_table_says(tiny_config):
    tiny_config.initializer_range = 0.5
    model = WithHead(tiny_config)
    assert np.asarray(model.params["temperature"]) == 2.0
    assert (np.asarray(model.params["layernorm"]["scale"]) == 1).all()
    assert 0.45 < np.std(model.params["vit"]["encoder"]["layer"]["1"]["intermediate"]["dense"]["kernel"]) < 0.55
    assert 0.1 < np.std(model.params["head"]["kernel"]) < 0.25  # by the root of the number of inputs


def test_missing_parameters_are_made_for_params_that_are_frozen(tiny_config):
    model = WithHead(tiny_config, _do_init=False)
    params = random_params(model)
    kept = {name: value for name, value in params.items() if name != "head"}
    filled = model.init_weights(jax.random.key(0), (1, 32, 32, 3), freeze(kept))
    assert_trees_equal(filled["vit"].unfreeze(), params["vit"])
    assert filled["head"]["kernel"].shape == (32, 4)


def test_scanned_layers_of_a_subclass_are_the_same_checkpoint(tiny_config, tmp_path):
    model = Towers(tiny_config, _do_init=False)
    params = random_params(model)
    model.save_pretrained(tmp_path / "single", params=params)
    scanned = Towers.from_pretrained(tmp_path / "single", scan_layers=True)
    assert scanned.params["backbone"]["encoder"]["layer"]["output"]["dense"]["kernel"].shape == (2, 48, 32)
    np.testing.assert_allclose(result(scanned), result(model, params), atol=1e-5)
    scanned.save_pretrained(tmp_path / "scanned")
    one, two = (tmp_path / name / "model.safetensors" for name in ("single", "scanned"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("scan_layers", [False, True])
def test_a_subclass_lies_on_a_mesh_where_its_module_puts_it(tiny_config, tmp_path, scan_layers):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("data",))
    model = Towers(tiny_config, _do_init=False)
    params = random_params(model)
    model.save_pretrained(tmp_path / "one", params=params)
    options = {"scan_layers": scan_layers, "partitioning": Partitioning(mesh, FSDP)}
    spread = Towers.from_pretrained(tmp_path / "one", **options)
    kernel = spread.params["teacher"]["vit"]["encoder"]["layer"]
    kernel = (kernel if scan_layers else kernel["0"])["intermediate"]["dense"]["kernel"]
    assert kernel.sharding.spec == jax.sharding.PartitionSpec(*([None] * scan_layers), "data", None)
    assert spread.params["projector"]["kernel"].sharding.is_fully_replicated
    np.testing.assert_allclose(result(spread), result(model, params), atol=1e-5)
    spread.save_pretrained(tmp_path / "two")
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()


def test_parameters_are_loaded_in_a_dtype_whether_the_module_has_a_field_for_it_or_not(tiny_config, tmp_path):
    plain = FlaxViTModel(tiny_config, _do_init=False)
    plain.save_pretrained(tmp_path, params=random_params(plain))
    with pytest.warns(UserWarning, match="start at random"):
        model = WithHead.from_pretrained(tmp_path, param_dtype="bfloat16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(model.params)} == {"bfloat16"}


class Mixed(nn.Module):
    config: ViTConfig
    dtype: Any = jnp.float32

    def setup(self):
        self.student = FlaxViTModule(self.config, scan_layers=True)
        self.teacher = FlaxViTModule(self.config)

    def __call__(self, pixel_values, *options):
        return self.student(pixel_values)[1] - self.teacher(pixel_values)[1]


def test_a_module_with_stacked_and_with_single_layers_is_refused(tiny_config):
    subclass = type("OfMixed", (FlaxViTPreTrainedModel,), {"module_class": Mixed})
    with pytest.raises(ValueError, match="give every FlaxViTModule of a model the same scan_layers"):
        subclass(tiny_config, _do_init=False)


def test_gradient_checkpointing_is_for_modules_that_have_a_field_for_it(tiny_config):
    model = WithHead(tiny_config, _do_init=False)
    params = random_params(model)
    trained = jax.jit(jax.grad(lambda params: model(IMAGES, params=params, train=True).logits.sum()))
    before = trained(params)
    model.enable_gradient_checkpointing()
    assert model.module.gradient_checkpointing
    jitted = jax.jit(jax.grad(lambda params: model(IMAGES, params=params, train=True).logits.sum()))
    assert "remat" in str(jitted.trace(params).jaxpr) or "checkpoint" in str(jitted.trace(params).jaxpr)
    for one, two in zip(jax.tree.leaves(jitted(params)), jax.tree.leaves(before), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    with pytest.raises(ValueError, match="WideModule has no field remat; give it one"):
        Wide(config_for(Wide, tiny_config), _do_init=False).enable_gradient_checkpointing()


def test_a_classifier_of_one_of_our_classes_follows_params_of_another_number_of_labels(tiny_config, tmp_path):
    model = Deeper(tiny_config, width=8, _do_init=False)
    params = random_params(model)
    params["classifier"]["layers_2"] = {"kernel": jnp.ones((16, 9)), "bias": jnp.ones(9)}
    model.save_pretrained(tmp_path, params=params)
    again = Deeper.from_pretrained(tmp_path, width=8, num_labels=9)
    assert_trees_equal(again.params, params)


class SameModule(nn.Module):
    """What FlaxViTForImageClassification computes, under another name and in Flax's own layer."""

    config: ViTConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, pixel_values, deterministic=True, *options):
        hidden_states = FlaxViTModule(self.config, self.dtype, False, name="vit")(pixel_values, deterministic)[0]
        return nn.Dense(self.config.num_labels, name="head")(hidden_states[:, 0])


class Same(FlaxViTPreTrainedModel):
    module_class = SameModule


def train(apply, params):
    """Three steps of AdamW; the key biases have no gradient but rounding, so epsilon is far above that."""
    state = TrainState.create(apply_fn=apply, params=params, tx=optax.adamw(1e-3, eps=1e-4, weight_decay=0.1))

    @jax.jit
    def step(state, images):
        def loss(params):
            logits = state.apply_fn(images, params=params, dropout_rng=jax.random.key(state.step), train=True)
            logits = getattr(logits, "logits", logits)
            return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()

        value, gradients = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=gradients), value

    losses = []
    for number in range(3):
        state, value = step(state, IMAGES * (1 + number))
        losses.append(float(value))
    return losses, state.params


def test_a_subclass_trains_as_the_model_that_computes_the_same(tiny_config, tmp_path):
    plain = FlaxViTForImageClassification(tiny_config, _do_init=False)
    params = random_params(plain)
    expected_losses, expected = train(plain.__call__, params)
    model = Same(tiny_config, _do_init=False)
    losses, trained = train(model.__call__, {"vit": params["vit"], "head": params["classifier"]})
    np.testing.assert_allclose(losses, expected_losses, atol=1e-5, rtol=0)
    expected = {"vit": expected["vit"], "head": expected["classifier"]}
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5, rtol=0), trained, expected)
    changes = jax.tree.map(lambda one, other: np.abs(one - other).max(), trained["head"], params["classifier"])
    assert min(jax.tree.leaves(changes)) > 1e-3
    model.save_pretrained(tmp_path, params=trained)
    assert_trees_equal(Same.from_pretrained(tmp_path).params, trained)
