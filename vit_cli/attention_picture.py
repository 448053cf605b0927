"""A picture of where a model looked: maps of its attention, laid over the images."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vit_cli.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST_NUMBER_OF_IMAGES = 24
COLUMNS = 4  # of images that have one map each
#: Characters that fit above two panels in the letters of titles and of captions, and above one in those of captions.
LONGEST_TITLE, LONGEST_NAME, LONGEST_CAPTION = 30, 44, 27
MASKED_BRIGHTNESS = 0.3

SMALL: dict[str, Any] = {"fontsize": 7, "color": "0.4"}

# Inches.
IMAGE_WIDTH, GAP, MARGIN, TITLE_HEIGHT, FOOTER_HEIGHT = 1.5, 0.05, 0.25, 0.36, 0.7
# Dots per inch for pixel formats: enough for the pixels of the images, and never a picture that nothing can show.
RESOLUTION, HIGHEST_RESOLUTION, LONGEST_SIDE = 150, 300, 20_000


@dataclass(frozen=True)
class PicturedMap:
    """One map, to be laid over its image.

    Attributes:
        weights: (patches,), how much the model looked at each patch, row by row of the image.
        caption: what stands above it.
        kept: (patches,), bool, the patches that are shown; the others are masked. All are shown unless given.
    """

    weights: np.ndarray
    caption: str = ""
    kept: np.ndarray | None = None


@dataclass(frozen=True)
class PicturedImage:
    """One image of the picture.

    Attributes:
        title: what stands above it and its first map, of about `LONGEST_TITLE` characters.
        pixels: what the model saw, (height, width, channels), in [0, 1].
        patch_shape: height and width of a patch in pixels.
        maps: one or more.
        caption: what stands in small letters below the title.
    """

    title: str
    pixels: np.ndarray
    patch_shape: tuple[int, int]
    maps: Sequence[PicturedMap]
    caption: str = ""


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


def check_picture_file(path: Path, images: Iterable[Path] = ()) -> None:
    """Find out before the work whether the picture can be drawn and written.

    Args:
        path: the file.
        images: files that it must not replace.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: no file can be written there.
        ValueError: the file's suffix names no format, or it is one of the images.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ModuleNotFoundError as error:
        raise ImportError('a picture needs matplotlib; run: pip install "trivit[cli]"') from error
    if path.suffix.lower().lstrip(".") not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"{path} has no suffix of a picture; choose a name such as {path.stem or 'picture'}.png")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; choose the name of a file for the picture")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"{path} cannot be written: {folder} is no folder")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{path} cannot be written: the folder {folder} is read-only")
    if path.resolve() in {image.resolve() for image in images}:
        raise ValueError(f"the picture would replace the image {path}; choose another name with --picture")


def draw_picture(path: Path, images: Sequence[PicturedImage], scale: str) -> None:
    """Draw the images, each followed by its maps, and write the picture.

    With one map an image, several images stand in a row; otherwise each has a row of its own.

    Args:
        path: the file; its suffix says the format.
        images: one or more, of one size and with as many maps each.
        scale: what the colours stand for.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.figure import Figure

    from vit_core.saving import write_file

    panels = 1 + len(images[0].maps)
    columns = min(COLUMNS, len(images)) if panels == 2 else 1
    rows = math.ceil(len(images) / columns)
    height, width, _ = images[0].pixels.shape
    image_height = IMAGE_WIDTH * min(max(height / width, 0.25), 4)
    column_width = panels * IMAGE_WIDTH + (panels - 1) * GAP + MARGIN
    row_height = image_height + TITLE_HEIGHT + MARGIN
    size = (columns * column_width + MARGIN, rows * row_height + FOOTER_HEIGHT)
    figure = Figure(size, dpi=min(max(RESOLUTION, width / IMAGE_WIDTH), HIGHEST_RESOLUTION, LONGEST_SIDE / max(size)))
    for place, image in enumerate(images):
        left = MARGIN + (place % columns) * column_width
        bottom = size[1] - (place // columns) * row_height - TITLE_HEIGHT - MARGIN - image_height
        lefts = [left + panel * (IMAGE_WIDTH + GAP) for panel in range(panels)]
        _draw_image([_add_axes(figure, left, bottom, IMAGE_WIDTH, image_height) for left in lefts], image)
    _draw_scale(figure, scale)
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a label in a script that the font lacks
        figure.savefig(data, format=path.suffix.lower().lstrip("."))
    write_file(path, data.getvalue())


def shortened(text: str, longest: int) -> str:
    """The text in one line of so many characters, without its middle if it is longer."""
    text = printable(text)
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def _add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _draw_image(panels: Sequence[Axes], image: PicturedImage) -> None:
    plain, *overlaid = panels
    gray = image.pixels.mean(axis=-1)
    is_color = image.pixels.shape[-1] == 3
    plain.imshow(image.pixels if is_color else gray, cmap="gray", vmin=0, vmax=1)
    for axes, each in zip(overlaid, image.maps, strict=True):
        _draw_map(axes, each, gray, image.patch_shape)
        _write(axes, shortened(each.caption, LONGEST_CAPTION), 0, 4, **SMALL)
    height, width = gray.shape
    for axes in panels:
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="auto")
        axes.set_axis_off()
    _write(plain, image.title, 0, 14, fontsize=11, fontweight="bold")
    _write(plain, shortened(image.caption, LONGEST_NAME), 0, 4, **SMALL)


def _draw_map(axes: Axes, drawn: PicturedMap, gray: np.ndarray, patch_shape: tuple[int, int]) -> None:
    """Lay a map over its image in gray, and darken what is masked."""
    axes.imshow(gray, cmap="gray", vmin=0, vmax=1)
    (height, width), (patch_height, patch_width) = gray.shape, patch_shape
    rows, columns = height // patch_height, width // patch_width
    axes.imshow(
        _stretch(drawn.weights).reshape(rows, columns),
        cmap="inferno",
        alpha=0.65,
        vmin=0,
        vmax=1,
        interpolation="catrom" if drawn.kept is None else "nearest",  # both keep the values in the middle of patches
        extent=(-0.5, columns * patch_width - 0.5, rows * patch_height - 0.5, -0.5),  # what is left over is not seen
    )
    if drawn.kept is not None:
        masked = np.ones(gray.shape)
        masked[: rows * patch_height, : columns * patch_width] = np.kron(
            ~drawn.kept.reshape(rows, columns), np.ones(patch_shape)
        )
        axes.imshow(np.dstack([MASKED_BRIGHTNESS * gray] * 3 + [masked]), interpolation="nearest")


def _draw_scale(figure: Figure, meaning: str) -> None:
    """What the colours of the overlay mean."""
    from matplotlib.cm import ScalarMappable

    across = figure.get_size_inches()[0]
    width = min(4.0, across - 4 * MARGIN)
    axes = _add_axes(figure, (across - width) / 2, 0.25, width, 0.08)
    scale = figure.colorbar(ScalarMappable(cmap="inferno"), cax=axes, orientation="horizontal", ticks=[])
    scale.outline.set_visible(False)
    _write(axes, "looked least", 0, -18, **SMALL)
    _write(axes, "most", 1, -18, ha="right", **SMALL)
    _write(axes, meaning, 0.5, 4, ha="center", **SMALL)


def _write(axes: Axes, text: str, across: float, points_above: float, **style: Any) -> None:
    """Write above axes; `across` is 0 at their left and 1 at their right. Nothing in the text is a formula."""
    axes.annotate(
        text, (across, 1), (0, points_above), "axes fraction", textcoords="offset points", parse_math=False, **style
    )


def _stretch(weights: np.ndarray) -> np.ndarray:
    """The weights over the whole range from 0 to 1; all 0 if they are equal."""
    low, high = weights.min(), weights.max()
    return (weights - low) / (high - low) if high > low else np.zeros_like(weights)
