"""The losses of the models with a head."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from jaxtyping import Float, Shaped
from keras import backend, ops

from vit_core import PretrainedConfig
from vit_core.config import IGNORED_LABEL
from vit_core.patches import grid_of
from vit_tf.checks import require

if TYPE_CHECKING:
    from tensorflow import Tensor


def classification_loss(
    logits: Float[Tensor, "batch labels"],
    labels: Shaped[Tensor, "*shape"],
    config: PretrainedConfig,
    sample_weight: Shaped[Tensor, "*weights"] | None = None,
) -> Float[Tensor, ""]:
    """The loss that the config's `problem_type` names; without one it follows from the labels.

    Args:
        logits: (batch, num_labels).
        labels: for single-label classification whole numbers (batch,) from 0 to num_labels - 1, or -100 to leave an
            image out; for multi-label classification (batch, num_labels) of 0 and 1; for regression (batch,) with one
            label, else (batch, num_labels).
        config: tells the kind of problem.
        sample_weight: factors for the images, (batch,).

    Returns:
        Cross-entropy, binary cross-entropy or mean squared error, as a mean over the images; in float32 at least.
        Where a label is out of range and XLA leaves the check out, it is NaN.

    Raises:
        ValueError: the labels have another shape, or one is out of range; see `vit_tf.checks.require` for graphs.
    """
    return mean_loss(classification_losses(logits, labels, config), sample_weight)


def mean_loss(losses: Shaped[Tensor, "*batch"], sample_weight: Shaped[Tensor, "*weights"] | None = None) -> Tensor:
    """The mean of the losses of images, of any shape that begins with them; one number stays as it is.

    Raises:
        ValueError: there is one number only, and a factor for each image.
    """
    if sample_weight is None:
        return ops.mean(losses)
    if not len(losses.shape):
        raise ValueError(
            "the model's own loss is one number, and sample_weight or class_weight has a factor for each image; let "
            "hf_compute_loss or call return a loss for each."
        )
    factors = ops.reshape(sample_weight, (-1, *[1] * (len(losses.shape) - 1)))
    return ops.mean(losses * ops.cast(factors, losses.dtype))


def classification_losses(
    logits: Float[Tensor, "batch labels"], labels: Shaped[Tensor, "*shape"], config: PretrainedConfig
) -> Float[Tensor, " batch"]:
    """The losses of the images, whose mean is `classification_loss`."""
    is_float = "float" in backend.standardize_dtype(labels.dtype)
    loss = LOSSES[config.problem_type or config.infer_problem_type(not is_float)]
    return loss(ops.cast(logits, backend.result_type(logits.dtype, "float32")), labels)


def masked_reconstruction_loss(
    pixel_values: Float[Tensor, "batch channels height width"],
    reconstruction: Float[Tensor, "batch channels height width"],
    bool_masked_pos: Shaped[Tensor, "batch patches"],
    patch_shape: tuple[int, int],
    data_format: str = "channels_first",
) -> Float[Tensor, ""]:
    """Mean absolute error over the masked pixels (SimMIM, Xie et al. 2021, https://arxiv.org/abs/2111.09886, 3.4).

    With `data_format="channels_last"`, images are (batch, height, width, channels).
    """
    if data_format == "channels_first":
        _, channels, height, width = ops.shape(reconstruction)
        channel_axis, target = 1, pixel_values[:, :, :height, :width]
    else:
        _, height, width, channels = ops.shape(reconstruction)
        channel_axis, target = 3, pixel_values[:, :height, :width]
    patch_height, patch_width = patch_shape
    dtype = backend.result_type(reconstruction.dtype, "float32")  # the sum overflows float16
    mask = ops.reshape(ops.cast(bool_masked_pos, "bool"), (-1, *grid_of((height, width), patch_shape)))
    mask = ops.cast(ops.repeat(ops.repeat(mask, patch_height, axis=1), patch_width, axis=2), dtype)
    error = ops.abs(ops.cast(reconstruction, dtype) - ops.cast(target, dtype))
    # 1e-5: nothing masked is no loss rather than 0 / 0
    return ops.sum(error * ops.expand_dims(mask, channel_axis)) / (ops.sum(mask) + 1e-5) / channels


def masked_token_loss(
    logits: Float[Tensor, "batch patches vocabulary"],
    labels: Shaped[Tensor, "*shape"],
    bool_masked_pos: Shaped[Tensor, "batch patches"] | None,
) -> Float[Tensor, ""]:
    """Cross-entropy over the masked patches (BEiT, Bao et al. 2021, https://arxiv.org/abs/2106.08254, equation 1).

    Args:
        logits: for each patch.
        labels: the visual tokens of the masked patches of all images in one row, from 0, or -100 to leave a patch out;
            or those of all patches, (batch, patches), of which the masked ones count.
        bool_masked_pos: true or 1 where a patch is masked.

    Returns:
        The mean; in float32 at least. Where a label does not fit and XLA leaves the check out, it is NaN.

    Raises:
        ValueError: there is no mask, the labels have another shape, or one is out of range; see
            `vit_tf.checks.require` for graphs.
    """
    if bool_masked_pos is None:
        raise ValueError("there are labels and no bool_masked_pos; pass the mask of the patches that they are for.")
    mask, labels = ops.convert_to_tensor(bool_masked_pos), ops.convert_to_tensor(labels)
    mask, labels = ops.reshape(ops.cast(mask, "bool"), (-1,)), ops.cast(labels, "int64")
    is_row = len(labels.shape) == 1
    counted = ops.cast(mask, "int64")
    needed = ops.sum(counted) if is_row else ops.size(logits[..., 0])
    found = ops.cast(ops.size(labels), "int64")
    is_right = found == ops.cast(needed, "int64")
    require(
        is_right,
        "there are {} labels for {} patches; give one to each masked patch, in one row, or one to each patch of all "
        "images, (batch, patches).",
        found,
        needed,
    )
    labels = ops.reshape(labels, (-1,))
    if is_row:
        places = ops.clip(ops.cumsum(counted) - 1, 0, found)
        labels = ops.take(ops.concatenate([labels, ops.full((1,), IGNORED_LABEL, labels.dtype)]), places)
    labels = ops.where(mask, labels, ops.full_like(labels, IGNORED_LABEL))
    rows = ops.reshape(ops.cast(logits, backend.result_type(logits.dtype, "float32")), (-1, logits.shape[-1]))
    return ops.where(is_right, ops.mean(_cross_entropy(rows, labels, "vocab_size")), float("nan"))


def class_losses(logits: Float[Tensor, "batch labels"], labels: Shaped[Tensor, "*shape"]) -> Float[Tensor, " batch"]:
    """Cross-entropy of each image, for classes (batch,) or for the share of each class, (batch, labels)."""
    if len(labels.shape) == 2 and labels.shape[-1] != 1:
        _require_same_shape(labels, logits, tuple(labels.shape))
        return -ops.sum(ops.cast(labels, logits.dtype) * ops.log_softmax(logits), axis=-1)
    return _cross_entropy(logits, ops.cast(labels, "int64"))


def _cross_entropy(logits: Tensor, labels: Tensor, field: str = "num_labels") -> Tensor:
    batch, count = ops.shape(logits)
    found = math.prod(labels.shape) if None not in labels.shape else ops.size(labels)
    require(
        found == batch, f"labels of shape {tuple(labels.shape)} do not give one class to each of {{}} images.", batch
    )
    labels = ops.reshape(labels, (-1,))
    is_class = ops.logical_and(labels >= 0, labels < count)  # false for NaN, too
    is_ignored = labels == IGNORED_LABEL
    is_right = ops.logical_or(is_class, is_ignored)
    require(
        ops.all(is_right),
        f"labels hold {{}}; with {field}={count} they go from 0 to {count - 1}, or are {IGNORED_LABEL} to leave one "
        f"out.",
        ops.take(labels, ops.argmin(ops.cast(is_right, "int32"))),
    )
    classes = ops.cast(ops.where(is_class, labels, ops.zeros_like(labels)), "int32")
    losses = ops.sparse_categorical_crossentropy(classes, logits, from_logits=True)
    losses = ops.where(is_class, losses, ops.where(is_ignored, 0.0, float("nan")))
    counted = ops.cast(ops.logical_not(is_ignored), losses.dtype)
    return losses / ops.mean(counted)  # so that the mean is over the images that count


def _binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    _require_same_shape(labels, logits, tuple(labels.shape))
    losses = ops.binary_crossentropy(ops.cast(labels, logits.dtype), logits, from_logits=True)
    return ops.mean(losses, axis=-1)


def _mean_squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    given = tuple(labels.shape)
    if logits.shape[1] == 1:
        labels = ops.reshape(labels, (-1, 1))  # one number for each image, however they lie
    _require_same_shape(labels, logits, given)
    return ops.mean(ops.square(logits - ops.cast(labels, logits.dtype)), axis=-1)


def _require_same_shape(labels: Tensor, logits: Tensor, given: tuple[int | None, ...]) -> None:
    message = f"labels have shape {given}; they need that of the logits, {tuple(logits.shape)}."
    require(len(labels.shape) == len(logits.shape), message)
    for size, needed in zip(ops.shape(labels), ops.shape(logits), strict=True):
        require(size == needed, message)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "single_label_classification": _cross_entropy,
    "multi_label_classification": _binary_cross_entropy,
    "regression": _mean_squared_error,
}
