"""`optimize_for_inference`: onnxruntime computes what the model computes, in float32 and in 8 bits."""

import sys
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest

import vit_tf
from vit_core.families import FAMILIES
from vit_tf import TFViTForImageClassification, TFViTMAEModel, optimize_for_inference

sys.path.insert(0, str(Path(__file__).parents[1] / "cross"))
from relatives import config_of, name_of

#: Variants that have each operation between them.
CASES = [
    ("deit", "image-classification", 1),
    ("dinov2", "model", 0),
    *(("vision_transformer", "image-classification", number) for number in (1, 3, 4)),
]


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_outputs_in_float32_are_the_models_own(case):
    model_type, task, _ = case
    config = config_of(case)
    model = getattr(vit_tf, FAMILIES[model_type].models[task])(config)
    optimized = optimize_for_inference(model)
    for batch in (1, 3):
        shape = (batch, config.num_channels, *config.image_shape)
        images = np.random.default_rng(0).normal(size=shape).astype("float32")
        outputs, expected = optimized(images), model(images)
        assert type(outputs) is type(expected)
        assert list(outputs) == list(expected)
        for name in expected:
            np.testing.assert_allclose(outputs[name], expected[name], atol=1e-5, rtol=0)


def test_a_file_in_8_bits_is_less_than_half_as_large_and_answers_the_same_anywhere(tmp_path):
    model = TFViTForImageClassification.from_pretrained("bundled/vit-digits")
    images = np.random.default_rng(0).normal(size=(3, 1, 32, 32)).astype("float32")
    optimized = optimize_for_inference(model, dtype="int8")
    logits = optimized(images).logits.numpy()
    np.testing.assert_allclose(optimized(images[:1]).logits, logits[:1], atol=1e-5)  # whatever is in the batch
    optimized.save(tmp_path / "digits.onnx")
    assert (tmp_path / "digits.onnx").stat().st_size < 4 * model.count_params() / 2
    session = onnxruntime.InferenceSession(tmp_path / "digits.onnx")
    np.testing.assert_array_equal(session.run(["logits"], {"pixel_values": images})[0], logits)


def test_images_with_their_channels_last_are_taken_as_the_model_takes_them(one_layer):
    model = TFViTForImageClassification(one_layer, data_format="channels_last")
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(optimize_for_inference(model)(images).logits, model(images).logits, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own, as it quantizes
def test_what_cannot_be_optimized_is_said(one_layer):
    model = TFViTForImageClassification(one_layer)
    with pytest.raises(ValueError, match="dtype is 'int4'; give \"int8\", or nothing"):
        optimize_for_inference(model, dtype="int4")
    with pytest.raises(ValueError, match="Dense is no model of this package"):
        optimize_for_inference(keras.layers.Dense(3))
    with pytest.raises(ValueError, match="in mixed_bfloat16; load it with dtype='float32'"):
        optimize_for_inference(TFViTForImageClassification(one_layer, dtype="mixed_bfloat16"))
    masked = TFViTMAEModel(config_of(("vit_mae", "model", 0)))  # of patches drawn at random
    with pytest.raises(ValueError, match="which has no translation to ONNX here"):
        optimize_for_inference(masked)
    model.quantize("int8")
    with pytest.raises(ValueError, match="quantized already"):
        optimize_for_inference(model)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(one_layer, monkeypatch, package):
    for module in ("vit_tf.onnx_graph", "vit_tf.onnx_operations"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'needs {package}, .*: pip install "trivit\[onnx\]"'):
        optimize_for_inference(TFViTForImageClassification(one_layer))
