"""Where a model goes that is loaded with a `device_map`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vit_core.loading_options import AUTOMATIC_MAPS


def single_device(device_map: Any) -> jax.Device | None:
    """The device that a map names; None without a map.

    Args:
        device_map: "auto"; "cpu", "gpu:1" or another platform of JAX's with a number or without; a number among JAX's
            devices; a `jax.Device` or `torch.device`; or {name of a part: device}, with one device for all parts.

    Raises:
        ValueError: it names no device of this machine, or several.
    """
    if device_map is None:
        return None
    if not isinstance(device_map, Mapping):
        return _device(device_map)
    devices = {_device(each) for each in device_map.values()}
    if len(devices) > 1:
        raise ValueError(
            f"device_map names {len(devices)} devices, where a Flax model goes to one; to spread it over several, load "
            f"it with partitioning=Partitioning(mesh, rules)."
        )
    return devices.pop() if devices else None


def _device(name: Any) -> jax.Device:
    if isinstance(name, jax.Device):
        return name
    if isinstance(name, str) and name in AUTOMATIC_MAPS:  # JAX's default device
        return next(iter(jnp.zeros(()).devices()))
    platform, _, index = ("", "", name) if isinstance(name, int) else str(name).partition(":")
    try:
        number, devices = int(index or 0), jax.local_devices(backend=platform or None)
    except (ValueError, RuntimeError):  # no number; no such platform
        number, devices = 0, []
    if not 0 <= number < len(devices):
        here = ", ".join(f"{each.platform}:{each.id}" for each in jax.local_devices()[:8])
        raise ValueError(
            f"device_map is {name!r}, which names no device that JAX sees here; give one such as 'cpu' or 'auto'. It "
            f"sees {here}."
        )
    return devices[number]
