"""The licence of a checkpoint's weights, where its model card or timm's `config.json` names it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vit_core.hub import ModelSource

MODEL_CARD = "README.md"
LARGEST_CARD = 2**20  # bytes that are looked at
LARGEST_FIELDS = 1000  # letters of those that are about the licence
BOUND = "---"  # the line before the fields, and the one behind
_OF_LICENCE = re.compile(r"license(?:_name|_link)?\s*:")


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
    """The fields about the licence at the top of the model card; of one that cannot be read, none."""
    try:
        path = source.file(MODEL_CARD)
        if path is None:
            return {}
        with open(path, "rb") as file:
            text = file.read(LARGEST_CARD).decode(errors="replace")
        from huggingface_hub import RepoCard

        if not (about := _about_licence(text)):
            return {}
        fields = RepoCard(f"{BOUND}\n{about}\n{BOUND}\n", ignore_metadata_errors=True).data.to_dict()
    except Exception:  # whatever is wrong with a stranger's card, it is no reason not to describe the checkpoint
        return {}
    return fields if isinstance(fields, dict) else {}


def _about_licence(card: str) -> str:
    """The lines of a card's YAML that are about the licence, since to parse all of a long one takes many seconds."""
    first, *lines = card.lstrip().splitlines() or [""]
    ends = (number for number, line in enumerate(lines) if line.rstrip() == BOUND)
    if first.rstrip() != BOUND or (end := next(ends, None)) is None:
        return ""
    return "\n".join(filter(_OF_LICENCE.match, lines[:end]))[:LARGEST_FIELDS]
