import json
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file

from vit_core.layouts import FLAX
from vit_core.position import resample_position_embeddings
from vit_core.stored_tensor import from_numpy
from vit_flax import (
    FlaxViTForImageClassification,
    FlaxViTForMaskedImageModeling,
    FlaxViTModel,
    ViTConfig,
    stack_layers,
    unstack_layers,
)
from vit_flax.initialization import initialized
from vit_flax.parameter_tree import flatten

SAVED = ["hf_vit_model", "hf_vit_classifier", "hf_vit_masked", "hf_vit_variant_no_qkv_bias_relu"]

both_ways = pytest.mark.parametrize("scan_layers", [False, True], ids=["unrolled", "scanned"])


@pytest.fixture
def classifier_folder(fixture_folder, tmp_path):
    folder = tmp_path / "classifier"
    shutil.copytree(fixture_folder / "hf_vit_classifier", folder)
    return folder


@pytest.fixture
def drawn(monkeypatch):
    """The paths of the parameters that are drawn at random."""
    paths = []

    def recorded(rows, layout, *arguments):
        paths.append("/".join(layout.path(rows[0])))
        return initialized(rows, layout, *arguments)

    monkeypatch.setattr("vit_flax.model.initialized", recorded)
    return paths


def weights_of(model, params=None):
    """A model's weights by canonical name, with canonical axes."""
    leaves, weights = flatten(model.params if params is None else params), {}
    for row in model.parameter_table():
        leaf = np.asarray(leaves[model.layout.path(row)])
        weights[row.name] = model.layout.to_canonical(row, leaf[row.layer] if model.layout.is_stacked(row) else leaf)
    return weights


def assert_same_weights(found, expected):
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name, strict=True)


def assert_trees_equal(found, expected):
    assert_same_weights(flatten(found), flatten(expected))


def stored_in(folder):
    return load_file(folder / "model.safetensors")


def files_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@both_ways
@pytest.mark.parametrize("name", SAVED)
def test_what_is_saved_is_byte_for_byte_what_transformers_saved(load, fixture_folder, tmp_path, name, scan_layers):
    model, _ = load(name, scan_layers=scan_layers)
    model.save_pretrained(tmp_path)
    for file in ("model.safetensors", "config.json"):
        written, reference = (tmp_path / file).read_bytes(), (fixture_folder / name / file).read_bytes()
        if file == "config.json":
            written, reference = json.loads(written), json.loads(reference)
            written.pop("label2id"), reference.pop("label2id")  # theirs is null where only id2label was given
        assert written == reference


@both_ways
def test_loading_draws_no_weights_at_random(load, drawn, scan_layers):
    for name in SAVED:
        load(name, scan_layers=scan_layers)
    assert drawn == []


@both_ways
def test_loaded_parameters_can_be_donated_and_their_file_stays_as_it_is(classifier_folder, scan_layers):
    before, stored = files_of(classifier_folder), stored_in(classifier_folder)
    model, other = (
        FlaxViTForImageClassification.from_pretrained(classifier_folder, scan_layers=scan_layers) for _ in range(2)
    )
    step = jax.jit(lambda params: jax.tree.map(lambda leaf: leaf + 1, params), donate_argnums=0)
    params = model.params
    for _ in range(2):
        params = step(params)
    twice = jax.tree.map(lambda array: array + np.float32(1) + np.float32(1), stored)
    assert_same_weights(weights_of(model, params), twice)
    assert_same_weights(weights_of(other), stored)
    assert files_of(classifier_folder) == before


@both_ways
def test_loaded_parameters_share_no_memory_with_what_they_are_read_from(classifier_folder, scan_layers):
    model = FlaxViTForImageClassification.from_pretrained(classifier_folder, scan_layers=scan_layers)
    stored = stored_in(classifier_folder)
    arrays = {name: in_a_line_of_the_cache(array) for name, array in stored.items()}
    tensors = {name: from_numpy(array) for name, array in arrays.items()}
    leaves = {path: model.tree.loaded(path, tensors, None, None) for path in model.tree.shapes}
    for array in arrays.values():
        array[...] = 7
    assert_same_weights(weights_of(model, unflatten_dict(leaves)), stored)


def in_a_line_of_the_cache(array):
    """A copy that begins where a line of the cache does, whose memory JAX would take for its own."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def test_weights_are_read_into_memory_if_asked(classifier_folder, monkeypatch):
    monkeypatch.setattr(np, "memmap", lambda *_: pytest.fail("the file was mapped"))
    assert FlaxViTForImageClassification.from_pretrained(classifier_folder, mmap=False).num_parameters() > 0


def test_a_model_can_be_saved_over_the_checkpoint_it_was_loaded_from(classifier_folder):
    model, before = FlaxViTForImageClassification.from_pretrained(classifier_folder), stored_in(classifier_folder)
    model.save_pretrained(classifier_folder)
    assert_same_weights(weights_of(model), before)
    assert_same_weights(stored_in(classifier_folder), before)


@both_ways
def test_a_save_that_fails_leaves_what_was_there(classifier_folder, monkeypatch, scan_layers):
    before = files_of(classifier_folder)
    model = FlaxViTForImageClassification.from_pretrained(
        classifier_folder, id2label={i: f"new {i}" for i in range(10)}, scan_layers=scan_layers
    )
    read = FLAX.to_canonical

    def fail_at_the_end(layout, row, array):
        if row.name == "classifier.bias":
            raise OSError("no more")
        return read(row, array)

    monkeypatch.setattr(type(FLAX), "to_canonical", fail_at_the_end)
    with pytest.raises(OSError, match="no more"):
        model.save_pretrained(classifier_folder)
    assert files_of(classifier_folder) == before


@pytest.mark.parametrize("frozen", [False, True])
@both_ways
def test_parameters_of_the_caller_are_saved_instead_of_the_models(load, tmp_path, scan_layers, frozen):
    model, _ = load("hf_vit_classifier", scan_layers=scan_layers)
    trained = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(1), model.params)  # numpy's arrays will do
    model.save_pretrained(tmp_path, params=freeze(trained) if frozen else trained)
    assert_same_weights(stored_in(tmp_path), weights_of(model, trained))


def test_a_model_without_parameters_saves_those_it_is_given(fixture_folder, tmp_path):
    folder = fixture_folder / "hf_vit_classifier"
    model, params = FlaxViTForImageClassification.from_pretrained(folder, _do_init=False)
    model.save_pretrained(tmp_path, params)
    assert (tmp_path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="made with _do_init=False and has no params"):
        model.save_pretrained(tmp_path)


WRONG = {
    r"classifier.bias has shape \(3,\), but model.config makes it \(10,\)": lambda params: {
        **params,
        "classifier": {**params["classifier"], "bias": np.zeros(3, "float32")},
    },
    "is of dtype int32, which checkpoints do not hold": lambda params: jax.tree.map(
        lambda leaf: leaf.astype("int32"), params
    ),
}


@pytest.mark.parametrize(("words", "change"), WRONG.items(), ids=range(len(WRONG)))
def test_parameters_that_are_not_the_models_are_refused_and_nothing_is_written(load, tmp_path, words, change):
    model, _ = load("hf_vit_classifier")
    with pytest.raises(ValueError, match=words):
        model.save_pretrained(tmp_path, params=change(model.params))
    assert list(tmp_path.iterdir()) == []


def test_parameters_that_are_no_tree_are_named(load, tmp_path):
    model, _ = load("hf_vit_classifier")
    with pytest.raises(TypeError, match="params are a list; pass a nested dict such as model.params"):
        model.save_pretrained(tmp_path, params=jax.tree.leaves(model.params))


def test_only_the_main_process_writes(load, tmp_path):
    model, _ = load("hf_vit_classifier")
    model.save_pretrained(tmp_path, is_main_process=False)
    assert list(tmp_path.iterdir()) == []


def test_pickled_weights_are_read(classifier_folder, fixture_folder):
    (classifier_folder / "model.safetensors").unlink()
    model = FlaxViTForImageClassification.from_pretrained(classifier_folder)
    assert_same_weights(weights_of(model), stored_in(fixture_folder / "hf_vit_classifier"))


def test_a_base_checkpoint_loads_into_models_with_a_head_and_back(fixture_folder, tmp_path, drawn):
    with pytest.warns(UserWarning, match=r"classifier.weight, classifier.bias were not in the checkpoint") as caught:
        classifier = FlaxViTForImageClassification.from_pretrained(fixture_folder / "hf_vit_model")
    assert len(caught) == 1
    assert "FlaxViTForImageClassification from" in str(caught[0].message)
    assert "pooler.dense.bias, pooler.dense.weight are in the checkpoint, but this model has no such" in str(
        caught[0].message
    )
    assert sorted(drawn) == ["classifier/bias", "classifier/kernel"]
    base = dict(FlaxViTModel.from_pretrained(fixture_folder / "hf_vit_model").params)
    del base["pooler"]
    assert_trees_equal(classifier.params["vit"], base)

    classifier.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="classifier.bias, classifier.weight are in the checkpoint"):
        back = FlaxViTModel.from_pretrained(tmp_path, add_pooling_layer=False)
    assert_trees_equal(back.params, base)
    with pytest.warns(UserWarning, match="vit.embeddings.mask_token, decoder.0.weight, decoder.0.bias were not"):
        FlaxViTForMaskedImageModeling.from_pretrained(tmp_path)


def test_missing_weights_start_as_the_table_says(fixture_folder):
    with pytest.warns(UserWarning, match="start at random, so train them before use"):
        model, info = FlaxViTForImageClassification.from_pretrained(
            fixture_folder / "hf_vit_model", num_labels=400, initializer_range=0.5, output_loading_info=True
        )
    assert info["missing_keys"] == ["classifier.weight", "classifier.bias"]
    assert sorted(info["unexpected_keys"]) == ["pooler.dense.bias", "pooler.dense.weight"]
    assert info["mismatched_keys"] == info["error_msgs"] == []
    assert 0.48 < np.std(model.params["classifier"]["kernel"]) < 0.52
    assert (np.asarray(model.params["classifier"]["bias"]) == 0).all()


@pytest.mark.filterwarnings("ignore:.*start at random")
def test_the_seed_decides_how_missing_weights_start(fixture_folder):
    def head(**options):
        model = FlaxViTForImageClassification.from_pretrained(fixture_folder / "hf_vit_model", **options)
        return np.asarray(model.params["classifier"]["kernel"])

    np.testing.assert_array_equal(head(), head(seed=0))
    assert (head(seed=1) != head()).all()


def test_what_is_missing_is_left_out_without_an_initialisation_and_made_by_init_weights(fixture_folder, drawn):
    with pytest.warns(UserWarning, match="classifier.weight, classifier.bias were not in the checkpoint"):
        model, params, info = FlaxViTForImageClassification.from_pretrained(
            fixture_folder / "hf_vit_model", _do_init=False, output_loading_info=True
        )
    assert drawn == []
    assert info["missing_keys"] == ["classifier.weight", "classifier.bias"]
    assert params.keys() == {"vit"}
    with pytest.raises(ValueError, match="made with _do_init=False and has no params"):
        _ = model.params
    with pytest.raises(ValueError, match="params lack classifier"):
        model(np.zeros((1, 3, 32, 32), "float32"), params=params)
    filled = model.init_weights(jax.random.key(3), params=params)
    assert sorted(drawn) == ["classifier/bias", "classifier/kernel"]
    assert {tuple(path) for path in flatten(filled)} == model.required_params
    assert_trees_equal(filled["vit"], params["vit"])


def test_a_shape_that_does_not_fit_is_named_with_both_shapes(fixture_folder):
    folder = fixture_folder / "hf_vit_classifier"
    with pytest.raises(ValueError, match=r"classifier.weight with shape \(10, 32\), but the config makes it \(3, 32\)"):
        FlaxViTForImageClassification.from_pretrained(folder, num_labels=3)
    with pytest.warns(UserWarning, match=r"classifier.weight \(10, 32\) -> \(3, 32\)"):
        model, info = FlaxViTForImageClassification.from_pretrained(
            folder, num_labels=3, ignore_mismatched_sizes=True, output_loading_info=True
        )
    assert model.params["classifier"]["kernel"].shape == (32, 3)
    assert [name for name, _, _ in info["mismatched_keys"]] == ["classifier.weight", "classifier.bias"]


@both_ways
def test_layers_that_the_checkpoint_lacks_start_at_random_and_the_others_are_kept(load, drawn, scan_layers):
    stored = weights_of(load("hf_vit_classifier")[0])
    with pytest.warns(UserWarning, match=r"vit.encoder.layer.3.*start at random"):
        deeper, _ = load("hf_vit_classifier", num_hidden_layers=4, initializer_range=0.5, scan_layers=scan_layers)
    found = weights_of(deeper)
    assert_same_weights({name: found[name] for name in stored}, stored)
    new = {name.removeprefix("vit.encoder.layer.3."): found[name] for name in found.keys() - stored.keys()}
    assert len(new) == 16
    assert 0.45 < new["intermediate.dense.weight"].std() < 0.55
    assert (new["layernorm_before.weight"] == 1).all()
    assert (new["output.dense.bias"] == 0).all()
    assert len(drawn) == 16
    assert all("encoder/layer/" in path for path in drawn)


@both_ways
def test_without_an_initialisation_layers_are_left_out_but_stacks_are_whole(load, scan_layers):
    options = {"num_hidden_layers": 4, "_do_init": False, "scan_layers": scan_layers}
    with pytest.warns(UserWarning, match=r"vit.encoder.layer.3.*start at random"):
        (_, params), _ = load("hf_vit_classifier", **options)
    layers = params["vit"]["encoder"]["layer"]
    if scan_layers:  # an array has no place for a layer that is not there
        assert {len(leaf) for leaf in jax.tree.leaves(layers)} == {4}
    else:
        assert layers.keys() == {"0", "1", "2"}


@both_ways
def test_layers_of_the_checkpoint_that_the_model_lacks_are_named(load, scan_layers):
    stored = weights_of(load("hf_vit_classifier")[0])
    with pytest.warns(UserWarning, match=r"vit.encoder.layer.2.*are in the checkpoint, but this model has no such"):
        model, _ = load("hf_vit_classifier", num_hidden_layers=2, scan_layers=scan_layers)
    expected = {name: array for name, array in stored.items() if ".layer.2." not in name}
    assert_same_weights(weights_of(model), expected)


def test_scanned_and_unrolled_models_load_each_others_checkpoints(load, tmp_path):
    unrolled, _ = load("hf_vit_classifier")
    scanned, _ = load("hf_vit_classifier", scan_layers=True)
    assert_trees_equal(scanned.params, stack_layers(unrolled.params))
    assert_trees_equal(unrolled.params, unstack_layers(scanned.params))
    for name, model in {"unrolled": unrolled, "scanned": scanned}.items():
        model.save_pretrained(tmp_path / name)
        model.save_pretrained(tmp_path / f"{name}_shards", max_shard_size="50KB")
    assert files_of(tmp_path / "unrolled") == files_of(tmp_path / "scanned")
    assert files_of(tmp_path / "unrolled_shards") == files_of(tmp_path / "scanned_shards")
    for written in ("scanned", "scanned_shards"):
        again = FlaxViTForImageClassification.from_pretrained(tmp_path / written)
        assert_trees_equal(again.params, unrolled.params)
    again = FlaxViTForImageClassification.from_pretrained(tmp_path / "unrolled", scan_layers=True)
    assert_trees_equal(again.params, scanned.params)


@pytest.mark.parametrize("image_size", [48, (24, 56)])
def test_position_embeddings_are_resampled_when_image_size_is_overridden(load, image_size):
    model, _ = load("hf_vit_classifier")
    larger, _ = load("hf_vit_classifier", image_size=image_size)
    grid = larger.config.grid
    original = np.asarray(model.params["vit"]["embeddings"]["position_embeddings"])
    resampled = resample_position_embeddings(original, (4, 4), grid)
    np.testing.assert_array_equal(larger.params["vit"]["embeddings"]["position_embeddings"], resampled)
    pixel_values = np.random.default_rng(0).standard_normal((1, 3, grid[0] * 8, grid[1] * 8)).astype("float32")
    interpolated = jax.jit(lambda images: model(images, interpolate_pos_encoding=True).logits)(pixel_values)
    logits = jax.jit(lambda images: larger(images).logits)(pixel_values)
    np.testing.assert_allclose(logits, interpolated, atol=1e-5, rtol=0)


def test_a_config_of_the_caller_replaces_the_checkpoints(fixture_folder, tmp_path):
    folder = fixture_folder / "hf_vit_classifier"
    config = ViTConfig.from_pretrained(folder)
    config.hidden_act = "relu"
    config.save_pretrained(tmp_path)
    for given in (config, tmp_path, str(tmp_path)):
        model = FlaxViTForImageClassification.from_pretrained(folder, config=given)
        assert model.config.hidden_act == model.module.config.hidden_act == "relu"
        assert model.config is not config


def test_weights_without_a_config_need_what_they_do_not_tell(classifier_folder):
    config = ViTConfig.from_pretrained(classifier_folder)
    (classifier_folder / "config.json").unlink()
    with pytest.raises(ValueError, match="does not tell the number of .* heads.* give it as num_attention_heads"):
        FlaxViTForImageClassification.from_pretrained(classifier_folder)
    model = FlaxViTForImageClassification.from_pretrained(classifier_folder, config=config)
    assert_same_weights(weights_of(model), stored_in(classifier_folder))


def test_options_of_transformers_that_are_needless_are_accepted(fixture_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = FlaxViTForImageClassification.from_pretrained(
            fixture_folder / "hf_vit_classifier", from_pt=True, use_safetensors=True, attn_implementation="eager"
        )
    assert model.config.attn_implementation == "eager"


def test_an_option_that_does_not_exist_is_named(fixture_folder):
    with pytest.raises(TypeError, match="no option 'num_lables'"):
        FlaxViTForImageClassification.from_pretrained(fixture_folder / "hf_vit_classifier", num_lables=3)


def test_options_of_the_module_are_options(load):
    model, _ = load("hf_vit_classifier", scan_layers=True, remat="dots_saveable", input_shape=(2, 32, 32, 3))
    assert (model.module.scan_layers, model.module.remat, model.input_shape) == (True, "dots_saveable", (2, 32, 32, 3))
    with pytest.warns(UserWarning, match="pooler.dense.bias, pooler.dense.weight are in the checkpoint"):
        without, _ = load("hf_vit_model", add_pooling_layer=False)
    assert "pooler" not in without.params
    with pytest.warns(UserWarning, match="embeddings.mask_token were not in the checkpoint"):
        masked, _ = load("hf_vit_model", use_mask_token=True)
    assert masked.params["embeddings"]["mask_token"].shape == (1, 1, 32)


@pytest.mark.parametrize("dtype", ["bfloat16", "torch.bfloat16", jnp.bfloat16, np.dtype("bfloat16")])
def test_dtype_is_what_the_model_computes_in_and_parameters_stay_in_float32(fixture_folder, dtype):
    folder = fixture_folder / "hf_vit_classifier"
    for arguments, options in [((dtype,), {}), ((), {"dtype": dtype}), ((), {"torch_dtype": dtype})]:
        model = FlaxViTForImageClassification.from_pretrained(folder, *arguments, **options)
        assert model.dtype == model.module.dtype == jnp.bfloat16
        assert_same_weights(weights_of(model), stored_in(folder))


@both_ways
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_parameters_survive_a_checkpoint(load, tmp_path, dtype, scan_layers):
    name = jnp.dtype(dtype).name
    model, _ = load("hf_vit_classifier", param_dtype=dtype, scan_layers=scan_layers)
    exact, _ = load("hf_vit_classifier")
    rounded = {name: array.astype(dtype) for name, array in weights_of(exact).items()}
    assert model.dtype == jnp.float32
    assert_same_weights(weights_of(model), rounded)

    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == name
    again = FlaxViTForImageClassification.from_pretrained(tmp_path, dtype="auto", param_dtype=dtype)
    assert again.dtype == dtype
    assert_same_weights(weights_of(again), rounded)
    kept = FlaxViTForImageClassification.from_pretrained(tmp_path, torch_dtype="auto", scan_layers=scan_layers)
    assert kept.dtype == dtype
    assert_same_weights(weights_of(kept), rounded)
    with pytest.warns(UserWarning, match=f"weights are stored in {name} and stay so; param_dtype=jnp.float32 loads"):
        kept = FlaxViTForImageClassification.from_pretrained(tmp_path, scan_layers=scan_layers)
    assert kept.dtype == jnp.float32
    assert_same_weights(weights_of(kept), rounded)
    widened = FlaxViTForImageClassification.from_pretrained(tmp_path, param_dtype=jnp.float32, scan_layers=scan_layers)
    assert_same_weights(weights_of(widened), {name: array.astype("float32") for name, array in rounded.items()})

    exact.save_pretrained(
        tmp_path / "cast", params=(exact.to_bf16 if name == "bfloat16" else exact.to_fp16)(exact.params)
    )
    written = (tmp_path / "cast" / "model.safetensors").read_bytes()
    assert written == (tmp_path / "model.safetensors").read_bytes()


def test_what_the_checkpoint_lacks_is_made_in_the_dtype_of_the_parameters(load):
    with pytest.warns(UserWarning, match=r"vit.encoder.layer.3.*start at random"):
        model, _ = load("hf_vit_classifier", num_hidden_layers=4, scan_layers=True, param_dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("option", ["dtype", "param_dtype"])
@pytest.mark.parametrize("dtype", ["int8", "float12", jnp.int64, "nn"])
def test_a_dtype_that_is_none_is_named(fixture_folder, option, dtype):
    with pytest.raises(ValueError, match=rf"^{option} is .*; choose a floating-point type"):
        FlaxViTForImageClassification.from_pretrained(fixture_folder / "hf_vit_classifier", **{option: dtype})


@pytest.mark.parametrize("option", ["dtype", "param_dtype"])
def test_float64_needs_jax_to_be_told(fixture_folder, option):
    with pytest.raises(ValueError, match=f"{option} is float64, which JAX leaves out; call jax.config.update"):
        FlaxViTForImageClassification.from_pretrained(fixture_folder / "hf_vit_classifier", **{option: "float64"})


def test_shards_are_written_and_read(load, tmp_path):
    model, _ = load("hf_vit_classifier")
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) == 3
    assert_trees_equal(FlaxViTForImageClassification.from_pretrained(tmp_path).params, model.params)
    model.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_pruned_heads_are_restored_but_cannot_be_scanned(tiny_config, tmp_path):
    tiny_config.pruned_heads = {0: [1, 3]}
    model = FlaxViTForImageClassification(tiny_config)
    assert model.params["vit"]["encoder"]["layer"]["0"]["attention"]["attention"]["query"]["kernel"].shape == (32, 16)
    model.save_pretrained(tmp_path)
    loaded = FlaxViTForImageClassification.from_pretrained(tmp_path)
    assert loaded.config.pruned_heads == {0: [1, 3]}
    assert_trees_equal(loaded.params, model.params)
    with pytest.raises(ValueError, match="scan_layers=True needs layers of one shape, but the config has pruned_heads"):
        FlaxViTForImageClassification.from_pretrained(tmp_path, scan_layers=True)
