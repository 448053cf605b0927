"""What the tests of the PyTorch backend share; without PyTorch they are not collected."""

import importlib.util

import numpy as np
import pytest

if importlib.util.find_spec("torch"):
    import torch

    import vit_torch
    from vit_torch import ViTConfig

    torch.set_num_threads(1)  # tests run in parallel
else:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def load(fixture_folder):
    """Load a reference checkpoint and the results that belong to it."""

    def load(name, **options):
        folder = fixture_folder / name
        architecture = ViTConfig.from_pretrained(folder).architectures[0]
        with np.load(folder / "expected.npz") as results:
            expected = {key: torch.from_numpy(results[key]) for key in results}
        return getattr(vit_torch, architecture).from_pretrained(folder, **options), expected

    return load


@pytest.fixture
def tiny_config():
    """A small model with two layers, on 32 x 32 images of 4 x 4 patches."""
    return ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        encoder_stride=8,
        num_labels=5,
    )


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
