"""Writing a model as TensorFlow's SavedModel, with the signatures that transformers' models had."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf


def write_saved_model(model: Any, folder: Path, signatures: Mapping[str, Any] | None = None) -> None:
    """Write a SavedModel; the folder appears when it is complete.

    Args:
        model: a model with `serving` and `input_signature`.
        folder: where; what is there is replaced.
        signatures: functions of TensorFlow by name; unless given "serving_default", which takes `pixel_values` and
            returns what is in the output by name.
    """
    if signatures is None:
        serving = tf.function(model.serving, input_signature=[model.input_signature])
        signatures = {"serving_default": serving.get_concrete_function()}
    staging = folder.with_name(f".{folder.name}-unfinished")
    shutil.rmtree(staging, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        tf.saved_model.save(model, str(staging), signatures=dict(signatures))
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
