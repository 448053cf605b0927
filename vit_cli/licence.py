"""The licence of a checkpoint's weights, where its model card or timm's `config.json` names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vit_core.hub import ModelSource

MODEL_CARD = "README.md"
LARGEST_CARD = 2**20  # bytes


def licence_of(source: ModelSource, config: Mapping[str, Any]) -> str | None:
    """What a checkpoint says of its licence.

    Args:
        source: where it is.
        config: what its `config.json` says.

    Returns:
        The name of the licence, such as "apache-2.0", with that of a licence of one's own; None if nothing names it.
    """
    card = _card(source)
    named = [
        card.get("license_name") if card.get("license") == "other" else card.get("license"),
        card.get("license_link"),
    ]
    if isinstance(named[0], str):
        return ", ".join(word for word in named if isinstance(word, str))
    said = config.get("pretrained_cfg", config)
    licence = said.get("license") if isinstance(said, Mapping) else None
    return licence if isinstance(licence, str) else None


def _card(source: ModelSource) -> dict[str, Any]:
    """The fields at the top of the model card; of one that cannot be read, none."""
    try:
        path = source.file(MODEL_CARD)
        if path is None or path.stat().st_size > LARGEST_CARD:
            return {}
        from huggingface_hub.repocard import metadata_load

        fields = metadata_load(path)
    except Exception:  # whatever is wrong with a stranger's card, it is no reason not to describe the checkpoint
        return {}
    return fields if isinstance(fields, dict) else {}
