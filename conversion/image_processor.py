"""The image processor of a checkpoint in any format."""

from __future__ import annotations

from typing import Any

import vit_core
from conversion.checkpoint import read_source
from conversion.formats.transformers import TRANSFORMERS
from vit_core.file_names import CONFIG_NAME, PROCESSOR_NAME
from vit_core.hub import ModelSource


class AutoImageProcessor(vit_core.AutoImageProcessor):
    """Finds out which image processor a checkpoint has.

    Where there is no `preprocessor_config.json`, the settings are what the checkpoint's format says: timm's
    `pretrained_cfg`, or what such models are evaluated with.
    """

    @staticmethod
    def _settings(source: ModelSource) -> dict[str, Any]:
        if source.weights is None and source.file(PROCESSOR_NAME):
            return vit_core.AutoImageProcessor._settings(source)
        try:
            try:
                checkpoint = read_source(source, {})
            except ValueError:  # how many heads there are does not matter here, and not every file tells
                checkpoint = read_source(source, {"num_attention_heads": 1})
        except (OSError, ValueError) as error:
            raise OSError(f"{source.name} has no {PROCESSOR_NAME}, and its weights do not say more: {error}") from error
        is_assumed = any(assumption.name == "preprocessing" for assumption in checkpoint.assumed)
        if is_assumed and checkpoint.format == TRANSFORMERS.name:  # whose models are trained in every way
            source.require(PROCESSOR_NAME)
            raise OSError(
                f"{source.name} is a file by itself: the {PROCESSOR_NAME} beside it counts only with a {CONFIG_NAME} "
                f"of the same model; load it with ViTImageProcessor.from_pretrained if it suits the model."
            )
        return checkpoint.preprocessing
