"""What the exchange with every library shares: small models of ours, and weights that all show in the answers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torchvision_operators  # noqa: F401  # or torchvision could not be imported

#: Three layers of four heads, eight wide; an MLP of no whole ratio; what most libraries compute with.
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 56, "image_size": 32,
         "patch_size": 8, "num_labels": 10, "layer_norm_eps": 1e-6, "hidden_act": "gelu"}  # fmt: skip
SPREAD = 0.15  # wide enough that each term of the forward pass shows


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random starts and random images are those of the last run, or now and then a model would answer nearly alike."""
    if importlib.util.find_spec("torch"):
        import torch

        torch.manual_seed(0)


@pytest.fixture
def spread() -> Callable[[Any], Any]:
    """Moves all weights of a PyTorch model away from where they start, from which many would not show."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)

    def moved(model: Any) -> Any:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=SPREAD)
        return model.eval()

    return moved


@pytest.fixture
def ours(tmp_path: Path, spread: Callable[[Any], Any]) -> Callable[..., tuple[Path, Any]]:
    """Makes and saves a model of `vit_torch`: (class, fields of its config) -> (folder, model)."""
    vit_torch = pytest.importorskip("vit_torch")

    def saved(class_name: str = "ViTForImageClassification", **fields: Any) -> tuple[Path, Any]:
        config = vit_torch.ViTConfig(**{**SIZES, **fields})
        model = spread(getattr(vit_torch, class_name)(config))
        model.save_pretrained(tmp_path / "ours")
        return tmp_path / "ours", model

    return saved


@pytest.fixture
def images() -> Callable[..., Any]:
    """Random images for a model: (config) -> (2, channels, height, width) in PyTorch."""
    torch = pytest.importorskip("torch")

    def made(config: Any) -> Any:
        return torch.randn(2, config.num_channels, *config.image_shape, generator=torch.Generator().manual_seed(1))

    return made


@pytest.fixture(params=[(60, 43), (40, 71), (300, 280)], ids=["tall", "wide", "large"])
def photograph(request: pytest.FixtureRequest) -> PIL.Image.Image:
    """A colourful image of some height and width."""
    height, width = request.param
    pixels = np.random.default_rng(0).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels).resize((width, height), PIL.Image.Resampling.BICUBIC)
