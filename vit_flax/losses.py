"""The losses of the models with a head, in float32 at least."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Shaped

from vit_core import PretrainedConfig
from vit_core.config import IGNORED_LABEL
from vit_core.patches import grid_of


def classification_loss(
    logits: Float[Array, "batch labels"], labels: Shaped[Array, "*shape"], config: PretrainedConfig
) -> Float[Array, ""]:
    """The loss that the config's `problem_type` names; without one it follows from the labels.

    Args:
        logits: (batch, num_labels).
        labels: for single-label classification whole numbers (batch,) from 0 to num_labels - 1, or -100 to leave an
            image out; for multi-label classification (batch, num_labels) of 0 and 1; for regression (batch,) with one
            label, else (batch, num_labels).
        config: tells the kind of problem.

    Returns:
        Cross-entropy, binary cross-entropy or mean squared error, as a mean; in float32 at least. Under jit, where
        values cannot be checked, a label out of range makes it NaN.

    Raises:
        ValueError: the labels have another shape, or one is out of range.
    """
    is_integer = not jnp.issubdtype(labels.dtype, jnp.inexact)
    loss = LOSSES[config.problem_type or config.infer_problem_type(is_integer)]
    return loss(_widened(logits), labels)


def masked_reconstruction_loss(
    pixel_values: Float[Array, "batch height width channels"],
    reconstruction: Float[Array, "batch channels height width"],
    bool_masked_pos: Shaped[Array, "batch patches"],
    patch_shape: tuple[int, int],
) -> Float[Array, ""]:
    """Mean absolute error over the masked pixels (SimMIM, Xie et al. 2021, https://arxiv.org/abs/2111.09886, 3.4)."""
    patch_height, patch_width = patch_shape
    batch, channels, height, width = reconstruction.shape
    grid = bool_masked_pos.astype(bool).reshape(batch, 1, *grid_of((height, width), patch_shape))
    mask = grid.repeat(patch_height, 2).repeat(patch_width, 3)
    target = _widened(pixel_values[:, :height, :width].transpose(0, 3, 1, 2))
    error = jnp.abs(_widened(reconstruction) - target)
    return (error * mask).sum() / (mask.sum() + 1e-5) / channels  # 1e-5: nothing masked is no loss rather than 0 / 0


def masked_token_loss(
    logits: Float[Array, "batch patches vocabulary"],
    labels: Shaped[Array, "*masked"],
    bool_masked_pos: Shaped[Array, "batch patches"],
) -> Float[Array, ""]:
    """Cross-entropy over the masked patches (BEiT, Bao et al. 2021, https://arxiv.org/abs/2106.08254, 2.3).

    Args:
        logits: for each patch and visual token.
        labels: the visual tokens of the masked patches of all images, one after the other; -100 leaves a patch out.
        bool_masked_pos: true or 1 where a patch is masked.

    Returns:
        The mean; in float32 at least, and 0 where nothing is masked. Under jit, where values cannot be checked, a
        number of labels that is not that of the masked patches, or a label out of range, makes it NaN.

    Raises:
        ValueError: there is not one label for each masked patch, or one is out of range.
    """
    mask, labels = bool_masked_pos.astype(bool).reshape(-1), labels.reshape(-1)
    fits = mask.sum() == labels.size
    if not isinstance(fits, jax.core.Tracer) and not fits:
        raise ValueError(f"labels hold {labels.size} visual tokens for {mask.sum()} masked patches; give one for each.")
    _require_classes(labels, logits.shape[-1])
    # A label for every patch, so that no size depends on values, as compilers want it.
    of_masked = jnp.append(labels, IGNORED_LABEL)
    of_patches = jnp.where(mask, of_masked[jnp.clip(mask.cumsum() - 1, 0, labels.size)], IGNORED_LABEL)
    losses = _class_losses(_widened(logits).reshape(-1, logits.shape[-1]), of_patches)
    return jnp.where(fits, losses.sum() / jnp.maximum((of_patches != IGNORED_LABEL).sum(), 1), jnp.nan)


def cross_entropy(logits: Float[Array, "batch labels"], labels: Shaped[Array, "*shape"]) -> Float[Array, ""]:
    """The mean over the images; see `classification_loss`."""
    batch, count = logits.shape
    if labels.size != batch:
        raise ValueError(f"labels of shape {labels.shape} do not give one class to each of {batch} images.")
    labels = labels.reshape(batch)
    _require_classes(labels, count)
    return _class_losses(logits, labels).sum() / (labels != IGNORED_LABEL).sum()


def _class_losses(logits: Array, labels: Array) -> Array:
    """The cross-entropy of each label: 0 of one to be ignored, NaN of one that is out of range."""
    import optax  # here, as it was a sixth of the time that importing vit_flax took

    is_class = (labels >= 0) & (labels < logits.shape[-1])  # false for NaN, too
    classes = jnp.where(is_class, labels, 0).astype(int)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, classes)
    return jnp.where(is_class, losses, jnp.where(labels == IGNORED_LABEL, 0.0, jnp.nan))


def _require_classes(labels: Array, count: int) -> None:
    """Raise ValueError if a label is none of the classes, unless values are not known yet."""
    is_right = (labels >= 0) & (labels < count) | (labels == IGNORED_LABEL)
    if not isinstance(is_right, jax.core.Tracer) and not is_right.all():
        raise ValueError(
            f"labels hold {labels[is_right.argmin()]}; with num_labels={count} they go from 0 to {count - 1}, or are "
            f"{IGNORED_LABEL} to leave an image out."
        )


def _binary_cross_entropy(logits: Array, labels: Array) -> Array:
    import optax

    _require_shape(labels, logits)
    return optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype)).mean()


def _mean_squared_error(logits: Array, labels: Array) -> Array:
    if logits.shape[1] == 1 and labels.size == logits.shape[0]:
        labels = labels.reshape(logits.shape)
    _require_shape(labels, logits)
    return jnp.square(logits - labels.astype(logits.dtype)).mean()


def _require_shape(labels: Array, logits: Array) -> None:
    if labels.shape != logits.shape:
        raise ValueError(f"labels have shape {labels.shape}; they need that of the logits, {logits.shape}.")


def _widened(array: Array) -> Array:
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "single_label_classification": cross_entropy,
    "multi_label_classification": _binary_cross_entropy,
    "regression": _mean_squared_error,
}
