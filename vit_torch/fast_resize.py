"""Resizing on the CPU with PyTorch's own code for 8-bit images, which takes vectors of pixels where PIL takes one."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from vit_core import image_transforms
from vit_core.image_transforms import Box
from vit_core.picture_memory import pixels_in_place
from vit_core.pil_resampling import height_first

#: PyTorch's names of PIL's filters that it has.
MODES = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}


def resize(
    pixels: Image.Image | np.ndarray,
    size: tuple[int, int],
    resample: Image.Resampling,
    box: Box | None = None,
) -> Image.Image | np.ndarray:
    """Resize an image with PyTorch, and with PIL what PyTorch has no fast code for.

    PyTorch's weights have 16 bits, PIL's 22. Of a photograph's values, one in some hundreds is off by one level.

    Args:
        pixels: a PIL image, or a uint8 array of shape (height, width, channels).
        size: new (height, width) in pixels.
        resample: PIL's filter. PyTorch has the bilinear and the bicubic one, and resizes the width first, which PIL
            does not with some tall images.
        box: the part to resize; all of it unless given. PyTorch resizes whole images.

    Returns:
        A PIL image, or a uint8 array of shape (new height, new width, channels).

    Raises:
        ValueError: there are more than four channels.
    """
    values = _pixels(pixels) if resample in MODES and box is None else None
    if values is None or height_first(values.shape[:2], size):
        return image_transforms.resize(pixels, size, resample, box)
    if not (values.flags.c_contiguous and values.flags.writeable):  # PyTorch warns of what it could write to
        values = np.array(values, order="C")
    batch = torch.from_numpy(values)[None].permute(0, 3, 1, 2)  # channels last in memory
    resized = torch.nn.functional.interpolate(batch, size=size, mode=MODES[resample], antialias=True)
    return resized[0, :3].permute(1, 2, 0).numpy()


def _pixels(image: Image.Image | np.ndarray) -> np.ndarray | None:
    """The pixels as PyTorch takes them; None for other channels than three, of which PIL takes the last for alpha."""
    if isinstance(image, Image.Image):
        return pixels_in_place(image)
    return image if image.shape[2] == 3 else None
