"""Other people's checkpoints: recognised by content, read, written and proved right, with no framework.

Names are imported when they are first used, so that `trivit --help` waits for none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conversion.checkpoint import Checkpoint, load
    from conversion.converter import Conversion, convert
    from conversion.formats import FORMATS, WRITABLE
    from conversion.image_processor import AutoFeatureExtractor, AutoImageProcessor
    from conversion.proof.verifier import Report, verify

__all__ = [
    "FORMATS",
    "WRITABLE",
    "AutoFeatureExtractor",
    "AutoImageProcessor",
    "Checkpoint",
    "Conversion",
    "Report",
    "convert",
    "load",
    "verify",
]

#: The module of each name.
_MODULES = {
    "FORMATS": "formats",
    "WRITABLE": "formats",
    "AutoFeatureExtractor": "image_processor",
    "AutoImageProcessor": "image_processor",
    "Checkpoint": "checkpoint",
    "Conversion": "converter",
    "Report": "proof.verifier",
    "convert": "converter",
    "load": "checkpoint",
    "verify": "proof.verifier",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'conversion' has no attribute {name!r}")
    return getattr(importlib.import_module(f"conversion.{_MODULES[name]}"), name)
