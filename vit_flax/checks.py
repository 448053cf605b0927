"""What inputs must be. Shapes are known while a function is traced, so this works under jit, too."""

from __future__ import annotations

from typing import Any

from vit_core import PretrainedConfig
from vit_core.patches import grid_of

CHANNELS_FIRST = ("channels", "height", "width")
CHANNELS_LAST = ("height", "width", "channels")


def check_images(pixel_values: Any, axes: tuple[str, str, str]) -> None:
    """Check that images are an array with four axes.

    Args:
        pixel_values: what may be one.
        axes: `CHANNELS_FIRST` or `CHANNELS_LAST`.

    Raises:
        TypeError: they are no array.
        ValueError: they are missing or have other axes.
    """
    if pixel_values is None:
        raise ValueError(f"pixel_values are missing; pass images of shape (batch, {', '.join(axes)}).")
    if not hasattr(pixel_values, "shape"):
        raise TypeError(
            f"pixel_values are a {type(pixel_values).__name__}; pass an array, such as an image processor returns."
        )
    if len(shape := tuple(pixel_values.shape)) != 4:
        raise ValueError(f"pixel_values have shape {shape}; they need (batch, {', '.join(axes)}).")


def check_pixel_values(
    pixel_values: Any, config: PretrainedConfig, axes: tuple[str, str, str], interpolate_pos_encoding: bool
) -> None:
    """Check that images fit the model.

    Args:
        pixel_values: an array.
        config: the model's.
        axes: `CHANNELS_FIRST` or `CHANNELS_LAST`.
        interpolate_pos_encoding: whether they may have any size.

    Raises:
        TypeError: they are no array.
        ValueError: they do not fit.
    """
    check_images(pixel_values, axes)
    shape = tuple(pixel_values.shape)
    sizes = dict(zip(axes, shape[1:], strict=True))
    if sizes["channels"] != config.num_channels:
        raise ValueError(
            f"pixel_values of shape {shape} have {sizes['channels']} channels, the model takes {config.num_channels}; "
            f"channels come {'first' if axes == CHANNELS_FIRST else 'last'}."
        )
    image = (sizes["height"], sizes["width"])
    may_differ = interpolate_pos_encoding or config.architecture.resamples_unasked
    # Images with as many patches fit, whatever these leave of them.
    if not may_differ and grid_of(image, config.patch_shape) != config.grid:
        raise ValueError(
            f"images of {_by(image)} pixels do not fit a model for {_by(config.image_shape)}; resize them, or call "
            f"with interpolate_pos_encoding=True."
        )
    if any(size < patch for size, patch in zip(image, config.patch_shape, strict=True)):
        raise ValueError(
            f"images of {_by(image)} pixels are smaller than one patch of {_by(config.patch_shape)}; make them larger."
        )


def check_per_patch(name: str, array: Any, batch: int, patches: int) -> None:
    """Check that an array, such as a mask, has one entry for each patch.

    Raises:
        ValueError: it has not.
    """
    if tuple(array.shape) != (batch, patches):
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}; one entry for each patch is needed, {(batch, patches)}."
        )


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
