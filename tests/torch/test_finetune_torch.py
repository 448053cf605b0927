"""examples/finetune_torch.py, run on a few handwritten digits."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vit_torch import AutoImageProcessor, ViTForImageClassification

datasets = pytest.importorskip("sklearn.datasets")

SCRIPT = Path(__file__).parents[2] / "examples" / "finetune_torch.py"
CLASSES = {"nothing": 0, "one": 1}


@pytest.fixture(scope="module")
def finetune():
    """The script's `main`."""
    spec = importlib.util.spec_from_file_location("finetune_torch", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.main


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 12 images for each of two classes."""
    folder = tmp_path_factory.mktemp("photos")
    data = datasets.load_digits()
    for name, digit in CLASSES.items():
        (folder / name).mkdir()
        for index, image in enumerate(data.images[data.target == digit][:12]):
            Image.fromarray(np.round(image * 255 / 16).astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


def test_a_pretrained_model_learns_new_classes(finetune, photos, tmp_path, capsys):
    with pytest.warns(UserWarning, match=r"classifier.* have another shape"):
        finetune([str(photos), "--output", str(tmp_path / "new"), "--epochs", "3", "--learning-rate", "2e-3"])
    printed = capsys.readouterr().out
    assert "18 images to train on, 6 to validate with: nothing, one" in printed
    assert "epoch   3" in printed
    model = ViTForImageClassification.from_pretrained(tmp_path / "new")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "new")
    assert model.config.id2label == {0: "nothing", 1: "one"}
    files = [file for name in CLASSES for file in sorted((photos / name).iterdir())]
    with torch.no_grad():
        answers = model(**processor(files, return_tensors="pt")).logits.argmax(1)
    assert (answers == torch.arange(2).repeat_interleave(12)).float().mean() >= 0.9


def test_a_fresh_model_starts_at_random_in_the_same_shape(finetune, photos, tmp_path):
    finetune([str(photos), "--output", str(tmp_path), "--epochs", "1", "--from-scratch", "--learning-rate", "0"])
    fresh = ViTForImageClassification.from_pretrained(tmp_path)
    bundled = ViTForImageClassification.from_pretrained("bundled/vit-digits")
    assert fresh.config.num_labels == 2
    assert fresh.vit.embeddings.position_embeddings.shape == bundled.vit.embeddings.position_embeddings.shape
    assert (fresh.vit.encoder.layer[0].attention.attention.query.bias == 0).all()  # as ViT's bias starts


@pytest.mark.parametrize(
    ("images", "message"),
    [({}, r"0 folder\(s\).*two or more"), ({"a": 2}, r"1 folder\(s\)"), ({"a": 2, "b": 1}, r"b has 1 image\(s\)")],
)
def test_a_folder_with_too_little_in_it_is_refused(finetune, tmp_path, images, message):
    for name, count in images.items():
        (tmp_path / name).mkdir()
        for index in range(count):
            (tmp_path / name / f"{index}.png").touch()
    with pytest.raises(ValueError, match=message):
        finetune([str(tmp_path), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
