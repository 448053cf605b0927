"""Our models in PyTorch for inference on a processor: in int8, as we do it and as PyTorch does, and in float32."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.sides.pytorch import from_folder, passes
from benchmarks.worker import Prepared
from vit_torch import optimize_for_inference


def dynamic(model: torch.nn.Module) -> torch.nn.Module:
    """Have PyTorch quantize all linear layers dynamically: a scale for each tensor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.ao, about its successor
        return torch.ao.quantization.quantize_dynamic(model.eval(), {torch.nn.Linear}, inplace=True)


WAYS: dict[str, Callable[[Any], Any]] = {
    "float32": optimize_for_inference,
    "int8": lambda model: optimize_for_inference(model, dtype="int8"),
    "dynamic": dynamic,
}


def prepare(way: str, model: str, batch: int, dtype: str = "int8", kind: str = "forward") -> Prepared:
    """Forward passes."""
    loaded, call = from_folder.load("vit_torch", model)
    WAYS[way](loaded)
    with torch.inference_mode():
        for _ in range(2):  # layouts are made
            call(torch.zeros(batch, *loaded.dummy_inputs["pixel_values"].shape[1:]))
    return passes.forward(loaded, call, batch, "float32")
