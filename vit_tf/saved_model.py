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
        folder: where; what is there is replaced, or stays on failure.
        signatures: functions of TensorFlow by name; unless given "serving_default", which takes `pixel_values` and
            returns what is in the output by name.

    Raises:
        OSError: it cannot be written.
    """
    if signatures is None:
        serving = tf.function(model.serving, input_signature=[model.input_signature])
        signatures = {"serving_default": serving.get_concrete_function()}
    staging, replaced = (folder.with_name(f".{folder.name}-{what}") for what in ("unfinished", "replaced"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    if replaced.exists() and not folder.exists():  # a process that was killed between two renames
        replaced.rename(folder)
    for rest in (staging, replaced):
        shutil.rmtree(rest, ignore_errors=True)
    try:
        tf.saved_model.save(model, str(staging), signatures=dict(signatures))
        if folder.exists():
            folder.rename(replaced)
        staging.rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)
    except tf.errors.OpError as error:  # TensorFlow's words end in the system's, and the operation's name
        reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
        raise OSError(f"cannot save to {folder}: {reason}; what was there before is unchanged.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
