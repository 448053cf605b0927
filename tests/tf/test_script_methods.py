"""What scripts for transformers 4 ask of a model, its options, Auto classes and serving."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_core import ViTConfig
from vit_tf import (
    AutoConfig,
    TFAutoModel,
    TFAutoModelForImageClassification,
    TFAutoModelForMaskedImageModeling,
    TFViTForImageClassification,
    TFViTForMaskedImageModeling,
    TFViTModel,
)

IMAGES = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0])
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture
def classifier(one_layer):
    return TFViTForImageClassification(one_layer)


@pytest.fixture
def folder(classifier, tmp_path):
    classifier.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_the_facts_that_scripts_ask_for(folder, one_layer):
    model = TFViTForImageClassification.from_pretrained(pretrained_model_name_or_path=folder)
    assert (model.num_labels, model.name_or_path, model.framework) == (one_layer.num_labels, str(folder), "tf")
    assert (model.base_model_prefix, model.main_input_name, model.config_class) == ("vit", "pixel_values", ViTConfig)
    assert (model.can_generate(), model.get_output_embeddings(), model.get_lm_head(), model.get_bias()) == (
        False,
        None,
        None,
        None,
    )
    assert model.dummy_inputs["pixel_values"].shape == (3, 3, 32, 32)
    assert model.input_signature["pixel_values"].shape == (None, 3, 32, 32)
    assert isinstance(model.get_input_embeddings(), keras.layers.Layer)
    assert model.get_memory_footprint() == 4 * model.num_parameters()
    assert model.get_head_mask(None, 2) == [None, None]
    assert model.get_head_mask(np.ones(4, np.float32), 2).shape == (2, 4)


@pytest.mark.parametrize(
    ("method", "words"),
    [("prune_heads", "load the model in vit_torch"), ("resize_token_embeddings", "no vocabulary")],
)
def test_what_cannot_be_says_so(classifier, method, words):
    with pytest.raises(ValueError, match=words):
        getattr(classifier, method)({0: [0]})


@pytest.mark.parametrize(
    "options",
    [
        {"use_auth_token": "secret"},
        {"subfolder": None, "revision": None, "proxies": None, "mirror": None},
        {"from_pt": True},
        {"use_safetensors": True},
        {"torch_dtype": "float32"},
        {"finetuning_task": "cifar10"},
        {"name": "my_vit"},
        {"_commit_hash": None, "trust_remote_code": True},
    ],
)
def test_options_of_transformers_are_taken_and_none_is_written(folder, tmp_path, options):
    model = TFViTForImageClassification.from_pretrained(folder, **options)
    model.save_pretrained(save_directory=tmp_path / "again")
    written = json.loads((tmp_path / "again/config.json").read_text())
    assert "secret" not in json.dumps(written)
    assert set(written) - {"finetuning_task"} == set(json.loads((folder / "config.json").read_text()))


def test_torchscript_returns_tuples(folder):
    assert isinstance(TFViTForImageClassification.from_pretrained(folder, torchscript=True)(IMAGES), tuple)


def test_arguments_by_position(one_layer, tmp_path):
    TFViTModel(one_layer, add_pooling_layer=False).save_pretrained(tmp_path)
    assert TFViTModel.from_pretrained(tmp_path, False).pooler is None


def test_a_model_of_a_config(one_layer):
    for model in (TFViTModel.from_config(one_layer), TFViTModel._from_config(one_layer)):
        assert type(model) is TFViTModel
        assert model.config == one_layer
        assert model.config is not one_layer


def test_auto_classes_find_the_model(folder, one_layer):
    assert type(AutoConfig.from_pretrained(folder)) is ViTConfig
    assert type(TFAutoModelForImageClassification.from_pretrained(folder)) is TFViTForImageClassification
    assert type(TFAutoModel.from_config(one_layer)) is TFViTModel
    assert type(TFAutoModelForMaskedImageModeling.from_config(one_layer)) is TFViTForMaskedImageModeling
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="the model type is 'bert'"):
        TFAutoModel.from_pretrained(folder)


# Labels and losses


@pytest.mark.parametrize(
    ("loss", "batch"),
    [
        (None, lambda: ({"pixel_values": IMAGES, "labels": LABELS},)),
        (None, lambda: (tf.data.Dataset.from_tensor_slices((IMAGES, {"labels": LABELS})).batch(2),)),
        (
            "passthrough",
            lambda: (tf.data.Dataset.from_tensor_slices({"pixel_values": IMAGES, "labels": LABELS}).batch(2),),
        ),
        (CROSS_ENTROPY, lambda: (IMAGES, {"labels": LABELS})),
        (CROSS_ENTROPY, lambda: ({"pixel_values": IMAGES}, {"labels": LABELS})),
        (CROSS_ENTROPY, lambda: (tf.data.Dataset.from_tensor_slices((IMAGES, {"labels": LABELS})).batch(2),)),
    ],
)
def test_labels_come_in_every_form(classifier, loss, batch):
    classifier.compile("sgd", loss=loss, jit_compile=False)
    found = classifier.evaluate(*batch(), verbose=0)
    assert found == pytest.approx(float(classifier(IMAGES, labels=LABELS).loss), abs=1e-5)
    classifier.fit(*batch(), verbose=0)


@pytest.mark.parametrize(
    "with_labels", [lambda: (IMAGES, {"labels": LABELS}), lambda: {"pixel_values": IMAGES, "labels": LABELS}]
)
def test_class_weights_count_with_such_datasets(classifier, with_labels):
    class_weight = {0: 1.0, 1: 4.0, 2: 0.5}
    classifier.compile(keras.optimizers.SGD(0.0), loss=CROSS_ENTROPY)
    dataset = tf.data.Dataset.from_tensor_slices(with_labels()).batch(4)
    found = classifier.fit(dataset, class_weight=class_weight, verbose=0).history["loss"][0]
    expected = classifier.fit(IMAGES, LABELS, batch_size=4, class_weight=class_weight, verbose=0).history["loss"][0]
    unweighted = classifier.fit(dataset, verbose=0).history["loss"][0]
    assert found == pytest.approx(expected, abs=1e-6)
    assert abs(found - unweighted) > 1e-3


def test_the_loss_of_each_image(classifier):
    output = classifier(IMAGES, labels=LABELS)
    losses = classifier.hf_compute_loss(LABELS, output.logits)
    assert losses.shape == (4,)
    np.testing.assert_allclose(np.mean(losses), output.loss, atol=1e-6)


def test_one_number_for_each_image_however_they_lie(one_layer):
    one_layer.num_labels = 1
    model = TFViTForImageClassification(one_layer)
    numbers = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    losses = [float(model(IMAGES, labels=labels).loss) for labels in (numbers, numbers[:, None], numbers[None])]
    assert losses[0] == losses[1] == losses[2]


# Serving


def test_a_saved_model_is_written_beside_the_checkpoint(classifier, tmp_path):
    classifier.save_pretrained(tmp_path, saved_model=True, version=3)
    assert {each.name for each in tmp_path.iterdir()} == {"config.json", "model.safetensors", "saved_model"}
    serve = tf.saved_model.load(tmp_path / "saved_model/3").signatures["serving_default"]
    served = serve(pixel_values=tf.constant(IMAGES))
    assert list(served) == ["logits"]
    np.testing.assert_allclose(served["logits"], classifier(IMAGES).logits, atol=1e-5)


def test_a_saved_model_has_the_signatures_that_are_given(classifier, tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None, 3, 32, 32], tf.float32, name="images")])
    def label(images):
        return {"label": tf.argmax(classifier(pixel_values=images).logits, axis=-1)}

    classifier.save_pretrained(tmp_path, saved_model=True, signatures={"serving_default": label})
    serve = tf.saved_model.load(tmp_path / "saved_model/1").signatures["serving_default"]
    np.testing.assert_array_equal(
        serve(images=tf.constant(IMAGES))["label"], np.argmax(classifier(IMAGES).logits, axis=-1)
    )


def test_tensorflow_saves_a_model_itself(classifier, tmp_path):
    tf.saved_model.save(classifier, tmp_path)
    served = tf.saved_model.load(tmp_path).signatures["serving_default"](tf.constant(IMAGES))
    np.testing.assert_allclose(served["logits"], classifier(IMAGES).logits, atol=1e-5)


def test_a_served_output_has_tensors_alone(one_layer, classifier):
    output = classifier(IMAGES, output_hidden_states=True)
    served = classifier.serving_output(output)
    assert list(served) == ["logits", "hidden_states"]
    assert served["hidden_states"].shape == (1 + one_layer.num_hidden_layers, 4, 17, 32)


def test_a_model_card_tells_of_the_last_fit(one_layer, tmp_path):
    model = TFViTForImageClassification(one_layer)
    with pytest.raises(TypeError, match="takes no 'author'"):
        model.create_model_card(tmp_path, "mine", author="me")
    model.compile("sgd")
    model.fit({"pixel_values": IMAGES, "labels": LABELS}, verbose=0)
    model.create_model_card(output_dir=tmp_path, model_name="mine", license="mit", dataset="digits")
    text = (tmp_path / "README.md").read_text()
    assert "# mine" in text
    assert "license: mit" in text
