"""Where a model goes that is loaded with a `device_map`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from vit_core.loading_options import AUTOMATIC_MAPS

DeviceMap = str | int | torch.device | Mapping[str, Any]


def single_device(device_map: DeviceMap | None) -> torch.device | None:
    """The one device that a map names; None without a map, or if it names several.

    Raises:
        ValueError: it names something else than a device, or one that this machine has not.
    """
    if device_map is None:
        return None
    if isinstance(device_map, Mapping):
        devices = {_device(each) for each in device_map.values()}
        return devices.pop() if len(devices) == 1 else None
    return _device(device_map)


def place(model: nn.Module, device_map: DeviceMap) -> None:
    """Move a model to where a map has it.

    Args:
        model: the model; it gets the map as `hf_device_map`, where programs for transformers look.
        device_map: the map. Parts on several devices are connected by accelerate.

    Raises:
        ImportError: the map names several devices and accelerate is not installed.
        ValueError: as in `single_device`.
    """
    device = single_device(device_map)
    if device is not None:
        model.to(device)
        model.hf_device_map = {"": device}  # type: ignore[assignment]
        return
    assert isinstance(device_map, Mapping)
    try:
        from accelerate import dispatch_model
    except ImportError as error:
        raise ImportError("a device_map with several devices needs accelerate: pip install accelerate") from error
    dispatch_model(model, device_map={part: _device(each) for part, each in device_map.items()})


def _accelerator() -> tuple[torch.device | None, int]:
    """What kind of accelerator this machine has, if any, and how many. A build of torch for GPUs may find none."""
    if not hasattr(torch, "accelerator"):  # before torch 2.6
        return (torch.device("cuda") if torch.cuda.is_available() else None), torch.cuda.device_count()
    if not torch.accelerator.is_available():
        return None, 0
    return torch.accelerator.current_accelerator(), torch.accelerator.device_count()


def _device(name: Any) -> torch.device:
    accelerator, count = _accelerator()
    if isinstance(name, str) and name in AUTOMATIC_MAPS:  # the first accelerator, or the CPU
        return torch.device("cpu") if accelerator is None else torch.device(accelerator.type, 0)
    try:
        if isinstance(name, int) and accelerator is not None:
            device = torch.device(accelerator.type, name)
        else:
            device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ValueError(
            f"device_map is {name!r}, which names no device here; give one such as 'cpu', 'cuda:0' or 0, or 'auto'."
        ) from None
    if device.type not in ("cpu", "meta") and (accelerator is None or device.type != accelerator.type):
        raise ValueError(
            f"device_map asks for {device}, which torch does not see on this machine; give 'cpu' or 'auto'."
        )
    if (device.index or 0) >= max(count, 1):
        raise ValueError(f"device_map asks for {device}; this machine has {count} of them.")
    return device
