"""bundled/vit-digits: what its model card says is true, and its script runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vit_core
from vit_torch import AutoImageProcessor, ViTForImageClassification

datasets = pytest.importorskip("sklearn.datasets")
model_selection = pytest.importorskip("sklearn.model_selection")

NAME = "bundled/vit-digits"
FOLDER = Path(vit_core.__file__).parent / "bundled" / "vit-digits"
SCRIPT = Path(__file__).parents[2] / "examples" / "train_digits.py"


@pytest.fixture(scope="module")
def digits():
    """The split that the model card describes: (training images, test images, test labels), images as 8-bit gray."""
    values, labels = datasets.load_digits(return_X_y=True)
    images = np.round(values.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    train, test, _, test_labels = model_selection.train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=0
    )
    return train, test, test_labels


@pytest.fixture(scope="module")
def answers(digits):
    """What the shipped model says of the test images."""
    processor = AutoImageProcessor.from_pretrained(NAME)
    model = ViTForImageClassification.from_pretrained(NAME)
    images = [Image.fromarray(image) for image in digits[1]]
    with torch.no_grad():
        logits = model(**processor(images, return_tensors="pt")).logits
    return np.array([int(model.config.id2label[label]) for label in logits.argmax(1).tolist()])


def test_it_reads_the_held_out_digits(digits, answers):
    assert (answers == digits[2]).mean() >= 0.975


def test_the_model_card_tells_the_accuracy_of_every_digit(digits, answers):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    right, total = map(int, re.search(r"(\d+) of (\d+) right", card).groups())
    assert total == len(answers)
    assert abs(right - (answers == digits[2]).sum()) <= 1  # another machine rounds differently
    rows = np.array(re.findall(r"^\| (\d) \| (\d+) \| (\d+) \|", card, re.MULTILINE), int)
    assert rows[:, 0].tolist() == list(range(10))
    assert rows[:, 1].tolist() == np.bincount(digits[2]).tolist()
    assert rows[:, 2].sum() == right


def test_shipped_images_are_those_of_the_held_out_split_that_their_names_say(digits):
    train, test, labels = digits
    files = sorted((FOLDER / "test_images").iterdir())
    shown = []
    for file in files:
        digit, index = map(int, re.fullmatch(r"digit_(\d)_test_(\d{4})\.png", file.name).groups())
        with Image.open(file) as image:
            assert image.mode == "L"
            pixels = np.asarray(image)
        np.testing.assert_array_equal(pixels, test[index], strict=True)
        assert labels[index] == digit
        assert not (train == pixels).all(axis=(1, 2)).any()
        shown.append(digit)
    assert shown == [digit for digit in range(10) for _ in range(2)]


def test_it_is_small_enough_to_ship():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) <= 500_000


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Run the script that made the checkpoint; returns what it printed and its folder."""

    def run(*arguments):
        folder = tmp_path_factory.mktemp("digits") / "checkpoint"
        command = [sys.executable, "-W", "error", str(SCRIPT), "--output", str(folder), "--epochs", "1", *arguments]
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # tests run in parallel
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout, folder

    return run


def test_the_script_writes_what_ships(train, digits):
    printed, folder = train("--seed", "1")
    assert {file.relative_to(folder) for file in folder.rglob("*")} == {
        file.relative_to(FOLDER) for file in FOLDER.rglob("*")
    }
    for name in ("config.json", "preprocessor_config.json"):
        assert (folder / name).read_bytes() == (FOLDER / name).read_bytes()
    for file in (FOLDER / "test_images").iterdir():
        with Image.open(file) as shipped, Image.open(folder / "test_images" / file.name) as written:
            assert written == shipped
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "--seed 1 --epochs 1\n" in card
    assert "$" not in card
    assert re.search(r"accuracy on (\d+) test images", printed)[1] == str(len(digits[1]))
    ViTForImageClassification.from_pretrained(folder)


def test_validation_leaves_the_test_images_alone_and_writes_nothing(train, digits):
    printed, folder = train("--validate")
    trained_on, validated = map(int, re.findall(r"on (\d+) (?:validation )?images", printed))
    assert trained_on + validated == len(digits[0])
    assert "test images" not in printed
    assert not folder.exists()
