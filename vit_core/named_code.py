"""What a config or an image processor's settings may say for programs that import, download or build what they name."""

from __future__ import annotations

from typing import Any

#: transformers downloads and runs the first two, Keras built the third, and the last allows it.
NAMES_OF_CODE = frozenset(("auto_map", "custom_pipelines", "custom_objects", "trust_remote_code"))
LABELS = frozenset(("id2label", "label2id"))  # which may have any name


def without_code(value: Any) -> Any:
    """A plain value without what names code, however deep: a checkpoint holds none, and names nobody else's."""
    if isinstance(value, dict):
        return {
            name: each if name in LABELS else without_code(each)
            for name, each in value.items()
            if name not in NAMES_OF_CODE
        }
    return [without_code(each) for each in value] if isinstance(value, list | tuple) else value
