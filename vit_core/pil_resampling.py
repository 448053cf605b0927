"""PIL's resizing as two matrices of integers, for devices that PIL does not run on.

PIL resizes 8-bit images one axis after the other, with weights in fixed point, and rounds to 8 bits after each
(`src/libImaging/Resample.c` in Pillow). Sums of such products are whole numbers far below 2**53, so float64 matrix
products with these weights give PIL's pixels exactly, in whatever order a device adds them up.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import PIL
from PIL import Image

#: Fractional bits of PIL's weights (PRECISION_BITS).
WEIGHT_BITS = 22
WEIGHT_ONE = 2**WEIGHT_BITS
WEIGHT_HALF = 2 ** (WEIGHT_BITS - 1)

#: Since this version PIL resizes the axis first that leaves it less to do; before, always the width.
CHOOSES_AXIS = int(PIL.__version__.split(".")[0]) >= 13


def _box(x: np.ndarray) -> np.ndarray:
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def _bilinear(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


#: PIL has these as single-precision constants.
HAMMING_BASE, HAMMING_WAVE = float(np.float32(0.54)), float(np.float32(0.46))


def _hamming(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 1, np.sinc(x) * (HAMMING_BASE + HAMMING_WAVE * np.cos(np.pi * x)), 0.0)


def _bicubic(x: np.ndarray) -> np.ndarray:
    a, x = -0.5, np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where((x >= -3) & (x < 3), np.sinc(x) * np.sinc(x / 3), 0.0)


def _magic_kernel_sharp_2013(x: np.ndarray) -> np.ndarray:
    """Costella's kernel, https://johncostella.com/magic/, as in Pillow 13."""
    x = np.abs(x)
    pieces = [1.0625 - 1.75 * x * x, (1 - x) * (1.75 - x), -0.125 * (x - 2.5) * (x - 2.5)]
    return np.select([x < 0.5, x < 1.5, x < 2.5], pieces, 0.0)


def _magic_kernel_sharp_2021(x: np.ndarray) -> np.ndarray:
    """The same author's kernel with more zeros in its spectrum, ibidem."""
    x = np.abs(x)
    pieces = [
        577 / 576 - 239 / 144 * x * x,
        (140 * x * x - 379 * x + 239) / 144,
        -(24 * x * x - 113 * x + 130) / 144,
        (4 * x * x - 27 * x + 45) / 144,
        -(4 * x * x - 36 * x + 81) / 1152,
    ]
    return np.select([x < 0.5, x < 1.5, x < 2.5, x < 3.5, x < 4.5], pieces, 0.0)


#: By PIL's number (the last two came with Pillow 13): a filter's function, and how far it reaches in pixels of the
#: smaller image.
FILTERS: dict[int, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    1: (_lanczos, 3.0),
    2: (_bilinear, 1.0),
    3: (_bicubic, 2.0),
    4: (_box, 0.5),
    5: (_hamming, 1.0),
    6: (_magic_kernel_sharp_2013, 2.5),
    7: (_magic_kernel_sharp_2021, 4.5),
}


def height_first(old_size: tuple[int, int], new_size: tuple[int, int]) -> bool:
    """Whether PIL resizes an image's height before its width, which shows in the rounding.

    Found by comparing both orders with what Pillow 10.1 to 13.0 return; the documentation does not tell.

    Args:
        old_size: (height, width) of the image.
        new_size: (height, width) wanted.

    Returns:
        True for height and then width.
    """
    rows_fewer, columns_fewer = old_size[0] - new_size[0], old_size[1] - new_size[1]
    return CHOOSES_AXIS and rows_fewer > max(0, 2 * columns_fewer)


def resampling_weights(old_length: int, new_length: int, resample: Image.Resampling) -> np.ndarray:
    """The matrix that resizes one axis, in units of 1 / `WEIGHT_ONE`.

    A resized value is `(weights @ values + WEIGHT_HALF) // WEIGHT_ONE`, clipped to 0..255.

    Args:
        old_length: pixels along the axis, at least 1.
        new_length: pixels wanted, at least 1; PIL leaves an axis alone whose length does not change.
        resample: PIL's filter.

    Returns:
        float64 array of whole numbers, of shape (new_length, old_length).
    """
    weights = np.zeros((new_length, old_length))
    rows = np.arange(new_length)
    scale = old_length / new_length
    if resample is Image.Resampling.NEAREST:
        # PIL adds the scale up pixel by pixel (Geometry.c, ImagingScaleAffine), with the rounding errors of that.
        steps = np.full(new_length, scale)
        steps[0] = scale * 0.5
        weights[rows, np.minimum(np.add.accumulate(steps).astype(np.int64), old_length - 1)] = WEIGHT_ONE
        return weights
    function, reach = FILTERS[resample]
    stretch = max(scale, 1.0)
    reach *= stretch
    centres = (rows + 0.5) * scale
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + reach + 0.5).astype(np.int64), old_length)
    columns = first[:, None] + np.arange(2 * math.ceil(reach) + 1)
    inside = columns < last[:, None]
    taps = np.where(inside, function((columns - centres[:, None] + 0.5) * (1 / stretch)), 0.0)
    taps /= np.add.accumulate(taps, axis=1)[:, -1:]  # adds from left to right, as PIL does
    fixed = np.trunc(taps * WEIGHT_ONE + np.copysign(0.5, taps))
    np.add.at(weights, (np.broadcast_to(rows[:, None], columns.shape)[inside], columns[inside]), fixed[inside])
    return weights
