"""Tensors of a checkpoint for other sizes of images and of patches than it was trained with.

Positions are resampled to the grid of the model's config, in the way of its family. Kernels that see pixels are
resampled where that is asked for (`PatchResampling`); what a head predicts, pixels of a patch, cannot be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from vit_core.config import PretrainedConfig
from vit_core.loading_options import PATCH_RESAMPLINGS, PatchResampling
from vit_core.parameters import Parameter
from vit_core.patch_projection import resample_patch_projection
from vit_core.position import resample_position_embeddings
from vit_core.relative_position import resample_table, table_length
from vit_core.stored_tensor import StoredTensor


def resampled(
    tensor: StoredTensor,
    row: Parameter,
    trained: Mapping[str, Any],
    config: PretrainedConfig,
    patch_resampling: PatchResampling | None = None,
) -> StoredTensor:
    """A tensor of a checkpoint for the model's sizes.

    Args:
        tensor: as it is in the checkpoint.
        row: the parameter that it is for.
        trained: what the checkpoint says of its config; nothing is resampled of what it says nothing of.
        config: the model's.
        patch_resampling: how the patches' projection is resampled; None leaves it as it is.

    Returns:
        The same object where there is nothing to resample, or it does not have the shape that it would have.
        Otherwise one in float32, which is computed when it is read.
    """
    if row.kind in ("positions", "table"):
        return _positions(tensor, row, trained, config)
    if sees_pixels(row) and patch_resampling is not None:
        return _projection(tensor, row, trained, patch_resampling)
    return tensor


def usual_patch_resampling(config: PretrainedConfig) -> tuple[PatchResampling, bool]:
    """How the patches' projection is resampled where nobody says it, and whether the model was trained for that."""
    if config.architecture.position_resampling == "bilinear":  # FlexiViT's
        return "bilinear", True
    return PATCH_RESAMPLINGS[0], False


def sees_pixels(row: Parameter) -> bool:
    """Whether a parameter is the kernel of the patches' projection."""
    return row.kind == "conv" and "channels" in row.axes


def require_trained_patches(
    source: str, row: Parameter, changed: Iterable[Parameter], config: PretrainedConfig
) -> None:
    """Check that a parameter does not predict the pixels of patches that were made another size.

    Args:
        source: what to call the checkpoint.
        row: the parameter, which the checkpoint is to fill.
        changed: the parameters before it that were resampled.
        config: the model's.

    Raises:
        ValueError: it does.
    """
    if "pixels" in row.axes and any(map(sees_pixels, changed)):
        stride = f", encoder_stride={config.patch_shape[0]}" if hasattr(config, "encoder_stride") else ""
        raise ValueError(
            f"{source} predicts the pixels of patches of the size that it was trained with ({row.name}), which no "
            f"resampling makes those of another; keep patch_size, load a model without that head, or start the head "
            f"at random: patch_resampling={PATCH_RESAMPLINGS[0]!r}, ignore_mismatched_sizes=True{stride}."
        )


def _positions(
    tensor: StoredTensor, row: Parameter, trained: Mapping[str, Any], config: PretrainedConfig
) -> StoredTensor:
    if not trained:
        return tensor
    # Only these fields: the rest may describe another kind of model, whose weights fit the config that was given.
    usual = type(config)()
    sizes = {name: trained.get(name, getattr(usual, name)) for name in ("image_size", "patch_size")}
    old_grid, new_grid = PretrainedConfig(**sizes).grid, config.grid
    architecture, is_table = config.architecture, row.kind == "table"
    before = architecture.num_prefix_tokens if is_table else architecture.num_positioned_prefix_tokens
    lengths = [table_length(grid, before) if is_table else before + math.prod(grid) for grid in (old_grid, new_grid)]
    axis = row.axes.index("distances" if is_table else "tokens")
    old_shape, new_shape = ((*row.shape[:axis], length, *row.shape[axis + 1 :]) for length in lengths)
    if old_grid == new_grid or (tensor.shape, row.shape) != (old_shape, new_shape):
        return tensor

    def read() -> np.ndarray:
        if is_table:
            return resample_table(tensor.numpy(), old_grid, new_grid)
        resampling = architecture.position_resampling
        return resample_position_embeddings(tensor.numpy(), old_grid, new_grid, before, resampling)

    return _in_float32(row, read)


def _projection(
    tensor: StoredTensor, row: Parameter, trained: Mapping[str, Any], patch_resampling: PatchResampling
) -> StoredTensor:
    if tensor.shape == row.shape or tensor.shape[:-2] != row.shape[:-2] or 0 in tensor.shape:
        return tensor
    said = trained.get("patch_size", tensor.shape[-2:])
    if tensor.shape[-2:] != (tuple(said) if isinstance(said, list | tuple) else (said, said)):
        return tensor  # the file contradicts itself
    height, width = row.shape[-2:]
    return _in_float32(row, lambda: resample_patch_projection(tensor.numpy(), (height, width), patch_resampling))


def _in_float32(row: Parameter, read: Callable[[], np.ndarray]) -> StoredTensor:
    return StoredTensor("F32", row.shape, lambda: read().astype("float32"))
