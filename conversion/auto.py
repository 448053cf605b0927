"""The Auto classes of models for checkpoints of any format, in which no file names a model type."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import vit_core.auto
from conversion.checkpoint import model_in
from vit_core.hub import ModelSource


class AutoModelClass(vit_core.auto.AutoModelClass):
    """Finds out which model of one task a checkpoint or a config is for; a backend subclasses it for each task.

    Where no `config.json` names a model type, the names of the tensors tell whose model it is.
    """

    @staticmethod
    def _of_unnamed(source: ModelSource, options: Mapping[str, Any]) -> vit_core.auto.Described:
        with contextlib.suppress(OSError, ValueError):  # whoever loads the model says what is wrong
            family, task = model_in(source, options.get("under"))
            return family.config_class, [family.models[task]]
        return vit_core.auto.AutoModelClass._of_unnamed(source, options)
