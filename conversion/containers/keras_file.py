"""Keras' `.keras` files, and what Keras' files say of the model in them, which is a config where it is a ViT.

A `.keras` file is a zip archive of `config.json`, which names classes to be built, and `model.weights.h5`. Nothing is
built here: the weights are mapped, and of all that is said only the fields of a config are looked for. Keras 2 keeps
the same text in the attribute "model_config" of an HDF5 file. Layouts: keras/src/saving/saving_lib.py and
legacy_h5_format.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from conversion.containers.hdf5_file import hdf5_tensors
from conversion.containers.hdf5_structure import Unfit, read_attribute
from conversion.containers.zip_file import open_zip
from vit_core.families import FAMILIES
from vit_core.file_bytes import file_bytes
from vit_core.file_names import CONFIG_NAME, KERAS_NAME
from vit_core.json_file import parse_json
from vit_core.stored_tensor import StoredTensor

WHAT = "Keras file"
MODEL_TYPES = frozenset(FAMILIES)
DESCRIPTION = "model_config"  # Keras 2's attribute
LARGEST_DESCRIPTION = 16 * 2**20  # bytes; that of a ViT with its labels is some ten thousand


def read_keras(path: Path, mmap: bool = True) -> dict[str, StoredTensor]:
    """Open a `.keras` file without reading its tensors.

    Args:
        path: what `model.save("model.keras")` wrote, in Keras 3 or in tf-keras; nothing it says is believed before it
            is checked against the file's size, and nothing that it names is built or called.
        mmap: whether its bytes are mapped rather than read; see `vit_core.file_bytes`.

    Returns:
        Its tensors by their paths in `model.weights.h5`.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is truncated, corrupt, hostile, or holds no weights.
    """
    entries = open_zip(path, WHAT, mmap)
    if KERAS_NAME not in entries:
        raise ValueError(f"{path} is a zip archive without {KERAS_NAME}; it is no {WHAT} that can be read here.")
    return hdf5_tensors(entries[KERAS_NAME].read(), f"{KERAS_NAME} in {path}")


def described_in_keras(path: Path) -> dict[str, Any]:
    """The config of the ViT that a `.keras` file describes; empty if it describes none, or several that differ."""
    entry = open_zip(path, WHAT).get(CONFIG_NAME)
    if entry is None or entry.size > LARGEST_DESCRIPTION:
        return {}
    return _config_in(entry.read().tobytes())


def described_in_hdf5(path: Path) -> dict[str, Any]:
    """Likewise of the file of a whole model that Keras 2 wrote."""
    with open(path, "rb") as file:
        data = file_bytes(file)
    try:
        return _config_in(_attribute(data))
    except Unfit:  # whoever reads the tensors says so
        return {}


def _attribute(data: np.ndarray) -> bytes:
    text = read_attribute(data, DESCRIPTION, LARGEST_DESCRIPTION + 1) or b""
    return text if len(text) <= LARGEST_DESCRIPTION else b""


def _config_in(text: bytes) -> dict[str, Any]:
    try:
        described = parse_json(text)
    except ValueError:
        return {}
    configs = list(_vit_configs(described))
    return configs[0] if configs and all(config == configs[0] for config in configs) else {}


def _vit_configs(described: Any) -> Iterator[dict[str, Any]]:
    """Every config inside of what was said, however deep."""
    waiting = [described]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if value.get("model_type") in MODEL_TYPES and "hidden_size" in value:
                yield value
            else:
                waiting += value.values()
        elif isinstance(value, list):
            waiting += value
