"""Anything an image can be - a PIL image, a file, encoded bytes, an array or tensor - becomes pixels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from PIL import Image

from vit_core.image_draft import Draft
from vit_core.image_file import file_name, is_image_file, opened_picture, reading

#: PIL's mode for a number of channels.
PIL_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}

#: Modes whose colors are multiplied by alpha, and where they are not: PIL converts these no further.
PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}


#: Values of an image that are computed with at once.
STRIP = 2**20


class ChannelDimension(StrEnum):
    """Where an array has its channels."""

    FIRST = "channels_first"
    LAST = "channels_last"


def list_images(images: Any) -> list[Any]:
    """The images of a batch, each as it was given.

    Args:
        images: one image (see `ImageReader.read`), a list or another sequence of them, or a 4-D array or tensor.

    Returns:
        A list of at least one image.

    Raises:
        TypeError: this is nothing an image can be.
        ValueError: there are no images.
    """
    if is_array(images):
        return list(as_array(images, "the batch")) if len(images.shape) == 4 else [images]
    if isinstance(images, Sequence) and not is_image_file(images):
        if not len(images):
            raise ValueError("there are no images: the list is empty.")
        return list(images)
    return [images]


def is_array(image: Any) -> bool:
    """Whether this is an array or a tensor of whatever framework."""
    return hasattr(image, "shape") and (hasattr(image, "__array__") or hasattr(image, "__dlpack__"))


def as_array(image: Any, name: str) -> np.ndarray:
    """A NumPy array of an array or tensor; no framework is imported, and nothing is copied that need not be.

    Args:
        image: an array or tensor, on whatever device, with or without gradient; bfloat16 becomes float32.
        name: what to call the image in an error.

    Returns:
        Array of booleans, integers or finite floats, no axis of which is empty.

    Raises:
        TypeError: the values are no numbers, or the framework does not give them away.
        ValueError: an axis is empty, or there are NaN or infinite values.
    """
    try:
        if hasattr(image, "detach"):  # a torch tensor: NumPy takes none with a gradient, on a device, or in bfloat16
            image = image.detach().cpu()
            image = image.float() if str(image.dtype) == "torch.bfloat16" else image
        array = np.asarray(image) if hasattr(image, "__array__") else np.from_dlpack(image)
    except Exception as error:  # each framework has its own
        raise TypeError(f"{name} cannot be read as an array ({type(image).__name__}: {error})") from error
    if array.dtype.name == "bfloat16":  # NumPy knows it only as a type of somebody else's
        array = array.astype(np.float32)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} is an array of {array.dtype}; pixels are integers or floats.")
    if array.size == 0:
        raise ValueError(f"{name} has no pixels: its shape is {array.shape}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} has NaN or infinite values; pixels must be finite numbers.")
    return array


@dataclass(frozen=True)
class ImageReader:
    """Reads images as pixels of a model's channels.

    Attributes:
        channels: what pictures get: 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha) channels. PIL images, files
            and 2-D arrays are converted; 3-D arrays have their channels already.
        strict: whether 3-D arrays must have `channels` channels, or be gray (which is repeated).
        array_format: where 3-D arrays have their channels; worked out from each shape if None.
        convert_rgb: convert pictures to RGB as PIL does, where 16-bit gray is clipped to 8 bits rather than scaled.
    """

    channels: int = 3
    strict: bool = True
    array_format: ChannelDimension | None = None
    convert_rgb: bool = False

    def read(
        self, image: Any, name: str, admit: Callable[[int], object] = bool, draft: Draft | None = None
    ) -> Image.Image | np.ndarray:
        """Read one image.

        Args:
            image: a PIL image (its current frame, as it is), an image file (a path, its bytes, an open file, or a row
                {"bytes": ..., "path": ...}; turned as its EXIF data say), or a 2-D or 3-D array or tensor.
            name: what to call the image in an error, unless it has a path.
            admit: called with the number of a file's pixels before they are decoded; may wait.
            draft: as in `opened_picture`.

        Returns:
            A loaded PIL image of one of `PIL_MODES`, or an array of shape (height, width, channels) and its own dtype.

        Raises:
            OSError: the file is missing, is empty, is cut short or is no image.
            TypeError: this is nothing an image can be.
            ValueError: the image has no pixels, too many, several frames, or not the model's channels.
        """
        if isinstance(image, Image.Image):
            with reading(name):
                image.load()
            return self._picture(image, name)
        if is_array(image):
            return self._array(as_array(image, name), name)
        if is_image_file(image):
            name = file_name(image, name)
            with opened_picture(image, name, admit, draft) as picture:
                return self._picture(picture, name)
        raise TypeError(
            f"{name} is a {type(image).__name__}; an image is a PIL image, a path, the bytes of an image file, "
            "an open file, or an array or tensor."
        )

    def _picture(self, picture: Image.Image, name: str) -> Image.Image:
        if 0 in picture.size:
            raise ValueError(f"{name} has no pixels: it is {picture.width} x {picture.height}.")
        if self.channels not in PIL_MODES:
            raise ValueError(f"{name} is a picture, and no picture has the {self.channels} channels of image_mean.")
        if self.convert_rgb:
            picture = _convert(picture, "RGB", name)
            if self.channels != 3:
                raise ValueError(
                    f"do_convert_rgb=True makes {name} RGB, but image_mean has {self.channels} values; "
                    "pass do_convert_rgb=False or a mean for three channels."
                )
        elif picture.mode in {"I", "F"} or picture.mode.startswith("I;16"):
            picture = _scaled_to_8_bit(picture, name)
        return _convert(picture, PIL_MODES[self.channels], name)

    def _array(self, array: np.ndarray, name: str) -> np.ndarray:
        axis = self.channel_axis(array.shape, name)
        array = array[:, :, None] if axis is None else np.moveaxis(array, axis, 2)
        channels = self.array_channels(array.shape[2], axis, name)
        return array if array.shape[2] == channels else np.broadcast_to(array, (*array.shape[:2], channels))

    def channel_axis(self, shape: tuple[int, ...], name: str) -> int | None:
        """Which axis of an array is the channels.

        Args:
            shape: shape of one image.
            name: what to call the image in an error.

        Returns:
            0 or 2; None for a gray image of two axes.

        Raises:
            ValueError: there are not two or three axes, or the shape says too little.
        """
        if len(shape) == 2:
            return None
        if len(shape) != 3:
            raise ValueError(
                f"{name} has shape {tuple(shape)}; an image has the axes (height, width) and perhaps channels, "
                "and one more axis makes a batch, which is passed alone."
            )
        if self.array_format is not None:
            return 0 if self.array_format is ChannelDimension.FIRST else 2
        for counts in [{self.channels}, {1}] if self.strict else [{1, 3}]:
            axes = [axis for axis in (0, 2) if shape[axis] in counts]
            if len(axes) == 1:
                return axes[0]
            if len(axes) == 2:  # transformers guesses likewise
                warnings.warn(
                    f"{name} has shape {tuple(shape)}, in which the first and the last axis could be the channels; "
                    'the first is taken. Pass input_data_format="channels_first" or "channels_last" to say which.',
                    stacklevel=2,
                )
                return 0
        wanted = str(self.channels) if self.strict else "1 or 3"
        raise ValueError(
            f"{name} has shape {tuple(shape)}, in which neither the first nor the last axis is {wanted} channels; "
            "convert the image, or pass input_data_format if this is another number of channels."
        )

    def array_channels(self, count: int, axis: int | None, name: str) -> int:
        """How many channels an array's image gets: its own, or those of the model that its gray is repeated over.

        Args:
            count: channels that the array has.
            axis: its channel axis, None if it has two axes.
            name: what to call the image in an error.

        Returns:
            The number of channels.

        Raises:
            ValueError: the model's channels are others, and this is not gray.
        """
        if count == self.channels or (axis is not None and not self.strict):
            return count
        if count == 1 and self.channels == 3:
            return 3
        raise ValueError(f"{name} has {count} channels, but image_mean and image_std are for {self.channels}.")


def _convert(picture: Image.Image, mode: str, name: str) -> Image.Image:
    """As PIL converts: alpha is dropped and not composited, since that is what models are trained on."""
    if picture.mode == mode:
        return picture
    way = PREMULTIPLIED.get(picture.mode)
    if picture.mode == "P" and "transparency" in picture.info:  # PIL warns about the direct way, with the same result
        way = "RGBA"
    try:
        return picture.convert(way).convert(mode) if way else picture.convert(mode)
    except ValueError as error:
        raise ValueError(f"{name} has PIL mode {picture.mode}, which PIL cannot convert to {mode}.") from error


def _scaled_to_8_bit(picture: Image.Image, name: str) -> Image.Image:
    """Gray of 16 bits, or of integers or floats in a range that is plain to see, as gray of 8 bits."""
    values = as_array(np.asarray(picture), name)
    low, high = values.min(), values.max()

    def levels(values: np.ndarray) -> np.ndarray:
        if values.dtype.kind == "f":
            return values * 255 if high <= 1 else values
        return values / 257 if picture.mode != "I" or high > 255 else values  # 65535 is 255 * 257

    if low < 0 or levels(high) > 255:
        raise ValueError(
            f"{name} has values from {low} to {high}, which are neither 8-bit nor 16-bit gray; scale it to 0..255."
        )
    scaled = np.empty(values.shape, np.uint8)
    for rows in strips(values.shape):
        scaled[rows] = np.rint(levels(values[rows]))
    return Image.fromarray(scaled)


def strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Some rows after the other, so that what is computed of them never takes as much memory as the image."""
    step = max(1, STRIP // max(1, math.prod(shape[1:])))
    return (slice(start, start + step) for start in range(0, shape[0], step))
