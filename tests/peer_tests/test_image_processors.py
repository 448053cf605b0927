"""transformers' common tests of image processors, with both processors for ViT."""

import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sdist
import torch

import vit_torch

PICTURE = Path(__file__).parents[1] / "fixtures" / "image_processing" / "photo.jpg"
common = sdist.load("test_image_processing_common", vit_torch)
# The picture that it would download.
common.requests = SimpleNamespace(get=lambda url, stream: SimpleNamespace(raw=PICTURE.open("rb")))
if sdist.OWN:
    from transformers import ViTImageProcessor

    ViTImageProcessorFast = None  # it needs torchvision
else:
    from vit_torch import ViTImageProcessor, ViTImageProcessorFast


class Tester:
    """Random images and what becomes of them, under the names by which the common tests ask for them."""

    batch_size = 3
    num_channels = 3

    def prepare_image_inputs(
        self, equal_resolution: bool = False, numpify: bool = False, torchify: bool = False
    ) -> list[Any]:
        return common.prepare_image_inputs(
            self.batch_size, 30, 60, self.num_channels, None, equal_resolution, numpify, torchify
        )

    def expected_output_image_shape(self, images: list[Any]) -> tuple[int, int, int]:
        return self.num_channels, 18, 20

    def prepare_image_processor_dict(self) -> dict[str, Any]:
        return {
            "do_normalize": True,
            "image_mean": [0.5, 0.4, 0.3],
            "image_std": [0.5, 0.6, 0.7],
            "size": {"height": 18, "width": 20},
        }


class TestImageProcessors(common.ImageProcessingTestMixin, sdist.TestCase):
    image_processing_class = ViTImageProcessor
    fast_image_processing_class = ViTImageProcessorFast
    test_cast_dtype = torch.float16

    def setUp(self) -> None:
        super().setUp()
        self.model_tester = self.image_processor_tester = Tester()
        self.image_processor_dict = self.image_processor_tester.prepare_image_processor_dict()

    @unittest.skip("a clock decides")
    def test_fast_is_faster_than_slow(self) -> None: ...
