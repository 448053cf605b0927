"""Keras' own files, .keras and .weights.h5."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import conversion
import vit_tf
from vit_core.layouts import KERAS
from vit_tf import TFViTForImageClassification, TFViTForMaskedImageModeling, TFViTModel

IMAGES = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype("float32")
LABELS = np.array([0, 4, 2, 1])
MODELS = {
    "base": (TFViTModel, {}),
    "base with a mask token": (TFViTModel, {"add_pooling_layer": False, "use_mask_token": True}),
    "classifier": (TFViTForImageClassification, {}),
    "masked": (TFViTForMaskedImageModeling, {}),
}

# Keras itself, when it writes variables.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def saved_and_loaded(model, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


def assert_same_outputs(model, other, **inputs):
    for tensor, expected in zip(model(IMAGES, **inputs), other(IMAGES, **inputs), strict=True):
        np.testing.assert_array_equal(tensor, expected)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_a_keras_file_holds_the_whole_model(tiny_config, tmp_path, kind, data_format):
    tiny_config.id2label = {number: f"class {number}" for number in range(5)}
    model_class, options = MODELS[kind]
    model = model_class(tiny_config, data_format=data_format, name="mine", dtype="mixed_bfloat16", **options)
    loaded = saved_and_loaded(model, tmp_path)
    assert type(loaded) is model_class
    assert loaded.config.to_dict() == model.config.to_dict()
    assert loaded.config.id2label == {number: f"class {number}" for number in range(5)}
    assert (loaded.name, loaded.data_format, loaded.dtype_policy) == ("mine", data_format, model.dtype_policy)
    assert [variable.path for variable in loaded.variables] == [variable.path for variable in model.variables]
    images = IMAGES if data_format == "channels_first" else IMAGES.transpose(0, 2, 3, 1)
    for tensor, expected in zip(loaded(images), model(images), strict=True):
        np.testing.assert_array_equal(tensor, expected)


def test_pruned_heads_and_other_settings_survive(one_layer, tmp_path):
    one_layer.pruned_heads = {0: [1, 2]}
    one_layer.hidden_act, one_layer.image_size = "quick_gelu", (32, 32)
    model = TFViTForImageClassification(one_layer)
    loaded = saved_and_loaded(model, tmp_path)
    assert loaded.config.pruned_heads == {0: [1, 2]}
    assert_same_outputs(loaded, model)


@pytest.mark.parametrize("kind", MODELS)
def test_a_weights_file_fills_a_model_of_the_same_config(tiny_config, tmp_path, kind):
    model_class, options = MODELS[kind]
    model, other = model_class(tiny_config, **options), model_class(tiny_config, **options)
    assert not np.array_equal(model(IMAGES)[0], other(IMAGES)[0])
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same_outputs(other, model)


def test_training_goes_on_where_the_file_left_it(one_layer, tmp_path):
    model = TFViTForImageClassification(one_layer)
    optimizer, accuracy = keras.optimizers.SGD(0.05, momentum=0.9), keras.metrics.SparseCategoricalAccuracy("accuracy")
    model.compile(optimizer, metrics=[accuracy])
    model.fit(IMAGES, LABELS, batch_size=2, shuffle=False, verbose=0)
    loaded = saved_and_loaded(model, tmp_path)
    assert loaded.optimizer.iterations == 2
    for variable, expected in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(variable, expected)
    histories = [each.fit(IMAGES, LABELS, batch_size=2, shuffle=False, verbose=0).history for each in (model, loaded)]
    assert histories[1]["loss"] == pytest.approx(histories[0]["loss"], abs=1e-6)
    assert histories[1]["accuracy"] == histories[0]["accuracy"]
    for variable, expected in zip(loaded.variables, model.variables, strict=True):
        np.testing.assert_allclose(variable, expected, atol=1e-6, rtol=0, err_msg=variable.path)


def test_a_functional_model_may_hold_one(one_layer, tmp_path):
    backbone = TFViTModel(one_layer)
    images = keras.Input((3, 32, 32))
    hidden = backbone(images, output_hidden_states=True)
    outputs = keras.layers.Dense(3)(keras.layers.Concatenate()([hidden.pooler_output, hidden.hidden_states[1][:, 0]]))
    model = keras.Model(images, outputs)
    loaded = saved_and_loaded(model, tmp_path)
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))
    model.save_weights(tmp_path / "model.weights.h5")
    loaded.set_weights([np.zeros_like(array) for array in loaded.get_weights()])
    loaded.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))


def test_what_is_frozen_stays_frozen_and_checkpointing_stays_on(tiny_config, tmp_path):
    model = TFViTForImageClassification(tiny_config)
    model.vit.trainable = False
    model.vit.encoder.layer[1].trainable = True
    model.vit.encoder.layer[1].intermediate.dense.trainable = False
    model.gradient_checkpointing_enable()
    model.compile("adam")
    model.fit(IMAGES, LABELS, verbose=0)
    loaded = saved_and_loaded(model, tmp_path)
    assert loaded.is_gradient_checkpointing
    assert [each.path for each in loaded.trainable_variables] == [each.path for each in model.trainable_variables]
    for one, other in zip(loaded.vit.encoder.layer, model.vit.encoder.layer, strict=True):
        assert [each.path for each in one.trainable_variables] == [each.path for each in other.trainable_variables]
    assert loaded.optimizer.iterations == 1
    before = [variable.numpy() for variable in loaded.vit.embeddings.variables]
    loaded.fit(IMAGES, LABELS, verbose=0)
    for variable, array in zip(loaded.vit.embeddings.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), array)


def test_what_lora_learnt_comes_back_as_a_part_of_the_weights(one_layer, tmp_path):
    model = TFViTForImageClassification(one_layer)
    query = model.vit.encoder.layer[0].attention.attention.query
    query.enable_lora(2)
    query.lora_kernel_b.assign(np.ones(query.lora_kernel_b.shape))
    loaded = saved_and_loaded(model, tmp_path)
    other = loaded.vit.encoder.layer[0].attention.attention.query
    np.testing.assert_allclose(other.kernel, query.kernel, atol=1e-6, rtol=0)
    np.testing.assert_allclose(loaded(IMAGES).logits, model(IMAGES).logits, atol=1e-5, rtol=0)
    assert not other.lora_enabled
    assert other.kernel.trainable
    other.enable_lora(2)  # so that it can go on


def test_quantization_is_part_of_the_file(one_layer, tmp_path):
    model = TFViTForImageClassification(one_layer)
    model.quantize("int8")
    loaded = saved_and_loaded(model, tmp_path)
    assert loaded.classifier.quantization_mode == "int8"
    assert [(each.path, each.dtype) for each in loaded.variables] == [
        (each.path, each.dtype) for each in model.variables
    ]
    assert_same_outputs(loaded, model)


def test_a_new_process_needs_nothing_but_the_import(one_layer, tmp_path):
    model = TFViTForImageClassification(one_layer)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", IMAGES)
    script = """if True:
        import sys
        import numpy as np
        import vit_tf
        import keras
        folder = sys.argv[1]
        model = keras.saving.load_model(folder + "/model.keras")
        np.save(folder + "/logits.npy", model.predict(np.load(folder + "/images.npy"), verbose=0).logits)
    """
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), model(IMAGES).logits, atol=1e-5, rtol=0)


RELATIVES = {
    "DeiTModel": "hf_deit",
    "DeiTForImageClassificationWithTeacher": "hf_deit",
    "DeiTForMaskedImageModeling": "hf_deit_masked",
    "ViTMAEForPreTraining": "hf_vit_mae",
    "BeitForImageClassification": "hf_beit_grads",
    "BeitForMaskedImageModeling": "hf_beit_masked_grads",
    "IJepaForImageClassification": "hf_ijepa",
}


@pytest.mark.filterwarnings("ignore:TFDeiTModel from .*:UserWarning")  # of the heads, and of the pooler
@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
@pytest.mark.parametrize("name", RELATIVES)
def test_a_keras_file_of_a_relative_is_its_checkpoint(name, file, fixture_folder, tmp_path):
    source = fixture_folder / RELATIVES[name]
    model = getattr(vit_tf, name).from_pretrained(source)
    (model.save if file == "model.keras" else model.save_weights)(tmp_path / file)
    heads = {} if file == "model.keras" else {"num_attention_heads": 4, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}
    heads |= {"decoder_num_attention_heads": 2} if heads and "MAE" in name else {}
    found = conversion.load(tmp_path / file, **heads)
    expected = {row.name: np.asarray(model.get_parameter(row).value) for row in model.parameter_table()}
    assert type(found.config) is type(model.config)
    assert found.tensors.keys() == expected.keys()
    for row in model.parameter_table():
        np.testing.assert_array_equal(found.tensors[row.name].numpy(), KERAS.to_canonical(row, expected[row.name]))
