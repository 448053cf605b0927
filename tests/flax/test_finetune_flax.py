"""examples/finetune_flax.py, run for a moment."""

import dataclasses
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from vit_flax import AutoImageProcessor, ViTForImageClassification

pytest.importorskip("sklearn.datasets")

SCRIPT = Path(__file__).parents[2] / "examples" / "finetune_flax.py"
COUNT = 832  # images to train on, 13 batches


@pytest.fixture(scope="module")
def script():
    """The script's functions, with some of the digits to train on."""
    functions = runpy.run_path(str(SCRIPT), run_name="finetune_flax")["main"].__globals__
    split = functions["load_split"]()
    few = {name: getattr(split, name)[:COUNT] for name in ("train_images", "train_labels")}
    functions["load_split"] = lambda: dataclasses.replace(split, **few)
    return functions


def accuracy(folder, split):
    """How many of the test images a saved model and its processor get right."""
    inputs = AutoImageProcessor.from_pretrained(folder)(split.test_images, return_tensors="jax")
    logits = jax.jit(ViTForImageClassification.from_pretrained(folder))(**inputs).logits
    return (logits.argmax(axis=-1) == split.test_labels).mean()


def test_a_new_model_learns_at_once_and_is_saved_as_it_was_tested(script, tmp_path, capsys):
    script["main"](["--output", str(tmp_path / "new"), "--epochs", "3", "--batch-size", "16"])
    printed = capsys.readouterr().out
    fraction = accuracy(tmp_path / "new", script["load_split"]())
    assert "epoch   3 of 3 " in printed
    assert f"accuracy on 450 test images: {fraction:.2%}" in printed
    assert fraction > 0.2  # chance is 0.1


def test_a_checkpoint_goes_on_where_it_was_in_half_precision_with_scanned_layers(script, tmp_path, capsys):
    arguments = ["--model", "bundled/vit-digits", "--bf16", "--scan-layers", "--epochs", "1", "--learning-rate", "1e-5"]
    script["main"]([*arguments, "--output", str(tmp_path / "more")])
    assert "accuracy on 450 test images: 9" in capsys.readouterr().out
    fraction_of_the_bundled = 0.9956  # says its model card
    assert accuracy(tmp_path / "more", script["load_split"]()) > fraction_of_the_bundled - 0.02
    before = ViTForImageClassification.from_pretrained("bundled/vit-digits").params["classifier"]["kernel"]
    after = ViTForImageClassification.from_pretrained(tmp_path / "more").params["classifier"]["kernel"]
    assert after.dtype == "float32"
    assert 0 < np.abs(after - before).max() < 13 * 1.1e-5  # AdamW moves a weight by about the learning rate in a step


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs", "0"], "--epochs is 0; choose 1 or more"),
        (["--batch-size", "0"], "--batch-size is 0; choose 1 or more"),
        (["--learning-rate", "nan"], "--learning-rate is nan; choose a number above 0"),
        (["--seed", "-1"], "--seed is -1; choose 0 or more"),
        (["--output", __file__], "which is no folder"),
    ],
)
def test_a_bad_argument_ends_in_one_sentence(script, capsys, arguments, words):
    with pytest.raises(SystemExit):
        script["main"](arguments)
    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch-size", "833"], "--batch-size is 833, but there are 832 images to train on; choose fewer"),
        (["--model", "no/such/folder"], "no/such/folder"),
    ],
)
def test_what_only_the_data_and_the_disk_tell_ends_in_one_sentence_too(script, arguments, words):
    with pytest.raises(SystemExit, match=words) as caught:
        script["main"](arguments)
    assert "\n" not in str(caught.value)
