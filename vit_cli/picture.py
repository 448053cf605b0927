"""What all pictures of the command share: the file, its measures, and panels with words above them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vit_cli.output_file import check_writable
from vit_cli.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST_NUMBER_OF_IMAGES = 24
#: Characters that fit above two panels in the letters of titles and of captions, and above one in those of captions.
LONGEST_TITLE, LONGEST_NAME, LONGEST_CAPTION = 30, 44, 27

SMALL: dict[str, Any] = {"fontsize": 7, "color": "0.4"}

# Inches.
IMAGE_WIDTH, GAP, MARGIN, TITLE_HEIGHT, FOOTER_HEIGHT = 1.5, 0.05, 0.25, 0.36, 0.7
# Dots per inch for pixel formats: enough for the pixels of the images, and never a picture that nothing can show.
RESOLUTION, HIGHEST_RESOLUTION, LONGEST_SIDE = 150, 300, 20_000


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
    check_writable(path, "picture")
    if path.resolve() in {image.resolve() for image in images}:
        raise ValueError(f"the picture would replace the image {path}; choose another name with --picture")


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


def new_figure(width: float, height: float, image_width: int) -> Figure:
    """A figure of a size in inches, fine enough for the pixels of images that are `IMAGE_WIDTH` wide."""
    from matplotlib.figure import Figure

    finest = min(HIGHEST_RESOLUTION, LONGEST_SIDE / max(width, height))
    return Figure((width, height), dpi=min(max(RESOLUTION, image_width / IMAGE_WIDTH), finest))


def image_height(height: int, width: int) -> float:
    """The height in inches of an image of so many pixels, which is `IMAGE_WIDTH` wide."""
    return IMAGE_WIDTH * min(max(height / width, 0.25), 4)


def write_picture(figure: Figure, path: Path) -> None:
    """Write a figure; the suffix of the file says the format.

    Raises:
        OSError: it cannot be written.
    """
    from vit_core.saving import write_file

    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a label in a script that the font lacks
        figure.savefig(data, format=path.suffix.lower().lstrip("."))
    write_file(path, data.getvalue())


def show_pixels(axes: Axes, pixels: np.ndarray) -> None:
    """Fill axes with an image, (height, width, channels) in [0, 1]; gray unless it has three channels."""
    height, width, channels = pixels.shape
    axes.imshow(pixels if channels == 3 else pixels.mean(axis=-1), cmap="gray", vmin=0, vmax=1)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="auto")
    axes.set_axis_off()


def shortened(text: str, longest: int) -> str:
    """The text in one line of so many characters, without its middle if it is longer."""
    text = printable(text)
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def write(axes: Axes, text: str, across: float, points_above: float, **style: Any) -> None:
    """Write above axes; `across` is 0 at their left and 1 at their right. Nothing in the text is a formula."""
    axes.annotate(
        text, (across, 1), (0, points_above), "axes fraction", textcoords="offset points", parse_math=False, **style
    )
