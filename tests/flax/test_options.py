"""The options of from_pretrained, save_pretrained and of models, as scripts for transformers give them."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze, unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict
from hub_server import TOKEN
from safetensors.numpy import load_file, save_file

from conversion.containers.weights_file import read_weights
from vit_flax import DATA_PARALLEL, FlaxViTForImageClassification, FlaxViTModel, FlaxViTPreTrainedModel, Partitioning

IMAGES = np.linspace(-1, 1, 2 * 3 * 32 * 32, dtype=np.float32).reshape(2, 3, 32, 32)


@pytest.fixture
def model(tiny_config):
    """A model whose weights are drawn without compiling their random start."""
    model, random = FlaxViTForImageClassification(tiny_config, _do_init=False), np.random.default_rng(1)
    model._params = jax.tree.map(lambda leaf: jnp.float32(random.normal(0, 0.2, leaf.shape)), model.params_shape_tree)
    return model


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def load(folder, *arguments, **options):
    return FlaxViTForImageClassification.from_pretrained(folder, *arguments, **options)


def assert_same(params, expected):
    jax.tree.map(np.testing.assert_array_equal, params, expected)


# Names and order


def test_arguments_have_the_names_and_the_order_of_transformers():
    def names(method):
        return list(inspect.signature(method).parameters)

    assert names(FlaxViTPreTrainedModel.from_pretrained)[:10] == [
        *("pretrained_model_name_or_path", "dtype", "model_args", "config", "cache_dir", "ignore_mismatched_sizes"),
        *("force_download", "local_files_only", "token", "revision"),
    ]
    assert names(FlaxViTPreTrainedModel.save_pretrained)[1:7] == [
        *("save_directory", "params", "push_to_hub", "max_shard_size", "token", "safe_serialization")
    ]
    assert names(FlaxViTPreTrainedModel.init_weights)[1:] == ["rng", "input_shape", "params"]
    assert names(FlaxViTPreTrainedModel)[:5] == ["config", "input_shape", "seed", "dtype", "_do_init"]
    assert names(FlaxViTForImageClassification.__call__)[1:8] == [
        *("pixel_values", "params", "dropout_rng", "train", "output_attentions", "output_hidden_states", "return_dict")
    ]


def test_further_positions_are_arguments_of_the_constructor(folder):
    loaded = load(folder, jnp.bfloat16, (4, 32, 32, 3), 7)
    assert (loaded.dtype, loaded.input_shape) == (jnp.bfloat16, (4, 32, 32, 3))
    np.testing.assert_array_equal(loaded.key, jax.random.PRNGKey(7))


# Loading


@pytest.mark.parametrize("dtype", [jnp.bfloat16, "bfloat16", np.dtype("bfloat16"), "auto"])
@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_the_dtype_is_what_the_model_computes_in(folder, model, name, dtype):
    loaded = load(folder, **{name: dtype})
    assert loaded.dtype == (jnp.float32 if dtype == "auto" else jnp.bfloat16)
    assert_same(loaded.params, model.params)


def test_options_that_change_nothing_are_accepted(folder, model):
    options = {"proxies": None, "resume_download": False, "mirror": None, "trust_remote_code": False, "from_pt": True,
               "use_auth_token": None, "subfolder": None, "revision": "main", "_fast_init": True, "weights_only": True,
               "low_cpu_mem_usage": True, "user_agent": {}, "load_in_8bit": False, "quantization_config": None,
               "_commit_hash": None, "name_or_path": "other", "max_memory": None, "offload_folder": None,
               "use_flash_attention_2": False, "finetuning_task": "image-classification"}  # fmt: skip
    loaded = load(folder, **options)
    assert_same(loaded.params, model.params)
    assert not {*options, "token"} & (loaded.config.to_dict().keys() - {"finetuning_task"})
    with pytest.raises(ValueError, match="load_in_8bit=True asks for what Trivit does not have"):
        load(folder, load_in_8bit=True)


def test_a_variant_is_read(folder, model):
    weights = load_file(folder / "model.safetensors")
    save_file({name: array + 1 for name, array in weights.items()}, folder / "model.plus1.safetensors")
    np.testing.assert_allclose(
        load(folder, variant="plus1").params["classifier"]["bias"], model.params["classifier"]["bias"] + 1
    )


def test_a_subfolder_and_an_old_token_are_those_of_the_hub(hub, folder, tmp_path, model):
    files = {f"flax/{file.name}": file.read_bytes() for file in folder.iterdir()}
    hub.add("me/private", files, private=True)
    options = {"subfolder": "flax", "use_auth_token": TOKEN, "revision": "main", "cache_dir": tmp_path / "cache"}
    loaded = load("me/private", **options)
    assert_same(loaded.params, model.params)
    assert TOKEN not in loaded.config.to_json_string()


@pytest.mark.parametrize("device_map", ["cpu", "cpu:1", 1, {"": "cpu:1"}, "auto", {"vit": 1, "classifier": 1}])
def test_a_device_map_places_the_parameters(folder, model, device_map):
    for do_init in (True, False):
        loaded = load(folder, device_map=device_map, _do_init=do_init)
        loaded, params = (loaded, loaded.params) if do_init else loaded
        device = jax.devices()[0 if device_map in ("cpu", "auto") else 1]
        assert {leaf.device for leaf in jax.tree.leaves(params)} == {device}
        assert all(leaf.committed for leaf in jax.tree.leaves(params))
        assert_same(params, model.params)
        assert loaded.hf_device_map == {"": device}
        assert loaded(IMAGES, params=params).logits.device == device


def test_a_device_of_jax_is_a_device_map_too(folder):
    loaded = load(folder, device_map=jax.devices()[2])
    assert loaded.params["classifier"]["bias"].device == jax.devices()[2]


def test_a_device_that_is_the_default_is_so_for_what_is_loaded(folder):
    with jax.default_device(jax.devices()[3]):
        for options in ({}, {"device_map": "auto"}):
            assert load(folder, **options).params["classifier"]["bias"].device == jax.devices()[3]


NO_DEVICES = {
    "device_map is 'cuda:0', which names no device that JAX sees here; give one such as 'cpu' or 'auto'": "cuda:0",
    "device_map is 'cpu:99', which names no device": "cpu:99",
    "device_map is 'nonsense', which names no device": "nonsense",
    "device_map names 2 devices, where a Flax model goes to one; .* partitioning=": {"vit": 0, "classifier": 1},
}


@pytest.mark.parametrize(("words", "device_map"), NO_DEVICES.items(), ids=range(len(NO_DEVICES)))
def test_a_device_that_is_none_is_named(folder, words, device_map):
    with pytest.raises(ValueError, match=words):
        load(folder, device_map=device_map)


def test_a_mesh_and_a_device_are_one_too_many(folder):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("data",))
    with pytest.raises(ValueError, match="device_map and partitioning both say where"):
        load(folder, device_map="cpu", partitioning=Partitioning(mesh, DATA_PARALLEL))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("with_folder", [False, True])
def test_weights_may_be_given_by_canonical_name(folder, model, tiny_config, with_folder, prefix):
    weights = {f"{prefix}{name}": array + 1 for name, array in load_file(folder / "model.safetensors").items()}
    loaded = load(folder, state_dict=weights) if with_folder else load(None, config=tiny_config, state_dict=weights)
    jax.tree.map(lambda one, other: np.testing.assert_array_equal(one, other + 1), loaded.params, model.params)
    weights[f"{prefix}classifier.bias"][:] = 77  # which is the caller's
    assert (np.asarray(loaded.params["classifier"]["bias"]) < 70).all()


def test_weights_may_be_given_as_params(folder, model, tiny_config):
    params = {"vit": model.params["vit"], "classifier": jax.tree.map(jnp.zeros_like, model.params["classifier"])}
    for given in (params, freeze(params)):
        loaded, info = load(None, config=tiny_config, state_dict=given, output_loading_info=True)
        assert not any(info.values())
        assert_same(loaded.params, params)
    halves = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    with pytest.warns(UserWarning, match="weights are stored in bfloat16 and stay so"):
        loaded = load(folder, state_dict=halves)
    assert_same(loaded.params, halves)


def test_weights_may_be_tensors_of_torch(model, tiny_config, folder):
    torch = pytest.importorskip("torch")
    weights = {
        name: torch.nn.Parameter(torch.tensor(each)) for name, each in load_file(folder / "model.safetensors").items()
    }
    assert_same(load(None, config=tiny_config, state_dict=weights).params, model.params)
    weights = {name: each.detach().bfloat16() for name, each in weights.items()}
    halves = load(None, config=tiny_config, state_dict=weights, param_dtype=jnp.bfloat16).params
    assert_same(halves, model.to_bf16(model.params))


NO_WEIGHTS = [
    (TypeError, "state_dict holds 'epoch', a int; pass arrays by canonical name", {"epoch": 3}),
    (TypeError, "state_dict is a list; pass arrays by name", [1]),
    (ValueError, "state_dict holds no tensor of this model", {}),
]


@pytest.mark.parametrize(("error", "words", "weights"), NO_WEIGHTS)
def test_what_is_no_state_dict_is_named(tiny_config, error, words, weights):
    with pytest.raises(error, match=words):
        load(None, config=tiny_config, state_dict=weights)


def test_nothing_to_load_from_is_named(tiny_config):
    with pytest.raises(ValueError, match="give its folder or Hub id, or config=... and state_dict=..."):
        load(None, config=tiny_config)


# Parameters


def test_init_weights_takes_no_unknown_path_and_no_other_shape(model):
    rng = jax.random.PRNGKey(0)
    made = model.init_weights(rng, (1, 32, 32, 3), freeze({"vit": model.params["vit"]}))
    assert_same(unfreeze(made)["vit"], model.params["vit"])
    with pytest.raises(ValueError, match="params hold head/kernel, which the model does not have"):
        model.init_weights(rng, params={"vit": model.params["vit"], "head": {"kernel": jnp.ones(3)}})
    with pytest.raises(ValueError, match=r"params hold classifier/bias with shape \(9,\), but the config makes it"):
        model.init_weights(rng, params={"classifier": {"bias": jnp.ones(9)}})


def test_frozen_parameters_stay_frozen_when_they_are_cast(model):
    flat = flatten_dict(model.params)
    mask = unflatten_dict({path: path[-2:] != ("layernorm", "scale") and path[-1] != "bias" for path in flat})
    for method, dtype in ((model.to_bf16, jnp.bfloat16), (model.to_fp16, jnp.float16), (model.to_fp32, jnp.float32)):
        cast = method(freeze(model.params), freeze(mask))
        assert type(cast) is type(freeze({}))
        assert cast["classifier"]["kernel"].dtype == dtype
        assert cast["classifier"]["bias"].dtype == jnp.float32


def test_parameters_of_a_base_model_are_put_into_one_with_a_head(folder, model, tmp_path):
    with pytest.warns(UserWarning, match="pooler.dense.bias"):
        base = FlaxViTModel.from_pretrained(folder)
    params = unfreeze(model.params)
    params["vit"] = base.params  # which has a pooler
    model.params = params
    assert model(IMAGES, params=params).logits.shape == (2, 5)
    with pytest.warns(UserWarning, match="holds vit.pooler.dense.weight, vit.pooler.dense.bias"):
        model.save_pretrained(tmp_path / "with pooler")


# Saving


def test_flaxs_own_file_is_written_for_programs_that_read_nothing_else(model, tmp_path):
    model.save_pretrained(tmp_path, safe_serialization=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "flax_model.msgpack"]
    assert set(read_weights(tmp_path / "flax_model.msgpack")) == {"/".join(path) for path in flatten_dict(model.params)}
    assert_same(load(tmp_path).params, model.params)
    model.save_pretrained(tmp_path)  # and what it replaces is gone
    assert_same(load(tmp_path, from_flax=True).params, model.params)
    model.save_pretrained(tmp_path / "shards", max_shard_size="20kB", safe_serialization=False)
    assert (tmp_path / "shards/flax_model.msgpack.index.json").exists()
    assert_same(load(tmp_path / "shards").params, model.params)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the Hub's client, of its own way
def test_a_saved_model_is_pushed(hub, model, tmp_path):
    model.save_pretrained(
        tmp_path / "saved", model.params, push_to_hub=True, repo_id="me/flax", token=TOKEN, use_temp_dir=False
    )
    assert_same(load("me/flax", cache_dir=tmp_path).params, model.params)
    model.push_to_hub("me/again", use_auth_token=TOKEN, commit_message="One more", safe_serialization=False)
    assert "flax_model.msgpack" in hub.repositories["me/again"].head()
