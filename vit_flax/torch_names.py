"""What a subclass adds, from a checkpoint of PyTorch: there its layers call their parameters otherwise.

This is for scripts that come from transformers 4, which turned any checkpoint of PyTorch into Flax's layout.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from vit_core.stored_tensor import StoredTensor
from vit_flax.parameter_tree import Path

#: Flax's names in a Dense, a Conv, a LayerNorm or an Embed, and those in the layers of PyTorch that are the same.
LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}


def with_flax_names(
    tensors: Mapping[str, StoredTensor],
    extras: Mapping[Path, str],
    missing: Collection[str],
    left_over: Collection[str],
) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint, with Flax's names and axes for those that a subclass looks for.

    Args:
        tensors: the checkpoint's, by name.
        extras: the names of what the subclass added, by path.
        missing: those of these names that the checkpoint lacks.
        left_over: names in the checkpoint that nothing is known of.
    """
    renamed = dict(tensors)
    for path, name in extras.items():
        found = next((each for each in _names_in_torch(path) if each in left_over and each in renamed), None)
        if name in missing and found is not None:
            tensor = renamed.pop(found)
            renamed[name] = _transposed(tensor) if path[-1] == "kernel" else tensor
    return renamed


def _names_in_torch(path: Path) -> list[str]:
    """What PyTorch may call it; items of a list have the list's name and a number, here as there."""
    *parts, leaf = path
    if leaf not in LEAVES:
        return []
    whole = [*parts, LEAVES[leaf]]
    return [".".join(whole), ".".join(re.sub(r"_(\d+)$", r".\1", part) for part in whole)]


def _transposed(tensor: StoredTensor) -> StoredTensor:
    """A kernel with the axes that Flax has: those of the image first, then inputs and outputs."""
    axes = (*range(2, len(tensor.shape)), 1, 0)[-len(tensor.shape) :]
    shape = tuple(tensor.shape[axis] for axis in axes)
    return StoredTensor(tensor.dtype, shape, lambda: tensor.read().transpose(axes))
