"""PyTorch's side of writing a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conversion.containers.torch_file import write_torch_file
from conversion.published import as_published
from vit_core import PretrainedConfig
from vit_core.checkpoint import save_checkpoint
from vit_core.file_names import PYTORCH_NAME
from vit_core.loading_plan import WRAPPERS
from vit_core.stored_tensor import StoredTensor
from vit_torch.tensors import from_torch, to_torch


def gathered(state_dict: Mapping[str, Any], is_kept: bool = True) -> dict[str, Tensor]:
    """Weights as whole tensors, brought together from all processes where they are sharded.

    Args:
        state_dict: the weights; every process of a sharded model has to call.
        is_kept: whether this process needs them.

    Raises:
        TypeError: something is no tensor.
        ValueError: a tensor has no values.
    """
    whole: dict[str, Tensor] = {}
    for name, value in state_dict.items():
        tensor = (
            value.full_tensor().cpu() if hasattr(value, "full_tensor") else value
        )  # of FSDP2 and tensor parallelism
        if not is_kept:
            continue
        if not isinstance(tensor, Tensor):
            tensor = _as_tensor(name, tensor)
        if tensor.is_meta:
            raise ValueError(
                f"{name} is on the meta device and has no values to save; load or start the weights first."
            )
        whole[name] = tensor
    return whole


def without_wrappers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's own weights without what compiling or wrapping parts of it put into their names."""
    wrappers = set(WRAPPERS) - {"module"}  # a subclass may call a part of its own so
    return {
        ".".join(part for part in name.split(".") if part not in wrappers): tensor
        for name, tensor in state_dict.items()
    }


def save(
    folder: Path,
    config: PretrainedConfig,
    tensors: Mapping[str, Tensor],
    max_shard_size: int | str,
    variant: str | None,
    safe_serialization: bool,
    save_function: Callable[..., Any] | None,
) -> None:
    """Write a checkpoint as safetensors or, if asked, as files of `torch.save`; see `vit_core.checkpoint`."""
    stored = as_published({name: from_torch(tensor) for name, tensor in tensors.items()}, config)
    if safe_serialization:
        save_checkpoint(folder, config, stored, max_shard_size, variant)
        return

    def write(path: Path, part: Mapping[str, StoredTensor]) -> None:
        if save_function is None or save_function is torch.save:
            write_torch_file(path, part)
        else:
            save_function({name: tensors.get(name, to_torch(tensor)) for name, tensor in part.items()}, path)

    save_checkpoint(folder, config, stored, max_shard_size, variant, PYTORCH_NAME, write)


def _as_tensor(name: str, value: Any) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"the weights hold {name!r}, a {type(value).__name__}, which has no place in a checkpoint."
        ) from None
