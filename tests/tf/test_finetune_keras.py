"""examples/finetune_keras.py, run for a moment."""

import runpy
from pathlib import Path

import pytest

from vit_tf import AutoImageProcessor, ViTForImageClassification

pytest.importorskip("sklearn.datasets")

SCRIPT = Path(__file__).parents[2] / "examples" / "finetune_keras.py"


@pytest.fixture(scope="module")
def script():
    """The script's functions."""
    return runpy.run_path(str(SCRIPT), run_name="finetune_keras")


def answers(folder, images):
    """The classes that a saved model and its processor name."""
    processor = AutoImageProcessor.from_pretrained(folder)
    return ViTForImageClassification.from_pretrained(folder)(processor(images, return_tensors="tf")).logits.numpy()


def test_a_new_model_learns_at_once_and_is_saved_as_it_was_tested(script, tmp_path, capsys):
    script["main"](["--output", str(tmp_path / "new"), "--epochs", "3"])
    printed = capsys.readouterr().out
    split = script["load_split"]()
    accuracy = (answers(tmp_path / "new", split.test_images).argmax(axis=-1) == split.test_labels).mean()
    assert f"accuracy on 450 test images: {accuracy:.2%}" in printed
    assert accuracy > 0.2  # chance is 0.1
