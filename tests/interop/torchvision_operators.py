"""Lets torchvision be imported beside the CPU build of PyTorch, by declaring the operators that do not fit it."""

from __future__ import annotations

from typing import Any


def _torchvision_without_its_operators() -> Any:
    """Let torchvision be imported where its compiled operators, which no model here calls, do not fit PyTorch."""
    try:
        import torch
        import torchvision  # noqa: F401
    except ImportError:
        return None
    except RuntimeError:
        operators = torch.library.Library("torchvision", "DEF")
        operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return operators
    return None


OPERATORS = _torchvision_without_its_operators()  # gone when nothing holds them
