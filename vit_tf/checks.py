"""What inputs must be. What is known while a graph is traced is checked then, the rest each time it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from vit_core import PretrainedConfig
from vit_core.patches import grid_of

if TYPE_CHECKING:
    from tensorflow import Tensor


def require(is_right: bool | Tensor, message: str, *values: Any) -> None:
    """Check a condition on inputs.

    Args:
        is_right: whether it holds; a scalar tensor when a graph is to find out.
        message: what is wrong and what to do, with one {} for each of the values.
        *values: what the message shows, numbers or tensors.

    Raises:
        ValueError: it does not hold. While a graph runs, TensorFlow raises InvalidArgumentError with the same words;
            XLA leaves such checks out.
    """
    if tf.is_tensor(is_right) and not tf.executing_eagerly():
        texts = message.split("{}")
        tf.debugging.Assert(is_right, [part for pair in zip(texts, (*values, ""), strict=True) for part in pair])
    elif not is_right:
        raise ValueError(message.format(*(value.numpy() if tf.is_tensor(value) else value for value in values)))


def check_pixel_values(
    pixel_values: Any, config: PretrainedConfig, data_format: str, interpolate_pos_encoding: bool
) -> None:
    """Check that images fit the model.

    Args:
        pixel_values: an array or a tensor, also a symbolic one of Keras.
        config: the model's.
        data_format: the model's.
        interpolate_pos_encoding: whether they may have any size.

    Raises:
        ValueError: they do not fit; see `require` for graphs.
    """
    axes = ("channels", "height", "width") if data_format == "channels_first" else ("height", "width", "channels")
    if pixel_values is None:
        raise ValueError(f"pixel_values are missing; pass images of shape (batch, {', '.join(axes)}).")
    if not hasattr(pixel_values, "shape"):
        raise TypeError(
            f"pixel_values are a {type(pixel_values).__name__}; pass an array or tensor, such as an image processor "
            f"returns."
        )
    shape = tf.TensorShape(pixel_values.shape)
    if shape.rank != 4:
        raise ValueError(f"pixel_values have shape {_shown(shape)}; they need (batch, {', '.join(axes)}).")
    sizes = dict(zip(axes, _sizes(pixel_values)[1:], strict=True))
    channels, height, width = sizes["channels"], sizes["height"], sizes["width"]
    require(
        channels is None or channels == config.num_channels,
        f"pixel_values of shape {_shown(shape)} have {{}} channels, the model takes {config.num_channels}; channels "
        f"come {'first' if data_format == 'channels_first' else 'last'}.",
        channels,
    )
    if height is None or width is None:
        return
    if not interpolate_pos_encoding:  # images with as many patches fit, whatever these leave of them
        found = grid_of((height, width), config.patch_shape)
        own_height, own_width = config.image_shape
        require(
            _both(*(size == own for size, own in zip(found, config.grid, strict=True))),
            f"images of {{}} x {{}} pixels do not fit a model for {own_height} x {own_width}; resize them, or call "
            f"with interpolate_pos_encoding=True.",
            height,
            width,
        )
    rows, columns = config.patch_shape
    require(
        _both(height >= rows, width >= columns),
        f"images of {{}} x {{}} pixels are smaller than one patch of {rows} x {columns}; make them larger.",
        height,
        width,
    )


def check_per_patch(name: str, entries: Tensor, patches: Tensor) -> None:
    """Check that a mask or the like has one entry for each of the patches (batch, patches, hidden).

    Raises:
        ValueError: it has not; see `require` for graphs.
    """
    if entries.shape.rank != 2:
        raise ValueError(
            f"{name} has shape {_shown(entries.shape)}; (batch, patches) is needed, one entry for each patch."
        )
    (images, count), (batch, needed, _) = _sizes(entries), _sizes(patches)
    require(
        _both(images == batch, count == needed),
        f"{name} has shape ({{}}, {{}}); one entry for each patch is needed, ({{}}, {{}}).",
        images,
        count,
        batch,
        needed,
    )


def _sizes(tensor: Any) -> list[Any]:
    """The sizes of the axes: numbers, or tensors where a graph will know, or None for symbolic tensors of Keras."""
    known = list(tensor.shape)
    if None not in known:
        return known
    found = tf.shape(tensor) if tf.is_tensor(tensor) else [None] * len(known)
    return [found[axis] if size is None else size for axis, size in enumerate(known)]


def _both(first: bool | Tensor, second: bool | Tensor) -> bool | Tensor:
    """Both of two conditions; one that is known to fail is not left to the graph."""
    for one, other in ((first, second), (second, first)):
        if isinstance(one, bool):
            return other if one else False
    return tf.logical_and(first, second)


def _shown(shape: tf.TensorShape) -> str:
    return str(tuple(shape)) if shape.rank is not None else "unknown"
