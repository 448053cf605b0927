"""The image processor of a checkpoint in any format."""

from __future__ import annotations

from typing import Any

import vit_core
from conversion.assumptions import HEAD_COUNTS
from conversion.checkpoint import read_source
from conversion.formats import FORMATS
from conversion.formats.keras import KERAS
from conversion.formats.transformers import TRANSFORMERS
from conversion.recognition import models_in
from conversion.sources import open_files
from vit_core.file_names import PROCESSOR_NAME
from vit_core.hub import ModelSource
from vit_core.image_settings_file import read_settings
from vit_core.json_file import is_json_file

#: Formats of models that are trained in every way, so that nothing is taken for granted.
TRAINED_IN_EVERY_WAY = (TRANSFORMERS.name, KERAS.name)


class AutoImageProcessor(vit_core.AutoImageProcessor):
    """Finds out which image processor a checkpoint has.

    Where there is no `preprocessor_config.json`, the settings are what the checkpoint's format says: timm's
    `pretrained_cfg`, or what such models are evaluated with.
    """

    @staticmethod
    def _settings(source: ModelSource) -> dict[str, Any]:
        if is_json_file(source.weights) or (source.weights is None and source.file(PROCESSOR_NAME)):
            return read_settings(source)
        try:
            try:
                checkpoint = read_source(source, {})
            except ValueError:  # here it matters neither how many heads there are nor which of several models is meant
                place = min(models_in(open_files(source)), default=None)
                checkpoint = read_source(source, dict.fromkeys(HEAD_COUNTS, 1), place or None, other_fields=True)
        except (OSError, ValueError) as error:
            raise OSError(f"{source.name} has no {PROCESSOR_NAME}, and its weights do not say more: {error}") from error
        is_assumed = any(assumption.name == "preprocessing" for assumption in checkpoint.assumed)
        is_known = checkpoint.config.model_type in FORMATS[checkpoint.format].preprocessing_of
        if is_assumed and not is_known and checkpoint.format in TRAINED_IN_EVERY_WAY:
            return read_settings(source)
        return checkpoint.preprocessing


class AutoFeatureExtractor(vit_core.AutoFeatureExtractor, AutoImageProcessor):
    """`AutoImageProcessor` under its name of old; what it finds are image processors."""
