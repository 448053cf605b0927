"""The image processors of CLIP, DINOv2, SigLIP and DINOv3, against what transformers 4.57.6 returns."""

import json

import numpy as np
import pytest
from PIL import Image

import vit_core
from vit_core import AutoImageProcessor

#: PIL resizes in double precision, and torchvision, which DINOv3's class uses, places samples in single precision.
TOLERANCES = {"DINOv3ViTImageProcessorFast": 1e-4}


@pytest.fixture
def case(fixture_folder):
    """A processor with its settings, an image, and what transformers made of it."""

    def case(name):
        folder = fixture_folder / "image_processing_modern"
        with np.load(folder / "expected.npz") as expected:
            settings = json.loads((folder / "cases.json").read_text())[name]
            return getattr(vit_core, name)(**settings), Image.fromarray(expected["image"]), expected[name]

    return case


@pytest.mark.parametrize(
    "name", ["CLIPImageProcessor", "BitImageProcessor", "SiglipImageProcessor", "DINOv3ViTImageProcessorFast"]
)
def test_pixels_are_those_of_transformers(case, tmp_path, name):
    processor, image, expected = case(name)
    found = processor(image, return_tensors="np").pixel_values
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=TOLERANCES.get(name, 0), rtol=0)
    processor.save_pretrained(tmp_path)
    again = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(again) is type(processor)
    assert again == processor


def test_dinov3_rounds_nothing_between_resizing_and_normalising(case):
    processor, image, _ = case("DINOv3ViTImageProcessorFast")
    fractions = processor(image, do_normalize=False).pixel_values[0] * 255
    assert np.abs(fractions - fractions.round()).max() > 0.4
    whole = processor(image, do_normalize=False, do_rescale=False).pixel_values[0]
    assert whole.dtype == np.uint8
    assert np.abs(fractions - whole).max() <= 1
