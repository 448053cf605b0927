"""`device_map` and `state_dict` of from_pretrained."""

import numpy as np
import pytest
import tensorflow as tf

from vit_tf import TFViTForImageClassification, TFViTModel

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)


@pytest.fixture
def folder(tiny_config, tmp_path):
    TFViTForImageClassification(tiny_config).save_pretrained(tmp_path)
    return tmp_path


def canonical(model):
    return {
        row.name: model.get_parameter(row).numpy().transpose(*((1, 0) if row.kind == "linear" else (3, 2, 0, 1)))
        if row.kind in ("linear", "conv")
        else model.get_parameter(row).numpy()
        for row in model.parameter_table()
    }


@pytest.mark.parametrize(
    ("device_map", "found"),
    [("auto", ""), ("cpu", "CPU:0"), ({"": "/device:CPU:1"}, "CPU:1")],
)
def test_a_device_map_places_the_variables(folder, device_map, found):
    model = TFViTForImageClassification.from_pretrained(folder, device_map=device_map)
    assert all(variable.value.device.endswith(found) for variable in model.weights)
    assert getattr(model, "hf_device_map", {"": "/"}) == {"": f"/{found}"}
    assert model(IMAGES).logits.shape == (2, 5)


@pytest.mark.parametrize(
    ("device_map", "words"),
    [
        ("cuda:7", "'cuda:7', which names no device that TensorFlow sees.*CPU:0"),
        (9, "device_map is 9"),
        ({"vit": "cpu", "classifier": "cpu:1"}, "names 2 devices.*strategy.scope"),
    ],
)
def test_what_is_no_device_here_is_said(folder, device_map, words):
    with pytest.raises(ValueError, match=words):
        TFViTForImageClassification.from_pretrained(folder, device_map=device_map)


@pytest.mark.parametrize("kind", [np.asarray, tf.constant, lambda array: tf.cast(array, "bfloat16")])
def test_weights_are_given_with_and_without_a_folder(tiny_config, folder, kind):
    other = TFViTForImageClassification(tiny_config)
    weights = {name: kind(array) for name, array in canonical(other).items()}
    tolerance = 0.05 if kind not in (np.asarray, tf.constant) else 0
    for source, options in ((folder, {}), (None, {"config": tiny_config})):
        model = TFViTForImageClassification.from_pretrained(source, state_dict=weights, **options)
        np.testing.assert_allclose(model(IMAGES).logits, other(IMAGES).logits, atol=tolerance)


def test_what_is_no_array_is_said(tiny_config):
    for wrong, words in (({"cls_token": 1}, "'cls_token', a int"), ([1], "is a list")):
        with pytest.raises(TypeError, match=words):
            TFViTModel.from_pretrained(None, config=tiny_config, state_dict=wrong)
    with pytest.raises(ValueError, match="'cls_token' of int64"):
        TFViTModel.from_pretrained(None, config=tiny_config, state_dict={"cls_token": np.array([1])})
    with pytest.raises(ValueError, match="there is no checkpoint to load"):
        TFViTModel.from_pretrained(None, config=tiny_config)
