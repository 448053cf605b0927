"""Tensors of PyTorch as tensors of a checkpoint, and the other way round; and dtypes by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conversion.published import as_canonical
from vit_core.array_bytes import contiguous
from vit_core.families import Family
from vit_core.stored_tensor import StoredTensor, dtype_name


def to_torch(tensor: StoredTensor) -> Tensor:
    """A tensor of a checkpoint, sharing its memory where that is in canonical order."""
    bits = torch.from_numpy(contiguous(tensor.read()))
    return bits.view(torch.bfloat16) if tensor.dtype == "BF16" else bits


def from_torch(tensor: Tensor) -> StoredTensor:
    """A tensor for a checkpoint; it is brought to the CPU when it is written."""
    shape = tuple(tensor.shape)
    if tensor.dtype == torch.bfloat16:
        return StoredTensor("BF16", shape, lambda: tensor.detach().cpu().contiguous().view(torch.uint16).numpy())
    try:
        dtype = np.dtype(str(tensor.dtype).removeprefix("torch."))
    except TypeError:
        raise TypeError(f"tensors of dtype {tensor.dtype} have no place in a checkpoint; convert them.") from None
    return StoredTensor(dtype_name(dtype), shape, lambda: tensor.detach().cpu().numpy())


def state_dict_for_loading(state_dict: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """The weights that a caller of `from_pretrained` gives, as tensors of a checkpoint.

    Raises:
        TypeError: it holds something else than tensors.
    """
    for name, value in state_dict.items():
        if not isinstance(value, Tensor | np.ndarray):
            raise TypeError(
                f"state_dict holds {name!r}, a {type(value).__name__}; pass a mapping of names to tensors, such as the "
                f"model's part of a training checkpoint."
            )
    return {name: _copied(from_torch(torch.as_tensor(value))) for name, value in state_dict.items()}


def in_canonical_names(state_dict: Mapping[str, Any], family: Family, is_bare: bool) -> dict[str, Any]:
    """Weights by a model's own names, where they have those of a family's files; see `conversion.published`."""
    tensors = {name: tensor for name, tensor in state_dict.items() if isinstance(tensor, Tensor)}
    stored = {name: from_torch(tensor) for name, tensor in tensors.items()}
    theirs = {id(each): tensors[name] for name, each in stored.items()}
    rest = {name: value for name, value in state_dict.items() if name not in tensors}
    named = as_canonical(stored, family, is_bare=is_bare)
    return {name: theirs[id(each)] if id(each) in theirs else to_torch(each) for name, each in named.items()} | rest


def _copied(tensor: StoredTensor) -> StoredTensor:
    """A tensor whose values become a model's without being the caller's any longer."""
    return replace(tensor, read=lambda: tensor.read().copy())


def as_tensor(value: Any, device: torch.device) -> Tensor:
    """What a caller passes in place of a tensor, an array or a list of either, as one on the model's device."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(each, Tensor) for each in value):
        return torch.stack(list(value)).to(device)
    return torch.as_tensor(np.asarray(value), device=device)


def dtype_of(dtype: torch.dtype | str | None, stored: Any = None) -> torch.dtype:
    """The dtype that a model is asked to have.

    Args:
        dtype: a dtype, its name, "auto" for the stored one, or None for torch's default.
        stored: what "auto" means.

    Raises:
        ValueError: it is no floating-point type.
    """
    if isinstance(dtype, str) and dtype == "auto":
        dtype = stored
    if dtype is None:
        return torch.get_default_dtype()
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype is {dtype!r}; choose a floating-point type such as 'float32', 'bfloat16' or 'auto'.")
    return found
