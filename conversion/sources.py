"""The weights of a source, under the names that its files give them."""

from __future__ import annotations

from pathlib import Path

from conversion.weights_file import SUFFIXES, read_weights
from vit_core.checkpoint import Checkpoint, open_checkpoint, read_config
from vit_core.file_names import WEIGHTS_NAME
from vit_core.hub import ModelSource
from vit_core.json_file import read_json_file

#: KerasHub's presets have a file for the backbone and, for a task, one for the head and one that describes it.
BACKBONE_NAME, HEAD_NAME, TASK_NAME = "model.weights.h5", "task.weights.h5", "task.json"
TASK_KEY = "keras_hub_task"  # under which the description is added to what `config.json` says
#: Names of weights beside safetensors that a folder or a repository may have, the likeliest first.
KNOWN_NAMES = ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", BACKBONE_NAME)


def open_files(source: ModelSource) -> Checkpoint:
    """Open the weights of a source, in whatever format they are.

    Args:
        source: a file, or where there is `model.safetensors` (or its shards), one of `KNOWN_NAMES`, or, in a local
            folder, a single other file of weights.

    Raises:
        OSError: there are no weights, or several.
        ValueError: a file is not what it should be.
    """
    weights = source.weights or _only_file_of_weights(source)
    if weights is None:
        opened = open_checkpoint(source, dict.fromkeys((WEIGHTS_NAME, *KNOWN_NAMES), read_weights))
        return _with_head(opened, source) if opened.files[-1].name == BACKBONE_NAME else opened
    file = source.require(weights)
    config, config_files = read_config(source)
    return Checkpoint(config, read_weights(file), (*config_files, file))


def _with_head(backbone: Checkpoint, source: ModelSource) -> Checkpoint:
    """A preset of KerasHub with what its task adds to the backbone, if anything."""
    weights, task = source.file(HEAD_NAME), source.file(TASK_NAME)
    if weights is None:
        return backbone
    return Checkpoint(
        {**backbone.config, TASK_KEY: read_json_file(task) if task else None},
        {**read_weights(weights), **backbone.tensors},
        (*backbone.files, weights),
    )


def _only_file_of_weights(source: ModelSource) -> str | None:
    """The name of a local folder's weights, if they have no name that is known."""
    if source.folder is None:
        return None
    usual = [name for name in (WEIGHTS_NAME, *KNOWN_NAMES) if _is_there(source.folder, name)]
    files = sorted(path.name for path in source.folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    if usual or not files:
        return None
    if len(files) > 1:
        raise OSError(f"{source.name} has several files of weights, {', '.join(files[:6])}; name the one to read.")
    return files[0]


def _is_there(folder: Path, name: str) -> bool:
    return (folder / name).is_file() or (folder / f"{name}.index.json").is_file()
