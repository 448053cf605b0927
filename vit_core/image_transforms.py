"""The steps from pixels to a model's input, bit for bit those of transformers 4.47 (`image_transforms.py` there).

Images are resized as 8-bit pixels. What comes after is done in `vit_core.value_line` and `vit_core.value_table`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from vit_core.images import PIL_MODES, strips
from vit_core.picture_memory import pixels_in_place

#: Mean and standard deviation, one value for each channel or one for all.
ChannelValues = tuple[float, ...] | float

#: A part of an image, (left, upper, right, lower) in pixels and fractions of them.
Box = tuple[float, float, float, float]


def to_8_bit(pixels: np.ndarray, name: str) -> tuple[np.ndarray, bool]:
    """Pixels as PIL can resize them.

    Args:
        pixels: array of whole numbers from 0 to 255 (of whatever dtype) or of fractions from 0 to 1.
        name: what to call the image in an error.

    Returns:
        The pixels as uint8, and whether they were fractions. Those are cut off, not rounded, as transformers does.

    Raises:
        ValueError: there are values of another kind.
    """
    if pixels.dtype == np.uint8:
        return pixels, False
    low, high = pixels.min(), pixels.max()
    if low >= 0 and high <= 255 and np.allclose(pixels, pixels.astype(np.int64)):
        return pixels.astype(np.uint8), False
    if low >= 0 and high <= 1:
        return rescale(pixels, 255).astype(np.uint8), True
    raise not_8_bit(name, low, high)


def not_8_bit(name: str, low: float, high: float) -> ValueError:
    """The error for an image that would have to be resized and is neither 0..255 nor 0..1."""
    return ValueError(
        f"{name} has values from {low:g} to {high:g}; to be resized, an image has whole numbers from 0 to 255 or "
        "fractions from 0 to 1. Scale or round it, or resize it yourself and pass do_resize=False."
    )


def resize(
    pixels: Image.Image | np.ndarray,
    size: tuple[int, int],
    resample: Image.Resampling,
    box: Box | None = None,
    *,
    reducing_gap: float | None = None,
) -> Image.Image:
    """Resize an image with PIL.

    Args:
        pixels: a PIL image, or a uint8 array of shape (height, width, channels).
        size: new (height, width) in pixels.
        resample: PIL's filter.
        box: the part to resize; all of it unless given.
        reducing_gap: as in `PIL.Image.Image.resize`.

    Returns:
        A PIL image.

    Raises:
        ValueError: there are more than four channels.
    """
    if isinstance(pixels, np.ndarray):
        if pixels.shape[2] not in PIL_MODES:
            count = pixels.shape[2]
            raise ValueError(f"{count} channels cannot be resized; resize images yourself and pass do_resize=False.")
        pixels = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    height, width = size
    return pixels.resize((width, height), resample, box, reducing_gap)


def resize_fractions(
    pixels: np.ndarray, size: tuple[int, int], resample: Image.Resampling, box: Box | None = None
) -> np.ndarray:
    """Resize an image of floats with PIL, which rounds nothing then.

    Args:
        pixels: array of shape (height, width, channels).
        size: new (height, width) in pixels.
        resample: PIL's filter.
        box: the part to resize; all of it unless given.

    Returns:
        float32 array of shape (new height, new width, channels).
    """
    height, width = size
    planes = (Image.fromarray(np.ascontiguousarray(plane, np.float32)) for plane in np.moveaxis(pixels, 2, 0))
    return np.stack([np.asarray(plane.resize((width, height), resample, box)) for plane in planes], axis=2)


def center_crop(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of an image, with zeros around it where the image is too small.

    Args:
        pixels: array of shape (height, width, channels).
        size: new (height, width) in pixels.

    Returns:
        Array of shape (new height, new width, channels), a view unless there are zeros to add.
    """
    (from_rows, to_rows), (from_columns, to_columns) = map(crop_window, pixels.shape[:2], size)
    middle = pixels[from_rows, from_columns]
    if middle.shape[:2] == size:
        return middle
    padded = np.zeros((*size, pixels.shape[2]), pixels.dtype)
    padded[to_rows, to_columns] = middle
    return padded


def center_crop_picture(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """`center_crop` of a PIL image."""
    height, width = size
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def channels_of(pixels: Image.Image | np.ndarray) -> np.ndarray:
    """An image with its channels first.

    Args:
        pixels: a PIL image of one of `PIL_MODES`, or an array of shape (height, width, channels).

    Returns:
        A view of shape (channels, height, width) of the image where it lies, if that can be had; not to be written to.
    """
    if isinstance(pixels, Image.Image):
        values = pixels_in_place(pixels)
        pixels = np.atleast_3d(np.asarray(pixels)) if values is None else values[:, :, :3]
    return pixels.transpose(2, 0, 1)


def crop_window(length: int, target: int) -> tuple[slice, slice]:
    """What a centre crop takes along one axis, and where it puts it: of an odd remainder the larger half comes last
    when cutting, and first when padding.

    Args:
        length: size of the image.
        target: size wanted.

    Returns:
        The slice of the image and the slice of the result.
    """
    start = (length - target) // 2
    if start >= 0:
        return slice(start, start + target), slice(0, target)
    return slice(0, length), slice(-start, length - start)


def rescale(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Multiply in float64 and round to float32."""
    scaled = np.empty(pixels.shape, np.float32)
    for rows in strips(pixels.shape):
        scaled[rows] = pixels[rows].astype(np.float64) * factor
    return scaled


def rescale_and_normalize(
    pixels: np.ndarray,
    rescale_factor: float | None,
    mean: ChannelValues | None,
    std: ChannelValues | None,
) -> np.ndarray:
    """The arithmetic after resizing and cropping.

    Args:
        pixels: array whose last axis is the channels.
        rescale_factor: multiplies the pixels; None for no rescaling.
        mean: is subtracted; None for no normalisation.
        std: divides what remains; None for no normalisation.

    Returns:
        float32 after any step, except that normalising floats alone keeps their dtype.
    """
    if rescale_factor is not None:
        pixels = rescale(pixels, rescale_factor)
    if mean is not None:
        if pixels.dtype.kind != "f":
            pixels = pixels.astype(np.float32)
        pixels = (pixels - np.array(mean, pixels.dtype)) / np.array(std, pixels.dtype)
    return pixels
