import json
import shutil
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

import vit_tf.pretrained
from vit_core.layouts import KERAS
from vit_core.position import resample_position_embeddings
from vit_tf import TFViTForImageClassification, TFViTForMaskedImageModeling, TFViTModel, ViTConfig

SAVED = ["hf_vit_model", "hf_vit_classifier", "hf_vit_masked", "hf_vit_variant_no_qkv_bias_relu"]


@pytest.fixture
def classifier_folder(fixture_folder, tmp_path):
    folder = tmp_path / "classifier"
    shutil.copytree(fixture_folder / "hf_vit_classifier", folder)
    return folder


@pytest.fixture
def drawn(monkeypatch):
    """The shapes of the weights that are drawn at random."""
    shapes, draw = [], vit_tf.initialization.truncated_normal

    def recorded(shape, std):
        shapes.append(tuple(shape))
        return draw(shape, std)

    monkeypatch.setattr(vit_tf.initialization, "truncated_normal", recorded)
    return shapes


def weights_of(model):
    return {row.name: KERAS.to_canonical(row, np.asarray(model.get_parameter(row))) for row in model.parameter_table()}


def assert_same_weights(model, folder_or_weights):
    weights = (
        folder_or_weights if isinstance(folder_or_weights, dict) else load_file(folder_or_weights / "model.safetensors")
    )
    assert weights.keys() == weights_of(model).keys()
    for name, array in weights_of(model).items():
        np.testing.assert_array_equal(array, weights[name], err_msg=name, strict=True)


@pytest.mark.parametrize("name", SAVED)
def test_what_is_saved_is_byte_for_byte_what_transformers_saved(load, fixture_folder, tmp_path, name):
    model, _ = load(name)
    model.save_pretrained(tmp_path)
    for file in ("model.safetensors", "config.json"):
        written, reference = (tmp_path / file).read_bytes(), (fixture_folder / name / file).read_bytes()
        if file == "config.json":
            written, reference = json.loads(written), json.loads(reference)
            written.pop("label2id"), reference.pop("label2id")  # theirs is null where only id2label was given
        assert written == reference


def test_loading_draws_no_weights_at_random(load, drawn):
    for name in SAVED:
        load(name)
    assert drawn == []


def test_training_a_loaded_model_leaves_its_file_alone(classifier_folder):
    before = (classifier_folder / "model.safetensors").read_bytes()
    model = TFViTForImageClassification.from_pretrained(classifier_folder)
    assert len(model.trainable_variables) == len(model.parameter_table())
    for variable in model.trainable_variables:
        variable.assign_add(tf.ones(variable.shape))
    assert (classifier_folder / "model.safetensors").read_bytes() == before


def test_weights_are_read_into_memory_if_asked(classifier_folder, monkeypatch):
    monkeypatch.setattr(np, "memmap", lambda *_: pytest.fail("the file was mapped"))
    assert TFViTForImageClassification.from_pretrained(classifier_folder, mmap=False).num_parameters() > 0


def test_a_model_can_be_saved_over_the_checkpoint_it_was_loaded_from(classifier_folder):
    model = TFViTForImageClassification.from_pretrained(classifier_folder)
    before = weights_of(model)
    model.save_pretrained(classifier_folder)
    assert_same_weights(model, before)
    assert_same_weights(model, classifier_folder)


def test_a_save_that_fails_leaves_what_was_there(classifier_folder, monkeypatch):
    before = {file.name: file.read_bytes() for file in classifier_folder.iterdir()}
    model = TFViTForImageClassification.from_pretrained(classifier_folder, id2label={i: f"new {i}" for i in range(10)})
    read = KERAS.to_canonical

    def fail_at_the_end(layout, row, array):
        if row.name == "classifier.bias":
            raise OSError("no more")
        return read(row, array)

    monkeypatch.setattr(type(KERAS), "to_canonical", fail_at_the_end)
    with pytest.raises(OSError, match="no more"):
        model.save_pretrained(classifier_folder)
    assert {file.name: file.read_bytes() for file in classifier_folder.iterdir()} == before


def test_only_the_main_process_writes(tiny_config, tmp_path):
    TFViTForImageClassification(tiny_config).save_pretrained(tmp_path, is_main_process=False)
    assert list(tmp_path.iterdir()) == []


def test_pickled_weights_are_read(classifier_folder, fixture_folder):
    (classifier_folder / "model.safetensors").unlink()
    model = TFViTForImageClassification.from_pretrained(classifier_folder)
    assert_same_weights(model, fixture_folder / "hf_vit_classifier")


def test_a_base_checkpoint_loads_into_models_with_a_head_and_back(fixture_folder, tmp_path, drawn):
    with pytest.warns(UserWarning, match=r"classifier.weight, classifier.bias were not in the checkpoint") as caught:
        classifier = TFViTForImageClassification.from_pretrained(fixture_folder / "hf_vit_model")
    assert len(caught) == 1
    assert "TFViTForImageClassification from" in str(caught[0].message)
    assert "pooler.dense.bias, pooler.dense.weight are in the checkpoint, but this model has no such" in str(
        caught[0].message
    )
    assert drawn == [classifier.classifier.kernel.shape]
    base = weights_of(TFViTModel.from_pretrained(fixture_folder / "hf_vit_model"))
    for name, array in weights_of(classifier.vit).items():
        np.testing.assert_array_equal(array, base[name], err_msg=name)

    classifier.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="classifier.bias, classifier.weight are in the checkpoint"):
        back = TFViTModel.from_pretrained(tmp_path, add_pooling_layer=False)
    assert_same_weights(back, weights_of(classifier.vit))
    with pytest.warns(UserWarning, match="vit.embeddings.mask_token, decoder.0.weight, decoder.0.bias were not"):
        TFViTForMaskedImageModeling.from_pretrained(tmp_path)


def test_missing_weights_start_as_the_table_says(fixture_folder):
    with pytest.warns(UserWarning, match="start at random, so train them before use"):
        model, info = TFViTForImageClassification.from_pretrained(
            fixture_folder / "hf_vit_model", num_labels=400, initializer_range=0.5, output_loading_info=True
        )
    assert info["missing_keys"] == ["classifier.weight", "classifier.bias"]
    assert sorted(info["unexpected_keys"]) == ["pooler.dense.bias", "pooler.dense.weight"]
    assert info["mismatched_keys"] == info["error_msgs"] == []
    assert 0.48 < np.std(model.classifier.kernel) < 0.52
    assert (np.asarray(model.classifier.bias) == 0).all()


def test_a_shape_that_does_not_fit_is_named_with_both_shapes(fixture_folder):
    folder = fixture_folder / "hf_vit_classifier"
    with pytest.raises(ValueError, match=r"classifier.weight with shape \(10, 32\), but the config makes it \(3, 32\)"):
        TFViTForImageClassification.from_pretrained(folder, num_labels=3)
    with pytest.warns(UserWarning, match=r"classifier.weight \(10, 32\) -> \(3, 32\)"):
        model, info = TFViTForImageClassification.from_pretrained(
            folder, num_labels=3, ignore_mismatched_sizes=True, output_loading_info=True
        )
    assert model(np.zeros((1, 3, 32, 32), "float32")).logits.shape == (1, 3)
    assert [name for name, _, _ in info["mismatched_keys"]] == ["classifier.weight", "classifier.bias"]


@pytest.mark.parametrize("image_size", [48, (24, 56)])
def test_position_embeddings_are_resampled_when_image_size_is_overridden(load, image_size):
    model, _ = load("hf_vit_classifier")
    larger, _ = load("hf_vit_classifier", image_size=image_size)
    grid = larger.config.grid
    original = np.asarray(model.vit.embeddings.position_embeddings)
    resampled = resample_position_embeddings(original, (4, 4), grid)
    np.testing.assert_array_equal(larger.vit.embeddings.position_embeddings, resampled)
    pixel_values = np.random.default_rng(0).standard_normal((1, 3, grid[0] * 8, grid[1] * 8)).astype("float32")
    interpolated = model(pixel_values, interpolate_pos_encoding=True).logits
    np.testing.assert_allclose(larger(pixel_values).logits, interpolated, atol=1e-5, rtol=0)


def test_a_config_of_the_caller_replaces_the_checkpoints(fixture_folder, tmp_path):
    folder = fixture_folder / "hf_vit_classifier"
    config = ViTConfig.from_pretrained(folder)
    config.hidden_act = "relu"
    config.save_pretrained(tmp_path)
    for given in (config, tmp_path, str(tmp_path)):
        model = TFViTForImageClassification.from_pretrained(folder, config=given)
        assert model.config.hidden_act == "relu"
        assert model.config is not config


def test_weights_without_a_config_need_what_they_do_not_tell(classifier_folder):
    config = ViTConfig.from_pretrained(classifier_folder)
    (classifier_folder / "config.json").unlink()
    with pytest.raises(ValueError, match="does not tell the number of .* heads.* give it as num_attention_heads"):
        TFViTForImageClassification.from_pretrained(classifier_folder)
    model = TFViTForImageClassification.from_pretrained(classifier_folder, config=config)
    assert_same_weights(model, classifier_folder)


def test_options_of_transformers_that_are_needless_are_accepted(fixture_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TFViTForImageClassification.from_pretrained(
            fixture_folder / "hf_vit_classifier", from_pt=True, use_safetensors=True, attn_implementation="eager"
        )


def test_an_option_that_does_not_exist_is_named(fixture_folder):
    with pytest.raises(TypeError, match="no option 'num_lables'"):
        TFViTForImageClassification.from_pretrained(fixture_folder / "hf_vit_classifier", num_lables=3)


def test_arguments_of_the_constructor_are_options(load, fixture_folder):
    model, expected = load("hf_vit_model")
    pooled = model(expected["pixel_values"]).pooler_output
    options = {"data_format": "channels_last", "name": "mine", "trainable": False, "use_mask_token": False}
    last = TFViTModel.from_pretrained(fixture_folder / "hf_vit_model", **options)
    assert (last.name, last.data_format, last.trainable_variables) == ("mine", "channels_last", [])
    np.testing.assert_allclose(
        last(expected["pixel_values"].transpose(0, 2, 3, 1)).pooler_output, pooled, atol=1e-5, rtol=0
    )
    with pytest.warns(UserWarning, match="pooler.dense.bias, pooler.dense.weight are in the checkpoint"):
        without, _ = load("hf_vit_model", add_pooling_layer=False)
    assert without(expected["pixel_values"]).pooler_output is None
    with pytest.warns(UserWarning, match="embeddings.mask_token were not in the checkpoint"):
        load("hf_vit_model", use_mask_token=True)
    with pytest.raises(ValueError, match="data_format is 'channels_middle'"):
        load("hf_vit_model", data_format="channels_middle")


@pytest.mark.parametrize("option", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("dtype", ["bfloat16", "torch.bfloat16", tf.bfloat16, keras.DTypePolicy("bfloat16")])
def test_dtype_converts_every_weight(load, option, dtype):
    model, _ = load("hf_vit_classifier", **{option: dtype})
    assert {model.get_parameter(row).dtype for row in model.parameter_table()} == {"bfloat16"}


def test_a_mixed_policy_keeps_weights_in_float32(load, fixture_folder):
    model, _ = load("hf_vit_classifier", dtype="mixed_bfloat16")
    assert_same_weights(model, fixture_folder / "hf_vit_classifier")
    assert (model.compute_dtype, model.variable_dtype) == ("bfloat16", "float32")


def test_half_precision_survives_a_checkpoint(load, tmp_path):
    for dtype in ("bfloat16", "float16"):
        model, _ = load("hf_vit_classifier", dtype=dtype)
        model.save_pretrained(tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == dtype
        again = TFViTForImageClassification.from_pretrained(tmp_path, dtype="auto")
        assert again.variable_dtype == dtype
        assert_same_weights(again, weights_of(model))
        assert TFViTForImageClassification.from_pretrained(tmp_path).variable_dtype == "float32"


@pytest.mark.parametrize("dtype", ["int8", "float12", tf.int64, "nn"])
def test_a_dtype_that_is_none_is_named(fixture_folder, dtype):
    with pytest.raises(ValueError, match="choose a floating-point type"):
        TFViTForImageClassification.from_pretrained(fixture_folder / "hf_vit_classifier", dtype=dtype)


def test_shards_are_written_and_read(load, tmp_path):
    model, _ = load("hf_vit_classifier")
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) == 3
    assert_same_weights(TFViTForImageClassification.from_pretrained(tmp_path), weights_of(model))
    model.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_pruned_heads_are_restored(tiny_config, tmp_path):
    tiny_config.pruned_heads = {0: [1, 3]}
    model = TFViTForImageClassification(tiny_config)
    assert model.vit.encoder.layer[0].attention.attention.query.kernel.shape == (32, 16)
    model.save_pretrained(tmp_path)
    loaded = TFViTForImageClassification.from_pretrained(tmp_path)
    assert loaded.config.pruned_heads == {0: [1, 3]}
    assert_same_weights(loaded, tmp_path)
    assert_same_weights(loaded, weights_of(model))


def test_get_config_is_json_and_builds_the_model_again(tiny_config):
    model = TFViTModel(tiny_config, dtype="mixed_bfloat16", data_format="channels_last", name="mine")
    again = TFViTModel.from_config(json.loads(json.dumps(model.get_config())))
    assert again.config == model.config
    assert (again.name, again.data_format, again.compute_dtype) == ("mine", "channels_last", "bfloat16")
    assert again.parameter_table() == model.parameter_table()
