"""bundled/vit-digits: what its model card says is true in Flax, too, and in half precision."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import vit_core
from vit_flax import AutoImageProcessor, FlaxViTForImageClassification

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
    return [Image.fromarray(image) for image in test], test_labels


def answers(images, dtype=jnp.float32):
    """What the shipped model says of images."""
    model = FlaxViTForImageClassification.from_pretrained(NAME, dtype)
    inputs = AutoImageProcessor.from_pretrained(NAME)(images, return_tensors="jax")
    labels = jax.jit(lambda images: model(images).logits)(inputs["pixel_values"]).argmax(1)
    return np.array([int(model.config.id2label[label]) for label in labels.tolist()])


@pytest.fixture(scope="module")
def answers_in_float32(digits):
    return answers(digits[0])


def test_it_reads_the_held_out_digits_as_the_model_card_tells(digits, answers_in_float32):
    _, labels = digits
    right = (answers_in_float32 == labels).sum()
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    told, total = map(int, re.search(r"(\d+) of (\d+) right", card).groups())
    assert total == len(labels)
    assert right / total >= 0.975
    assert abs(right - told) <= 1  # another machine rounds differently


def test_bfloat16_gives_every_digit_the_same_answer(digits, answers_in_float32):
    np.testing.assert_array_equal(answers(digits[0], jnp.bfloat16), answers_in_float32)


def test_it_reads_the_images_that_ship():
    files = sorted((FOLDER / "test_images").iterdir())
    shown = [int(re.match(r"digit_(\d)_", file.name)[1]) for file in files]
    found = answers([str(file) for file in files])
    assert (found == shown).mean() >= 0.9
