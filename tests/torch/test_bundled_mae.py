"""bundled/mae-digits: what its model card says is true, and its script runs."""

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
from vit_torch import AutoImageProcessor, ViTMAEForPreTraining

datasets = pytest.importorskip("sklearn.datasets")
model_selection = pytest.importorskip("sklearn.model_selection")

NAME = "bundled/mae-digits"
FOLDER = Path(vit_core.__file__).parent / "bundled" / "mae-digits"
SCRIPT = Path(__file__).parents[2] / "examples" / "train_mae.py"


@torch.no_grad()
def test_it_paints_held_out_digits_far_better_than_the_mean_of_what_it_sees():
    values, labels = datasets.load_digits(return_X_y=True)
    pixels = np.round(values.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    _, test = model_selection.train_test_split(pixels, test_size=0.25, stratify=labels, random_state=0)
    images = [Image.fromarray(image) for image in test]
    pixel_values = AutoImageProcessor.from_pretrained(NAME)(images, return_tensors="pt").pixel_values
    model = ViTMAEForPreTraining.from_pretrained(NAME)
    noise = torch.rand(len(images), 64, generator=torch.Generator().manual_seed(0))
    output = model(pixel_values, noise=noise)
    patches, mask = model.patchify(pixel_values).numpy(), output.mask.numpy()[..., None]
    mean = (patches * (1 - mask)).sum((1, 2), keepdims=True) / ((1 - mask).sum((1, 2), keepdims=True) * 16)
    errors = [((guess - patches) ** 2 * mask).sum() / (mask.sum() * 16) / 4 for guess in (output.logits.numpy(), mean)]
    assert errors[0] < 2 / 3 * errors[1]
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    told = re.search(r"from 0 to 1: \*\*(0\.\d+)\*\*.*which is \d+% of that of.*, (0\.\d+)\.", card, re.DOTALL)
    np.testing.assert_allclose(errors, [float(each) for each in told.groups()], atol=2e-4)


def test_it_is_small_enough_to_ship():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) <= 700_000


def test_its_script_writes_the_whole_folder(tmp_path):
    command = [sys.executable, SCRIPT, "--output", tmp_path / "mae", "--epochs", "1"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=os.environ)
    assert run.returncode == 0, run.stderr
    assert {file.name for file in (tmp_path / "mae").iterdir()} == {file.name for file in FOLDER.iterdir()}
    assert ViTMAEForPreTraining.from_pretrained(tmp_path / "mae").config.mask_ratio == 0.6
