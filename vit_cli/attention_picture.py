"""A picture of where a model looked: attention rollout, laid over the images."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vit_cli.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST_NUMBER_OF_IMAGES = 24
COLUMNS = 4  # of images, each shown twice
LONGEST_LABEL, LONGEST_NAME = 20, 44  # characters that fit above the two

SMALL: dict[str, Any] = {"fontsize": 7, "color": "0.4"}

# Inches.
IMAGE_WIDTH, GAP, MARGIN, TITLE_HEIGHT, FOOTER_HEIGHT = 1.5, 0.05, 0.25, 0.36, 0.7
RESOLUTION = 150  # dots per inch, for pixel formats


@dataclass(frozen=True)
class PicturedImage:
    """One image of the picture.

    Attributes:
        name: the file's name.
        label: the model's answer.
        score: its probability.
        pixels: what the model saw, (height, width, channels), in [0, 1].
        weights: (patches,), how much of the class token comes from each patch, row by row of the image.
        patch_shape: height and width of a patch in pixels.
    """

    name: str
    label: str
    score: float
    pixels: np.ndarray
    weights: np.ndarray
    patch_shape: tuple[int, int]


def class_token_rollout(attentions: Sequence[np.ndarray]) -> np.ndarray:
    """How much of the class token, after the last layer, comes from each patch.

    Attention rollout (Abnar & Zuidema 2020, https://arxiv.org/abs/2005.00928): a layer mixes tokens by the mean of its
    heads' attention and passes half of each token on unchanged through the residual connection; the product over the
    layers says where a token comes from. Only the class token's row of that product is computed.

    Args:
        attentions: for each layer (batch, heads, 1 + patches, 1 + patches); rows sum to one.

    Returns:
        (batch, patches); non-negative, and at most one in sum, since the rest is the class token itself.

    Raises:
        ValueError: there is no layer.
    """
    if not attentions:
        raise ValueError("a model without layers looks nowhere; there are no attentions to follow")
    batch, _, tokens, _ = attentions[0].shape
    row = np.zeros((batch, 1, tokens))
    row[:, :, 0] = 1.0
    for attention in reversed(attentions):
        mixing = attention.mean(axis=1, dtype=np.float64) + np.eye(tokens)
        row = row @ (mixing / mixing.sum(axis=-1, keepdims=True))
    return row[:, 0, 1:]


def unprocess(pixel_values: np.ndarray, processor: Any) -> np.ndarray:
    """Turn what a processor made back into an image that can be shown.

    Args:
        pixel_values: (channels, height, width).
        processor: the image processor that made them.

    Returns:
        (height, width, channels), in [0, 1].
    """
    pixels = np.moveaxis(pixel_values.astype(np.float64), 0, -1)
    if processor.do_normalize:
        pixels = pixels * np.asarray(processor.image_std) + np.asarray(processor.image_mean)
    return np.clip(pixels / (255 * (processor.rescale_factor if processor.do_rescale else 1)), 0, 1)


def check_picture_file(path: Path) -> None:
    """Find out before the work whether the picture can be drawn.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the file's suffix names no format.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ModuleNotFoundError as error:
        raise ImportError('--picture needs matplotlib; run: pip install "trivit[cli]"') from error
    if path.suffix.lower().lstrip(".") not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"{path} has no suffix of a picture; choose a name such as {path.stem or 'picture'}.png")


def draw_picture(path: Path, images: Sequence[PicturedImage]) -> None:
    """Draw the images, each beside its overlay, and write the picture.

    Args:
        path: the file; its suffix says the format.
        images: one or more, of one size.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.figure import Figure

    from vit_core.saving import write_file

    columns = min(COLUMNS, len(images))
    rows = math.ceil(len(images) / columns)
    height, width, _ = images[0].pixels.shape
    image_height = IMAGE_WIDTH * min(max(height / width, 0.25), 4)
    pair_width, pair_height = 2 * IMAGE_WIDTH + GAP + MARGIN, image_height + TITLE_HEIGHT + MARGIN
    figure_height = rows * pair_height + FOOTER_HEIGHT
    figure = Figure((columns * pair_width + MARGIN, figure_height), dpi=RESOLUTION)
    for place, image in enumerate(images):
        left = MARGIN + (place % columns) * pair_width
        bottom = figure_height - (place // columns) * pair_height - TITLE_HEIGHT - MARGIN - image_height
        _draw_image(
            _add_axes(figure, left, bottom, IMAGE_WIDTH, image_height),
            _add_axes(figure, left + IMAGE_WIDTH + GAP, bottom, IMAGE_WIDTH, image_height),
            image,
        )
    _draw_scale(figure)
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a label in a script that the font lacks
        figure.savefig(data, format=path.suffix.lower().lstrip("."))
    write_file(path, data.getvalue())


def _add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _draw_image(plain: Axes, overlaid: Axes, image: PicturedImage) -> None:
    gray = image.pixels.mean(axis=-1)
    is_color = image.pixels.shape[-1] == 3
    plain.imshow(image.pixels if is_color else gray, cmap="gray", vmin=0, vmax=1)
    overlaid.imshow(gray, cmap="gray", vmin=0, vmax=1)
    (height, width), (patch_height, patch_width) = gray.shape, image.patch_shape
    rows, columns = height // patch_height, width // patch_width
    overlaid.imshow(
        _stretch(image.weights).reshape(rows, columns),
        cmap="inferno",
        alpha=0.65,
        vmin=0,
        vmax=1,
        interpolation="bicubic",
        extent=(-0.5, columns * patch_width - 0.5, rows * patch_height - 0.5, -0.5),  # what is left over is not seen
    )
    for axes in (plain, overlaid):
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="auto")
        axes.set_axis_off()
    _write(plain, f"{_shortened(image.label, LONGEST_LABEL)}  {image.score:.1%}", 0, 14, fontsize=11, fontweight="bold")
    _write(plain, _shortened(image.name, LONGEST_NAME), 0, 4, **SMALL)


def _draw_scale(figure: Figure) -> None:
    """What the colours of the overlay mean."""
    from matplotlib.cm import ScalarMappable

    across = figure.get_size_inches()[0]
    width = min(4.0, across - 4 * MARGIN)
    axes = _add_axes(figure, (across - width) / 2, 0.25, width, 0.08)
    scale = figure.colorbar(ScalarMappable(cmap="inferno"), cax=axes, orientation="horizontal", ticks=[])
    scale.outline.set_visible(False)
    _write(axes, "looked least", 0, -18, **SMALL)
    _write(axes, "most", 1, -18, ha="right", **SMALL)
    _write(axes, "attention rollout, each image on its own scale", 0.5, 4, ha="center", **SMALL)


def _write(axes: Axes, text: str, across: float, points_above: float, **style: Any) -> None:
    """Write above axes; `across` is 0 at their left and 1 at their right. Nothing in the text is a formula."""
    axes.annotate(
        text, (across, 1), (0, points_above), "axes fraction", textcoords="offset points", parse_math=False, **style
    )


def _stretch(weights: np.ndarray) -> np.ndarray:
    """The weights over the whole range from 0 to 1; all 0 if they are equal."""
    low, high = weights.min(), weights.max()
    return (weights - low) / (high - low) if high > low else np.zeros_like(weights)


def _shortened(text: str, longest: int) -> str:
    text = printable(text)
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"
