"""A checkpoint for patches of another size than it was trained with, and for images of another size beside that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from conversion.assumptions import Assumption
from conversion.casting import Cast
from vit_core.loading_options import PATCH_RESAMPLING, PatchResampling
from vit_core.parameters import Parameter, parameters
from vit_core.resampling import require_trained_patches, resampled, usual_patch_resampling
from vit_core.stored_tensor import FLOAT_NAMES, StoredTensor

if TYPE_CHECKING:
    from conversion.checkpoint import Checkpoint

#: The fields of a config that say the sizes.
SIZES = ("image_size", "patch_size")


def for_other_sizes(
    checkpoint: Checkpoint, sizes: Mapping[str, Any], patch_resampling: PatchResampling | None, source: str
) -> Checkpoint:
    """The same model for other sizes: its patches' projection and its positions are resampled.

    Args:
        checkpoint: as it was trained.
        sizes: fields of the config to set, of `SIZES`.
        patch_resampling: see `vit_core.loading_options`; unless given, FlexiViT's own for such a model, and otherwise
            timm's, which is an assumption then.
        source: what to call the checkpoint in messages.

    Returns:
        The checkpoint, whose resampled tensors have the dtypes that they had.

    Raises:
        ValueError: a size is impossible, or the model predicts the pixels of patches.
    """
    trained = checkpoint.config
    config = trained.replaced(**sizes)
    if (config.image_shape, config.patch_shape) == (trained.image_shape, trained.patch_shape):
        return checkpoint
    assumed = checkpoint.assumed
    usual, is_flexible = usual_patch_resampling(config)
    if patch_resampling is None and not is_flexible and config.patch_shape != trained.patch_shape:
        height, width = trained.patch_shape
        reason = f"as timm has it; the model was trained with patches of {height} x {width} pixels"
        assumed = (*assumed, Assumption(PATCH_RESAMPLING, usual, reason))
    tensors: dict[str, StoredTensor] = {}
    changed: list[Parameter] = []
    table = parameters(
        config,
        checkpoint.task,
        add_pooling_layer=any(name.startswith("pooler.") for name in checkpoint.tensors),
        use_mask_token="embeddings.mask_token" in checkpoint.tensors,
    )
    for row in table:
        tensor = checkpoint.tensors[row.name]
        new = resampled(tensor, row, trained.to_dict(), config, patch_resampling or usual)
        if new is not tensor:
            changed.append(row)
            new = Cast(FLOAT_NAMES[tensor.dtype], allow_nan=True).through({row.name: new})[row.name]
        require_trained_patches(source, row, changed, config)
        tensors[row.name] = new
    return replace(checkpoint, config=config, tensors=tensors, assumed=assumed)
