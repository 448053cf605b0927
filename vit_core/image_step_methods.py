"""The steps of preprocessing one by one, as methods that scripts for transformers 4 call and subclasses replace.

`preprocess` does the same to whole batches and needs none of them, unless a subclass has its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from vit_core.image_batch import ALREADY_SCALED, image_names
from vit_core.image_settings import Steps, check_format, check_setting, target_size
from vit_core.image_transforms import ChannelValues, center_crop, rescale_and_normalize, resize, to_8_bit
from vit_core.image_transforms import rescale as rescale_pixels
from vit_core.images import PIL_MODES, ChannelDimension, ImageReader, as_array, is_array, list_images

#: What to call the image of a single step in an error.
NAME = "the image"


class StepMethods:
    """`resize`, `center_crop`, `rescale` and `normalize`, with the arguments that transformers 4 gives them.

    An image is an array or tensor of shape (height, width), (height, width, channels) or (channels, height, width),
    and comes back in the same layout unless another is asked for.
    """

    _default_filter: ClassVar[Image.Resampling] = Image.Resampling.BILINEAR

    def resize(
        self,
        image: Any,
        size: Mapping[str, int] | int,
        resample: Image.Resampling | int | None = None,
        data_format: str | None = None,
        input_data_format: str | None = None,
        *,
        return_numpy: bool = True,
        reducing_gap: float | None = None,
    ) -> np.ndarray | Image.Image:
        """Resize an image with PIL.

        Args:
            image: see the class; or a PIL image, which comes back channels last unless `data_format` says otherwise.
            size: as the setting `size`.
            resample: PIL's filter for resizing; that of the class's default settings unless given.
            data_format: where the result has its channels, "channels_first" or "channels_last".
            input_data_format: where the image has them; worked out from its shape unless given.
            return_numpy: return an array; a PIL image otherwise.
            reducing_gap: as in `PIL.Image.Image.resize`, for a faster result that is less exact.

        Returns:
            uint8 pixels; float32 from 0 to 1 for an image of such fractions.

        Raises:
            TypeError: this is no image.
            ValueError: the image, the size or a format is impossible.
        """
        target = check_setting("size", size)
        resample = self._default_filter if resample is None else check_setting("resample", resample)
        pixels, axis = _channels_last(image, input_data_format)
        pixels, fractions = to_8_bit(pixels, NAME)
        size_in_pixels = target_size(target, pixels.shape[0], pixels.shape[1], NAME)
        picture = resize(pixels, size_in_pixels, resample, reducing_gap=reducing_gap)
        if not return_numpy:
            return picture
        resized = np.atleast_3d(np.asarray(picture))
        return _laid_out(rescale_pixels(resized, 1 / 255) if fractions else resized, axis, data_format)

    def center_crop(
        self,
        image: Any,
        size: Mapping[str, int] | int,
        data_format: str | None = None,
        input_data_format: str | None = None,
        *,
        return_numpy: bool | None = None,
    ) -> np.ndarray:
        """Cut out the middle of an image, with zeros around it where the image is too small.

        Args:
            image: see the class.
            size: as the setting `crop_size`.
            data_format: as in `resize`.
            input_data_format: likewise.
            return_numpy: accepted and without effect, as in transformers.

        Returns:
            Pixels of the image's dtype.

        Raises:
            TypeError: this is no image.
            ValueError: the image, the size or a format is impossible.
        """
        target = check_setting("crop_size", size)
        pixels, axis = _channels_last(image, input_data_format)
        return _laid_out(center_crop(pixels, (target["height"], target["width"])), axis, data_format)

    def rescale(
        self,
        image: Any,
        scale: float,
        data_format: str | None = None,
        input_data_format: str | None = None,
        *,
        dtype: Any = np.float32,
    ) -> np.ndarray:
        """Multiply an image.

        Args:
            image: see the class; an array of any shape if no layout is asked for.
            scale: the factor.
            data_format: as in `resize`.
            input_data_format: likewise.
            dtype: of the result.

        Returns:
            The image times `scale`, computed in float64.

        Raises:
            TypeError: this is no image.
            ValueError: the image or a format is impossible.
        """
        pixels = as_array(image if is_array(image) else np.asarray(image), NAME).astype(np.float64) * check_setting(
            "rescale_factor", scale
        )
        if data_format is not None:
            pixels = _laid_out(*_channels_last(pixels, input_data_format), data_format)
        return pixels.astype(dtype)

    def normalize(
        self,
        image: Any,
        mean: float | Iterable[float],
        std: float | Iterable[float],
        data_format: str | None = None,
        input_data_format: str | None = None,
    ) -> np.ndarray:
        """Subtract a mean and divide by a standard deviation.

        Args:
            image: see the class.
            mean: one value for each channel, or one for all.
            std: likewise, above 0.
            data_format: as in `resize`.
            input_data_format: likewise.

        Returns:
            float32; an image of floats keeps its dtype.

        Raises:
            TypeError: this is no image.
            ValueError: the image, a value or a format is impossible.
        """
        pixels, axis = _channels_last(image, input_data_format)
        mean, std = (_channel_values(*setting, pixels.shape[2]) for setting in [("mean", mean), ("std", std)])
        return _laid_out(rescale_and_normalize(pixels, None, mean, std), axis, data_format)


#: The methods that a subclass may replace.
STEP_NAMES = ("resize", "center_crop", "rescale", "normalize")


def has_steps_of_its_own(processor: StepMethods) -> bool:
    """Whether a subclass replaces a step, so that `preprocess` must not do without it."""
    return any(getattr(type(processor), name) is not getattr(StepMethods, name) for name in STEP_NAMES)


def process_by_methods(processor: StepMethods, images: Any, steps: Steps) -> list[np.ndarray]:
    """Take images through the steps as the processor's own methods do them, one after the other.

    Args:
        processor: the processor.
        images: as in `vit_core.image_batch.process_batch`.
        steps: what to do.

    Returns:
        An array for each image.
    """
    items = list_images(images)
    results, scaled = [], False
    last = ChannelDimension.LAST
    for item, name in zip(items, image_names(len(items)), strict=True):
        pixels = np.atleast_3d(np.asarray(steps.reader.read(item, name)))
        scaled |= pixels.dtype != np.uint8 and bool(pixels.min() >= 0 and pixels.max() <= 1)
        if steps.size is not None:
            size = dict(steps.size)
            resized = processor.resize(image=pixels, size=size, resample=steps.resample, input_data_format=last)
            pixels = np.asarray(resized)
        if steps.crop_size is not None:
            crop = dict(zip(("height", "width"), steps.crop_size, strict=True))
            pixels = processor.center_crop(image=pixels, size=crop, input_data_format=last)
        if steps.rescale_factor is not None:
            pixels = processor.rescale(image=pixels, scale=steps.rescale_factor, input_data_format=last)
        if steps.mean is not None and steps.std is not None:
            mean, std = _as_list(steps.mean), _as_list(steps.std)
            pixels = processor.normalize(image=pixels, mean=mean, std=std, input_data_format=last)
        results.append(pixels if steps.data_format is last else np.moveaxis(pixels, 2, 0))
    if scaled and steps.rescale_factor is not None:
        warnings.warn(ALREADY_SCALED, UserWarning, stacklevel=5)
    return results


def _channels_last(image: Any, input_data_format: str | None) -> tuple[np.ndarray, int | None]:
    """An image's pixels of shape (height, width, channels), and which axis the channels were; None for gray of two."""
    if not is_array(image):
        keeps_mode = isinstance(image, Image.Image) and image.mode in PIL_MODES.values()
        return np.atleast_3d(np.asarray(image if keeps_mode else ImageReader().read(image, NAME))), 2
    array_format = None if input_data_format is None else check_format("input_data_format", input_data_format)
    pixels = as_array(image, NAME)
    axis = ImageReader(channels=1, strict=False, array_format=array_format).channel_axis(pixels.shape, NAME)
    return pixels[:, :, None] if axis is None else np.moveaxis(pixels, axis, 2), axis


def _laid_out(pixels: np.ndarray, axis: int | None, data_format: str | None) -> np.ndarray:
    """Pixels channels last with their channels where they are wanted, or else where they were."""
    if data_format is not None:
        axis = 0 if check_format("data_format", data_format) is ChannelDimension.FIRST else 2
    return pixels[:, :, 0] if axis is None else np.moveaxis(pixels, 2, axis)


def _channel_values(name: str, values: Any, channels: int) -> ChannelValues:
    """Checked values, one for each channel or one for all."""
    checked = check_setting(f"image_{name}", _as_list(values))
    if not isinstance(checked, list):
        return float(checked)
    if len(checked) != channels:
        raise ValueError(f"{name} has {len(checked)} values, but the image has {channels} channels.")
    return tuple(checked)


def _as_list(values: Any) -> Any:
    return list(values) if isinstance(values, Iterable) else values
