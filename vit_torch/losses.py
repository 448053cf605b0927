"""The losses of the models with a head."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from vit_core import PretrainedConfig
from vit_core.config import IGNORED_LABEL
from vit_core.patches import grid_of


def classification_loss(
    logits: Float[Tensor, "batch labels"], labels: Shaped[Tensor, "*shape"], config: PretrainedConfig
) -> Float[Tensor, ""]:
    """The loss that the config's `problem_type` names; without one the labels tell, and the config records it.

    Args:
        logits: (batch, num_labels).
        labels: for single-label classification whole numbers (batch,) from 0 to num_labels - 1, or -100 to leave an
            image out; for multi-label classification (batch, num_labels) of 0 and 1; for regression one number an image
            with one label, else (batch, num_labels).
        config: tells the kind of problem.

    Returns:
        Cross-entropy, binary cross-entropy or mean squared error, as a mean; of half precision in float32.

    Raises:
        ValueError: the labels have another shape, or one on the CPU is out of range; for those on a GPU it would have
            to be waited.
    """
    problem_type = config.problem_type
    if problem_type is None:
        is_integer = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        problem_type = config.infer_problem_type(is_integer, logits.shape[1])
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = LOSSES[problem_type](exact, labels)
    if not torch.compiler.is_compiling():  # which would compile again for a config that changes
        config.problem_type = problem_type
    return loss


def masked_reconstruction_loss(
    pixel_values: Float[Tensor, "batch channels height width"],
    reconstruction: Float[Tensor, "batch channels height width"],
    bool_masked_pos: Shaped[Tensor, "batch patches"],
    patch_shape: tuple[int, int],
) -> Float[Tensor, ""]:
    """Mean absolute error over the masked pixels (SimMIM, Xie et al. 2021, https://arxiv.org/abs/2111.09886, 3.4)."""
    patch_height, patch_width = patch_shape
    batch, channels, height, width = reconstruction.shape
    grid = bool_masked_pos.bool().reshape(batch, 1, *grid_of((height, width), patch_shape))
    mask = grid.repeat_interleave(patch_height, 2).repeat_interleave(patch_width, 3)
    target = pixel_values[..., :height, :width].to(torch.promote_types(reconstruction.dtype, torch.float32))
    error = functional.l1_loss(reconstruction.to(target.dtype), target, reduction="none")  # its sum overflows float16
    return (error * mask).sum() / (mask.sum() + 1e-5) / channels  # 1e-5: nothing masked is no loss rather than 0 / 0


def masked_token_loss(
    logits: Float[Tensor, "batch patches vocabulary"],
    labels: Shaped[Tensor, " masked"],
    bool_masked_pos: Shaped[Tensor, "batch patches"],
) -> Float[Tensor, ""]:
    """Cross-entropy over the masked patches (BEiT, Bao et al. 2021, https://arxiv.org/abs/2106.08254, 2.3).

    Args:
        logits: for each patch and visual token.
        labels: the visual tokens of the masked patches of all images, one after the other; -100 leaves a patch out.
        bool_masked_pos: true or 1 where a patch is masked.

    Returns:
        The mean; of half precision in float32, and 0 where nothing is masked.

    Raises:
        ValueError: there is not one label for each masked patch, or one on the CPU is out of range; for those on a GPU
            it would have to be waited.
    """
    mask = bool_masked_pos.bool().flatten().to(logits.device)
    labels = labels.reshape(-1).long().to(logits.device)
    if _can_be_read(mask) and labels.numel() != (masked := int(mask.sum())):
        raise ValueError(f"labels hold {labels.numel()} visual tokens for {masked} masked patches; give one for each.")
    _require_classes(labels, logits.shape[-1])
    # A label for every patch, so that no size depends on values, as compilers want it.
    of_masked = functional.pad(labels, (0, 1), value=IGNORED_LABEL)
    of_patches = of_masked[(mask.cumsum(0) - 1).clamp(0, labels.shape[0])].where(mask, IGNORED_LABEL)
    exact = logits.flatten(0, 1).to(torch.promote_types(logits.dtype, torch.float32))
    total = functional.cross_entropy(exact, of_patches, ignore_index=IGNORED_LABEL, reduction="sum")
    return total / (of_patches != IGNORED_LABEL).sum().clamp(min=1)


def masked_patch_loss(
    painted: Float[Tensor, "batch patches pixels"],
    patches: Float[Tensor, "batch patches pixels"],
    mask: Float[Tensor, "batch patches"],
    normalized: bool = False,
) -> Float[Tensor, ""]:
    """Mean squared error over the patches that were left out (MAE, He et al. 2021, https://arxiv.org/abs/2111.06377).

    Args:
        painted: what the decoder made of the patches.
        patches: their pixels.
        mask: 1 where a patch was left out, and 0 where it was seen.
        normalized: whether to compare with patches whose pixels have mean 0 and variance 1 each (section 3).

    Returns:
        The mean; of half precision in float32, and 0 where nothing was left out.
    """
    exact = torch.promote_types(painted.dtype, torch.float32)
    target = patches.to(exact)
    if normalized:
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6) ** 0.5
    error = (painted.to(exact) - target).square().mean(-1)
    return (error * mask).sum() / mask.sum().clamp(min=1)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    batch, count = logits.shape
    if labels.numel() != batch:
        raise ValueError(f"labels of shape {tuple(labels.shape)} do not give one class to each of {batch} images.")
    labels = labels.reshape(batch).long()
    _require_classes(labels, count)
    return functional.cross_entropy(logits, labels.to(logits.device), ignore_index=IGNORED_LABEL)


def _binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    _require_shape(labels, logits)
    return functional.binary_cross_entropy_with_logits(logits, labels.to(logits))


def _mean_squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    if logits.shape[1] == 1 and labels.numel() == logits.shape[0]:
        labels = labels.reshape(logits.shape)
    _require_shape(labels, logits)
    return functional.mse_loss(logits, labels.to(logits))


def _require_classes(labels: Tensor, count: int) -> None:
    """Raise ValueError if a label is none of the classes, as far as values can be seen without waiting for them."""
    if not _can_be_read(labels):
        return
    values = labels.numpy()
    outside = values[((values < 0) | (values >= count)) & (values != IGNORED_LABEL)]
    if outside.size:
        raise ValueError(
            f"labels hold {outside[0]}; with num_labels={count} they go from 0 to {count - 1}, or are "
            f"{IGNORED_LABEL} to leave an image out."
        )


def _can_be_read(tensor: Tensor) -> bool:
    """Whether the values of a tensor can be seen without waiting for them."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or not tensor.is_cpu:
        return False
    try:
        tensor.numpy()
    except RuntimeError:  # inside of vmap and other transforms there are none
        return False
    return True


def _require_shape(labels: Tensor, logits: Tensor) -> None:
    if labels.shape != logits.shape:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}; they need that of the logits, {tuple(logits.shape)}."
        )


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "single_label_classification": _cross_entropy,
    "multi_label_classification": _binary_cross_entropy,
    "regression": _mean_squared_error,
}
