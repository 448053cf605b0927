"""Where a model goes that is loaded with a `device_map`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from vit_core.loading_options import AUTOMATIC_MAPS

#: What PyTorch calls TensorFlow's kinds of devices.
KINDS = {"cuda": "GPU"}


def single_device(device_map: Any) -> str | None:
    """The device that a map names, as `tf.device` takes it; None where TensorFlow chooses.

    Args:
        device_map: None or "auto"; "cpu", "/GPU:0", "cuda:1" or another kind of TensorFlow's devices with a number or
            without; a number among the GPUs; a `torch.device`; or {name of a part: device}, with one device for all.

    Raises:
        ValueError: it names no device of this machine, or several.
    """
    if not isinstance(device_map, Mapping):
        return _device(device_map)
    devices = {_device(each) for each in device_map.values()}
    if len(devices) > 1:
        raise ValueError(
            f"device_map names {len(devices)} devices, where a Keras model goes to one; to train on several, load it "
            f"inside of strategy.scope() of a tf.distribute.Strategy."
        )
    return devices.pop() if devices else None


def _device(name: Any) -> str | None:
    if name is None or (isinstance(name, str) and name in AUTOMATIC_MAPS):  # a GPU if there is one
        return None
    text = f"GPU:{name}" if isinstance(name, int) else str(name)
    kind, _, index = text.rpartition("/")[2].removeprefix("device:").partition(":")
    wanted = f"{KINDS.get(kind.lower(), kind.upper())}:{index or 0}"
    here = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    if wanted not in here:
        raise ValueError(
            f"device_map is {name!r}, which names no device that TensorFlow sees here; give one such as 'cpu' or "
            f"'auto'. It sees {', '.join(here[:8])}."
        )
    return f"/{wanted}"
