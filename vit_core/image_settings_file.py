"""The file of an image processor's settings, `preprocessor_config.json`: where it is and which class it names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from vit_core.file_names import PROCESSOR_NAME
from vit_core.hub import ModelSource, locate
from vit_core.json_file import is_json_file, read_json_file
from vit_core.loading_options import place_and_rest

#: The keys under which files say what they are for; files older than transformers 4.26 have the second.
TYPE_KEYS = ("image_processor_type", "feature_extractor_type")


def find_settings(
    model_id_or_path: str | os.PathLike[str], options: Mapping[str, Any]
) -> tuple[ModelSource, dict[str, Any]]:
    """Where a checkpoint's files are, and what else a call of `from_pretrained` asks for.

    Args:
        model_id_or_path: a folder, a JSON file of settings, a bundled checkpoint, or a Hub id.
        options: the options of the call.

    Returns:
        The source, and the options that say nothing of the place.

    Raises:
        OSError: there is no such source.
        ValueError: an option is impossible.
    """
    location, rest = place_and_rest(options)
    return locate(model_id_or_path, **location), rest


def read_settings(source: ModelSource) -> dict[str, Any]:
    """The settings in the JSON file that the user named, or in a checkpoint's `preprocessor_config.json`.

    Raises:
        OSError: the file is not there or cannot be downloaded.
        ValueError: it is no JSON object.
    """
    named = source.weights if source.weights and is_json_file(source.weights) else PROCESSOR_NAME
    return read_json_file(source.require(named))


def named_type(settings: Mapping[str, Any]) -> str | None:
    """The class of processor that settings name; None if they name none."""
    return next((str(settings[key]) for key in TYPE_KEYS if settings.get(key)), None)
