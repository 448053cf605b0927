"""What a model expects of its images, as a `preprocessor_config.json`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image

from vit_core.config import PretrainedConfig
from vit_core.image_processing import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    DeiTImageProcessor,
    ViTImageProcessor,
)

BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Preprocessing:
    """How images were prepared for a model.

    Attributes:
        mean: of each channel, on a scale from 0 to 1; one value serves every channel.
        std: likewise.
        resample: the filter for resizing.
        crop_fraction: how much of the resized image's shorter edge the model sees; None if the whole image is resized
            to the model's size, whatever its proportions.
        keeps_proportions: whether an image that is cropped keeps its proportions.
    """

    mean: tuple[float, ...] = tuple(IMAGENET_STANDARD_MEAN)
    std: tuple[float, ...] = tuple(IMAGENET_STANDARD_STD)
    resample: Image.Resampling = BILINEAR
    crop_fraction: float | None = None
    keeps_proportions: bool = True

    def settings(self, config: PretrainedConfig) -> dict[str, Any]:
        """The content of `preprocessor_config.json` for a model."""
        (height, width), fraction = config.image_shape, self.crop_fraction
        size = {"height": height, "width": width}
        values: dict[str, Any] = {
            "resample": self.resample,
            "image_mean": self._channels(self.mean, config),
            "image_std": self._channels(self.std, config),
        }
        if fraction is None:
            return ViTImageProcessor(size=size, **values).to_dict()
        enlarged = {"height": math.floor(height / fraction), "width": math.floor(width / fraction)}
        keeps = self.keeps_proportions and height == width
        resized = {"shortest_edge": enlarged["height"]} if keeps else enlarged
        return DeiTImageProcessor(size=resized, crop_size=size, **values).to_dict()

    @staticmethod
    def _channels(values: tuple[float, ...], config: PretrainedConfig) -> list[float]:
        return list(values) if len(values) == config.num_channels else [values[0]] * config.num_channels


#: Values from -1 to 1, the whole image.
PLAIN = Preprocessing()
#: The middle of the image as ImageNet is evaluated since AlexNet: 224 pixels of 256.
IMAGENET_CROP = Preprocessing(tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD), BICUBIC, 224 / 256)
