"""Keras scripts as people write them for transformers 4, rebuilt: they run with the import lines changed."""

import base64
import io
import json
import os
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from hub_server import TOKEN

from vit_tf import AutoImageProcessor, TFViTForImageClassification, TFViTModel, ViTImageProcessor

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),  # the Hub's client, of its own way
    # Keras itself, when it reads variables.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    # A head for other classes starts at random, as it did.
    pytest.mark.filterwarnings("ignore:.*start at random:UserWarning"),
    # Keras, of a pooler whose output no loss sees; as it did.
    pytest.mark.filterwarnings("ignore:Gradients do not exist for variables:UserWarning"),
]

EXAMPLE = ["--do_train", "--do_eval", "--num_train_epochs", 6, "--learning_rate", 3e-3, "--weight_decay", 0.01,
           "--per_device_train_batch_size", 4, "--per_device_eval_batch_size", 4, "--warmup_ratio", 0.1,
           "--ignore_mismatched_sizes", True, "--evaluation_strategy", "epoch",
           "--push_to_hub", "--push_to_hub_model_id", "me/colours", "--push_to_hub_token", TOKEN]  # fmt: skip


def test_the_image_classification_example(hub, run, checkpoint, pictures, tmp_path):
    output = tmp_path / "out"
    folders = ["--train_dir", pictures / "train", "--validation_dir", pictures / "validation"]
    arguments = [*EXAMPLE, *folders, "--model_name_or_path", checkpoint, "--output_dir", output]
    run("run_image_classification.py", *arguments)
    results = json.loads((output / "all_results.json").read_text())
    assert results["eval_accuracy"] > 0.8
    losses = results["history"]["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert len(results["history"]["accuracy"]) == 6
    for place in (output, "me/colours"):
        model = TFViTForImageClassification.from_pretrained(place, cache_dir=tmp_path / "cache")
        assert model.config.id2label == {0: "blue", 1: "red"}
    assert AutoImageProcessor.from_pretrained("me/colours", cache_dir=tmp_path / "cache").size["height"] == 32
    assert b"- tensorflow" in hub.repositories["me/colours"].head()["README.md"]


def test_the_notebook_with_two_callbacks(hub, run, checkpoint, pictures, tmp_path):
    results = run("image_classification_notebook.py", checkpoint, pictures / "train", tmp_path / "food", TOKEN)
    history = results["history"].history
    assert history["loss"][-1] < history["loss"][0]
    assert history["accuracy"][-1] > 0.7
    assert results["answer"] == results["right_answer"]


def test_a_functional_model_with_a_transformer_inside(run, checkpoint, tmp_path):
    results = run("functional_model.py", checkpoint, tmp_path / "out")
    assert results["unchanged"]
    assert results["second"].history["accuracy"][-1] > 0.8
    again = keras.models.load_model(tmp_path / "out.keras")
    np.testing.assert_allclose(again.predict(results["images"], verbose=0), results["probabilities"], atol=1e-5)
    base = TFViTModel.from_pretrained(tmp_path / "out")
    pixels = results["images"].transpose(0, 3, 1, 2)
    expected = results["base_model"](pixels).last_hidden_state
    np.testing.assert_allclose(base(pixels).last_hidden_state, expected, atol=1e-5)
    start = TFViTModel.from_pretrained(checkpoint)
    same = [np.array_equal(a, b) for a, b in zip(base.get_weights(), start.get_weights(), strict=True)]
    assert 0 < sum(same) < len(same)  # the first layer was frozen


#: Calls the signatures of SavedModels in a process that has TensorFlow alone.
SERVE = """
import sys
sys.modules["keras"] = sys.modules["vit_tf"] = None
import numpy as np, tensorflow as tf
for folder in sys.argv[1:]:
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]
    returned = signature(**{name: tf.constant(np.load(folder + "/../inputs.npy"))})
    arrays = {name: each.numpy() for name, each in returned.items()}
    arrays = {name: each.astype(bytes) if each.dtype == object else each for name, each in arrays.items()}
    np.savez(folder + "/../outputs.npz", **arrays)
"""


def served(inputs):
    """What each SavedModel returns for the only input of its signature: {folder: array} -> [{name: array}]."""
    for folder, array in inputs.items():
        np.save(folder.parent / "inputs.npy", array)
    command = [sys.executable, "-c", SERVE, *map(str, inputs)]
    environment = {**os.environ, "PYTHONPATH": ""}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    outputs = []
    for folder in inputs:
        with np.load(folder.parent / "outputs.npz") as arrays:
            outputs.append(dict(arrays))
    return outputs


def test_serving_takes_encoded_pictures_and_returns_labels(run, checkpoint, pictures, tmp_path):
    run("serving.py", checkpoint, tmp_path / "served")
    model = TFViTForImageClassification.from_pretrained(checkpoint)
    files = sorted((pictures / "validation").glob("*/*.png"))[:3]
    pixels = ViTImageProcessor(size=32)([PIL.Image.open(file) for file in files], return_tensors="np").pixel_values

    encoded = []
    for file in files:
        jpeg = io.BytesIO()
        PIL.Image.open(file).save(jpeg, "JPEG", quality=95)
        encoded.append(base64.urlsafe_b64encode(jpeg.getvalue()).decode())

    folders = [tmp_path / "served" / name for name in ("plain/saved_model/1", "with_labels/1")]
    plain, labelled = served(dict(zip(folders, (pixels, np.array(encoded)), strict=True)))
    np.testing.assert_allclose(plain["logits"], model(pixels).logits, atol=1e-5)
    decoded = np.stack([np.asarray(tf.io.decode_jpeg(tf.io.decode_base64(text), channels=3)) for text in encoded])
    resized = tf.image.resize(decoded, (32, 32)) / 127.5 - 1
    probabilities = keras.ops.softmax(model(tf.transpose(resized, (0, 3, 1, 2))).logits).numpy()
    np.testing.assert_allclose(labelled["confidence"], probabilities.max(axis=-1), atol=1e-5)
    names = [model.config.id2label[index] for index in probabilities.argmax(axis=-1)]
    assert [label.decode() for label in labelled["label"]] == names
