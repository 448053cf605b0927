"""The weights of a source, under the names that its files give them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from conversion.adapters import ADAPTER_CONFIG, ADAPTER_STEM, advice
from conversion.containers.weights_file import SUFFIXES, described_in, read_weights
from vit_core.checkpoint import OpenCheckpoint, open_checkpoint, read_config
from vit_core.file_names import KERAS_NAME, USUAL_NAMES
from vit_core.hub import ModelSource
from vit_core.json_file import read_json_file
from vit_core.renaming import distinct
from vit_core.weights_choice import WeightsChoice

#: KerasHub's presets have a file for the backbone and, for a task, one for the head and one that describes it.
HEAD_NAME, TASK_NAME = "task.weights.h5", "task.json"
TASK_KEY = "keras_hub_task"  # under which the description is added to what `config.json` says
ANY_WEIGHTS = WeightsChoice()


def open_files(source: ModelSource, choice: WeightsChoice = ANY_WEIGHTS, mmap: bool = True) -> OpenCheckpoint:
    """Open the weights of a source, in whatever format they are.

    Args:
        source: a file, or where there is one with a usual name (or its shards), or, in a local folder, a single other
            file of weights.
        choice: which of several files with usual names.
        mmap: whether its bytes are mapped rather than read; see `vit_core.file_bytes`.

    Raises:
        OSError: there are no weights, or several, or none of those that are wanted.
        ValueError: a file is not what it should be.
    """
    weights = source.weights or _only_file_of_weights(source, choice)
    if weights is None:
        try:
            opened = open_checkpoint(source, dict.fromkeys(USUAL_NAMES, partial(read_weights, mmap=mmap)), choice)
        except FileNotFoundError as error:
            if source.offline_note() or not source.file(ADAPTER_CONFIG):
                raise
            raise OSError(advice(source)) from error
        return _with_head(opened, source, mmap) if opened.files[-1].name == KERAS_NAME else opened
    file = source.require(weights)
    tensors = read_weights(file, mmap)
    if described := described_in(file):
        return OpenCheckpoint(described, tensors, (file,))
    try:
        config, config_files = read_config(source)
    except ValueError:  # beside a lone file anything may lie
        if source.weights is None:
            raise
        config, config_files = {}, ()
    return OpenCheckpoint(config, tensors, (*config_files, file))


def _with_head(backbone: OpenCheckpoint, source: ModelSource, mmap: bool) -> OpenCheckpoint:
    """A preset of KerasHub with what its task adds to the backbone, if anything."""
    weights, task = source.file(HEAD_NAME), source.file(TASK_NAME)
    if weights is None:
        return backbone
    entries = [(f"{name} of {HEAD_NAME}", name, tensor) for name, tensor in read_weights(weights, mmap).items()]
    entries += [(name, name, tensor) for name, tensor in backbone.tensors.items()]
    config = {**backbone.config, TASK_KEY: read_json_file(task) if task else None}
    return OpenCheckpoint(config, distinct(entries), (*backbone.files, weights))


def _only_file_of_weights(source: ModelSource, choice: WeightsChoice) -> str | None:
    """The name of a local folder's weights, if they have no usual name; a variant always has one."""
    folder = source.folder
    if folder is None or choice.variant or any(_is_there(folder, choice, name) for name in choice.names):
        return None
    there = (path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    files = sorted(name for name in there if choice.allows(name))
    files = [name for name in files if not name.startswith(ADAPTER_STEM)] or files
    if len(files) > 1:
        raise OSError(f"{source.name} has several files of weights, {', '.join(files[:6])}; name the one to read.")
    return files[0] if files else None


def _is_there(folder: Path, choice: WeightsChoice, name: str) -> bool:
    return (folder / choice.file_name(name)).is_file() or (folder / choice.index_name(name)).is_file()
