"""The settings of image processors: what each may be, and the steps that they amount to."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vit_core.checks import shown
from vit_core.image_draft import Draft
from vit_core.image_limits import IMAGE_LIMITS
from vit_core.image_transforms import Box, ChannelValues
from vit_core.images import ChannelDimension, ImageReader

LARGEST_NUMBER = float(np.finfo(np.float32).max)

#: How many times as large as what it is resized to a JPEG file must be at the scale at which it is decoded as a draft.
#: With 1.5, pixels differ by at most 1.4 levels of 255 on average where spectra are those of photographs, and with 1.34
#: by two.
DRAFT_GAP = 1.5

SIZE_KEYS = {"height", "width"}
SHORTEST_EDGE = "shortest_edge"


class ReadImage(NamedTuple):
    """An image that was read.

    Attributes:
        pixels: as `ImageReader.read` returns them.
        size: the (height, width) to resize it to; None to leave it. It follows from the size that a file says, whatever
            the scale at which it was decoded.
        box: where it lies in the pixels, (left, upper, right, lower); None if they are all.
    """

    pixels: Image.Image | np.ndarray
    size: tuple[int, int] | None = None
    box: Box | None = None


@dataclass(frozen=True)
class Steps:
    """What happens to each image of a call, in this order: read, resize, crop, rescale, normalise, lay out.

    Attributes:
        reader: how to read it.
        size: {"height", "width"} or {"shortest_edge"} to resize it to; None to leave it.
        resample: PIL's filter for resizing.
        crop_size: (height, width) to crop it to from its centre; None to leave it.
        rescale_factor: multiplies the pixels; None to leave them.
        mean: is subtracted; None to leave the pixels.
        std: divides what remains; None to leave it.
        data_format: where the result has its channels.
        rescales_first: whether images are rescaled before they are resized, as fractions then.
        draft: whether JPEG files are decoded at a reduced scale where that leaves enough to resize.
    """

    reader: ImageReader
    size: Mapping[str, int] | None
    resample: Image.Resampling
    crop_size: tuple[int, int] | None
    rescale_factor: float | None
    mean: ChannelValues | None
    std: ChannelValues | None
    data_format: ChannelDimension
    rescales_first: bool = False
    draft: bool = False

    def read(self, image: Any, name: str, admit: Callable[[int], object] = bool) -> ReadImage:
        """Read one image, of a JPEG as much as is needed.

        Args:
            image: as in `ImageReader.read`.
            name: likewise.
            admit: likewise.

        Raises:
            OSError: as in `ImageReader.read`.
            TypeError: likewise.
            ValueError: likewise; or as in `target_size`.
        """
        if self.size is None:
            return ReadImage(self.reader.read(image, name, admit))
        draft = None
        if self.draft and self.resample is not Image.Resampling.NEAREST:
            draft = Draft(partial(self._enough, name=name))
        pixels = self.reader.read(image, name, admit, draft)
        shape = draft.shape if draft else None
        if shape is None:
            shape = (pixels.height, pixels.width) if isinstance(pixels, Image.Image) else pixels.shape[:2]
        return ReadImage(pixels, self.target_size(*shape, name), draft.box if draft else None)

    def _enough(self, height: int, width: int, name: str) -> tuple[int, int]:
        rows, columns = self.target_size(height, width, name)
        return math.ceil(DRAFT_GAP * rows), math.ceil(DRAFT_GAP * columns)

    def target_size(self, height: int, width: int, name: str) -> tuple[int, int]:
        """The (height, width) that an image of this height and width is resized to.

        Raises:
            ValueError: an extremely long image would become too large at this shortest edge.
        """
        assert self.size is not None
        return target_size(self.size, height, width, name)


def target_size(size: Mapping[str, int], height: int, width: int, name: str) -> tuple[int, int]:
    """The (height, width) that an image is resized to.

    Args:
        size: {"height", "width"} or {"shortest_edge"}.
        height: the image's.
        width: likewise.
        name: what to call the image in an error.

    Raises:
        ValueError: an extremely long image would become too large at this shortest edge.
    """
    if SHORTEST_EDGE not in size:
        return size["height"], size["width"]
    short = size[SHORTEST_EDGE]
    long = int(short * max(height, width) / min(height, width))
    if short * long > IMAGE_LIMITS.result_pixels:
        raise ValueError(
            f"{name} is {width} x {height} and would become {short} x {long} with size={dict(size)}; crop it."
        )
    return (long, short) if width <= height else (short, long)


def steps_of(
    settings: Mapping[str, Any], data_format: str = ChannelDimension.FIRST, input_data_format: str | None = None
) -> Steps:
    """The steps that settings amount to.

    Args:
        settings: values by name, each checked with `check_setting`.
        data_format: where the result has its channels.
        input_data_format: where 3-D arrays have their channels; worked out from each shape if None.

    Returns:
        The steps.

    Raises:
        ValueError: the settings contradict each other, or a format is unknown.
    """
    normalizing = bool(settings["do_normalize"])
    mean, std = _for_channels(settings["image_mean"]), _for_channels(settings["image_std"])
    counts = {len(values) for values in (mean, std) if isinstance(values, tuple)}
    if len(counts) > 1:
        raise ValueError(
            f"image_mean has {len(settings['image_mean'])} values and image_std {len(settings['image_std'])}; "
            "both are one for each channel."
        )
    crop = settings["crop_size"] if settings.get("do_center_crop") else None
    return Steps(
        reader=ImageReader(
            channels=next(iter(counts), 3),
            strict=normalizing and bool(counts),
            array_format=None if input_data_format is None else check_format("input_data_format", input_data_format),
            convert_rgb=bool(settings.get("do_convert_rgb")),
        ),
        size=settings["size"] if settings["do_resize"] else None,
        resample=settings["resample"],
        crop_size=(crop["height"], crop["width"]) if crop else None,
        rescale_factor=settings["rescale_factor"] if settings["do_rescale"] else None,
        mean=mean if normalizing else None,
        std=std if normalizing else None,
        data_format=check_format("data_format", data_format),
        draft=bool(settings.get("draft")),
    )


def check_setting(name: str, value: Any) -> Any:
    """One setting in the form in which it is kept.

    Args:
        name: the setting's name.
        value: as a user or a file gives it.

    Returns:
        The value: flags as they are, sizes as dicts, filters as PIL's enum, means as float or list of floats.

    Raises:
        TypeError: the value is of a type that this setting never has.
        ValueError: it is of the right type and impossible.
    """
    return _CHECKS[name](name, value)


def check_format(name: str, value: Any) -> ChannelDimension:
    """A place of channels, from our enum, transformers' or a string.

    Args:
        name: the option's name.
        value: as a user gives it.

    Raises:
        ValueError: there is no such place.
    """
    try:
        return ChannelDimension(getattr(value, "value", value))
    except ValueError:
        raise ValueError(f'{name} is {shown(value)}; it must be "channels_first" or "channels_last".') from None


def _flag(name: str, value: Any) -> bool | None:
    if not isinstance(value, bool | int | np.bool_ | None) or value not in (None, False, True):
        raise TypeError(f"{name} is {shown(value)}; it must be True or False.")
    return None if value is None else bool(value)


def _size(name: str, value: Any) -> dict[str, int]:
    if isinstance(value, numbers.Integral):
        value = {"height": value, "width": value}
    elif isinstance(value, list | tuple) and len(value) == 2:
        value = {"height": value[0], "width": value[1]}
    if not isinstance(value, Mapping) or set(value) not in (SIZE_KEYS, {SHORTEST_EDGE}):
        raise ValueError(
            f'{name} is {shown(value)}; it must be {{"height": pixels, "width": pixels}}, one number for a square, '
            f'or {{"{SHORTEST_EDGE}": pixels}}.'
        )
    for edge in value.values():
        if isinstance(edge, bool) or not isinstance(edge, numbers.Integral) or edge < 1:
            raise ValueError(f"{name} is {shown(dict(value))}; edges are whole numbers of pixels, at least 1.")
    area = math.prod(int(edge) for edge in value.values()) ** (2 // len(value))
    if area > IMAGE_LIMITS.result_pixels:
        raise ValueError(
            f"{name} is {shown(dict(value))}; more than {IMAGE_LIMITS.result_pixels} pixels is beyond reason "
            f"(vit_core.image_limits.IMAGE_LIMITS.result_pixels)."
        )
    return {key: int(edge) for key, edge in value.items()}


def _crop_size(name: str, value: Any) -> dict[str, int]:
    size = _size(name, value)
    if set(size) != SIZE_KEYS:
        raise ValueError(f'{name} is {shown(size)}; it must be {{"height": pixels, "width": pixels}}.')
    return size


def _resample(name: str, value: Any) -> Image.Resampling:
    try:
        return Image.Resampling(value)
    except ValueError:
        filters = ", ".join(f"{one.value} ({one.name.lower()})" for one in Image.Resampling)
        raise ValueError(f"{name} is {shown(value)}; it must be one of PIL's filters: {filters}.") from None


def _number(name: str, value: Any) -> int | float:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not abs(value) <= LARGEST_NUMBER:  # NaN is not below either
        raise ValueError(f"{name} is {shown(value)}; it must be a number that a 32-bit float can hold.")
    return value.item() if isinstance(value, np.number) else value


def _mean(name: str, value: Any) -> float | list[float]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        return _number(name, value)
    if not value:
        raise ValueError(f"{name} is empty; it must have one value for each channel.")
    return [_number(name, one) for one in value]


def _std(name: str, value: Any) -> float | list[float]:
    std = _mean(name, value)
    if np.any(np.asarray(std, np.float32) <= 0):
        raise ValueError(f"{name} is {shown(std)}; pixels are divided by it, so it must be above 0.")
    return std


def _for_channels(values: float | list[float]) -> ChannelValues:
    return tuple(values) if isinstance(values, list) else values


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "do_resize": _flag,
    "size": _size,
    "resample": _resample,
    "do_center_crop": _flag,
    "crop_size": _crop_size,
    "do_rescale": _flag,
    "rescale_factor": _number,
    "do_normalize": _flag,
    "image_mean": _mean,
    "image_std": _std,
    "do_convert_rgb": _flag,
    "draft": _flag,
}
