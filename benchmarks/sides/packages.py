"""Imports packages; first what lets them be imported beside a build of PyTorch that torchvision was not made for."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from benchmarks.processes import ROOT

WITH_TORCHVISION = ("transformers", "timm")


def imported(name: str) -> ModuleType:
    """The module of a package."""
    if name in WITH_TORCHVISION:
        sys.path.append(str(ROOT / "tests" / "interop"))
        importlib.import_module("torchvision_operators")
    return importlib.import_module(name)
