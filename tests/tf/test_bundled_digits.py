"""bundled/vit-digits: what its model card says is true in Keras, too."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vit_core
from vit_tf import AutoImageProcessor, ViTForImageClassification, optimize_for_inference

datasets = pytest.importorskip("sklearn.datasets")
model_selection = pytest.importorskip("sklearn.model_selection")

NAME = "bundled/vit-digits"
FOLDER = Path(vit_core.__file__).parent / "bundled" / "vit-digits"


@pytest.fixture(scope="module")
def digits():
    """The test images that the model card describes, as 8-bit gray, and their labels."""
    values, labels = datasets.load_digits(return_X_y=True)
    images = np.round(values.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    _, test, _, test_labels = model_selection.train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=0
    )
    return test, test_labels


def answers(images):
    """What the shipped model says of images."""
    model = ViTForImageClassification.from_pretrained(NAME)
    inputs = AutoImageProcessor.from_pretrained(NAME)(images, return_tensors="tf")
    labels = model(**inputs).logits.numpy().argmax(1)
    return np.array([int(model.config.id2label[label]) for label in labels.tolist()])


def test_it_reads_the_held_out_digits_as_the_model_card_tells(digits):
    images, labels = digits
    right = (answers([Image.fromarray(image) for image in images]) == labels).sum()
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    told, total = map(int, re.search(r"(\d+) of (\d+) right", card).groups())
    assert total == len(labels)
    assert right / total >= 0.975
    assert abs(right - told) <= 1  # another machine rounds differently


def test_it_reads_them_in_8_bits_as_well(digits):
    images, labels = digits
    model = ViTForImageClassification.from_pretrained(NAME)
    inputs = AutoImageProcessor.from_pretrained(NAME)(images[..., None], return_tensors="np").pixel_values
    exact = model(inputs).logits.numpy()
    logits = optimize_for_inference(model, dtype="int8")(inputs).logits.numpy()
    assert 1e-6 < np.abs(logits - exact).max() / np.ptp(exact) < 0.03
    right, right_in_float32 = (np.mean(each.argmax(1) == labels) for each in (logits, exact))
    assert right > right_in_float32 - 0.005


def test_it_reads_the_images_that_ship():
    files = sorted((FOLDER / "test_images").iterdir())
    shown = [int(re.match(r"digit_(\d)_", file.name)[1]) for file in files]
    found = answers([str(file) for file in files])
    assert (found == shown).mean() >= 0.9
