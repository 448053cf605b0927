"""What the tests of conversion share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conversion
from conversion.containers.weights_file import read_weights
from vit_core import parameters
from vit_core.checkpoint import save_checkpoint
from vit_core.families import FAMILIES
from vit_core.stored_tensor import DTYPES, FLOAT_CODES, StoredTensor

#: A small model whose sizes are all different, so that no two axes can be taken for each other.
SIZES = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "image_size": 16,
    "patch_size": 8,
    "num_labels": 5,
}

Bits = dict[str, tuple[str, tuple[int, ...], bytes]]


def _stored(shape: tuple[int, ...], code: str, random: np.random.Generator) -> StoredTensor:
    if code == "BF16":
        values = random.standard_normal(shape).astype(np.float32)
        array = (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    else:
        array = random.standard_normal(shape).astype(DTYPES[code])
    return StoredTensor(code, shape, lambda: array)


@pytest.fixture(scope="session")
def write_checkpoint() -> Callable[..., Path]:
    """Writes a checkpoint in canonical names, with random weights, into a folder."""

    def write(
        folder: Path,
        task: Any = "image-classification",
        dtype: str = "float32",
        *,
        add_pooling_layer: bool = False,
        use_mask_token: bool = False,
        model_type: str = "vit",
        seed: int = 0,
        **fields: Any,
    ) -> Path:
        family = FAMILIES[model_type]
        config_class = family.config_classes.get(task, family.config_class)
        sizes = dict(SIZES)
        if model_type.startswith("dinov2"):  # whose config computes it
            del sizes["intermediate_size"]
        config = config_class(**{**sizes, **fields}, architectures=[family.models[task]])
        table = parameters(config, task, add_pooling_layer=add_pooling_layer, use_mask_token=use_mask_token)
        random = np.random.default_rng(seed)
        save_checkpoint(folder, config, {row.name: _stored(row.shape, FLOAT_CODES[dtype], random) for row in table})
        return folder

    return write


@pytest.fixture(scope="session")
def bits() -> Callable[[Mapping[str, StoredTensor]], Bits]:
    """The dtype, the shape and the bytes of each tensor."""

    def read(tensors: Mapping[str, StoredTensor]) -> Bits:
        return {name: (each.dtype, each.shape, each.read().tobytes()) for name, each in tensors.items()}

    return read


@pytest.fixture(scope="session")
def names_in() -> Callable[[Path], set[str]]:
    """The names in a file of weights."""
    return lambda path: set(read_weights(path))


@pytest.fixture(scope="session")
def expected(fixture_folder: Path) -> Callable[[str], dict[str, np.ndarray]]:
    """What other people's code returned for a fixture."""

    def read(name: str) -> dict[str, np.ndarray]:
        with np.load(fixture_folder / name / "expected.npz") as file:
            return dict(file)

    return read


@pytest.fixture
def convert(tmp_path: Path) -> Callable[..., Path]:
    """Converts into a new folder or file of the test's own, and returns where that is."""

    def run(source: Path, to: str, name: str = "", **options: Any) -> Path:
        destination = tmp_path / (name or f"as {to}")
        conversion.convert(source, destination, to, **options)
        return destination

    return run
