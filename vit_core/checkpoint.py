"""A checkpoint: `config.json` and the weights beside it, in one file or in shards with an index."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from vit_core.checks import shown
from vit_core.config import PretrainedConfig
from vit_core.file_names import CONFIG_NAME, INDEX_SUFFIX, WEIGHTS_NAME
from vit_core.hub import ModelSource
from vit_core.json_file import read_json_file
from vit_core.safetensors_file import map_safetensors, write_safetensors
from vit_core.saving import replacing_files, undisturbed, write_flushed
from vit_core.stored_tensor import StoredTensor, first_float_name
from vit_core.weights_choice import WeightsChoice, checked_variant, variant_name, weight_files

SIZE_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SIZE_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}

LONGEST_NAME = 250  # letters; those of a wrapped model with its optimizer have a hundred

Reader = Callable[[Path], Mapping[str, StoredTensor]]
Writer = Callable[[Path, Mapping[str, StoredTensor]], None]


@dataclass(frozen=True)
class OpenCheckpoint:
    """An opened checkpoint; its tensors are read when asked for.

    Attributes:
        config: what `config.json` says, unchecked; empty if there is none.
        tensors: the weights under the names the file gives them.
        files: where they come from: config, weights, index and shards.
        texts: of a model of images and texts, the names that the file gives the tensors of its text tower.

    Raises:
        ValueError: a tensor has a name that no model's has: too long, or with letters that cannot be shown.
    """

    config: dict[str, Any]
    tensors: Mapping[str, StoredTensor]
    files: tuple[Path, ...]
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.tensors:
            if len(name) > LONGEST_NAME or not name.isprintable():
                where = f"{self.files[-1]} has" if self.files else "there is"
                raise ValueError(
                    f"{where} a tensor with the name {shown(name)}; names have at most {LONGEST_NAME} letters, and "
                    f"none that steer a terminal."
                )


def open_checkpoint(
    source: ModelSource, readers: Mapping[str, Reader] | None = None, choice: WeightsChoice | None = None
) -> OpenCheckpoint:
    """Open the checkpoint of a model, mapping its tensors rather than reading them.

    All of it comes from one save, even if a folder is saved to at the same time; what is open stays as it is when the
    folder is saved to afterwards.

    Args:
        source: where it is.
        readers: {file name: what reads such a file}, in the order in which files are looked for;
            `model.safetensors` alone unless given.
        choice: which of these files, and in which order; all of them in the order of `readers` unless given.

    Raises:
        FileNotFoundError: there are no weights.
        OSError: a shard is missing, or the model cannot be reached.
        ValueError: a file is not what it should be.
    """
    with undisturbed(source.folder) if source.folder else contextlib.nullcontext():
        readers = readers or {WEIGHTS_NAME: map_safetensors}
        return _open(source, readers, choice or WeightsChoice(tuple(readers)))


def read_config(source: ModelSource) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """What `config.json` says, and the file; nothing of either if there is none."""
    file = source.file(CONFIG_NAME)
    return (read_json_file(file), (file,)) if file else ({}, ())


def _open(source: ModelSource, readers: Mapping[str, Reader], choice: WeightsChoice) -> OpenCheckpoint:
    config, config_files = read_config(source)
    names = [name for name in choice.names if name in readers]
    for name in names:
        tensors: Mapping[str, StoredTensor] | None = None
        if whole := source.file(choice.file_name(name)):
            tensors, files = readers[name](whole), [whole]
        elif index := source.file(choice.index_name(name)):
            tensors, files = _read_shards(source, index, readers[name])
        if tensors is not None:
            return OpenCheckpoint(config, tensors, (*config_files, *files))
    looked_for = ", ".join(map(choice.file_name, names))
    raise FileNotFoundError(
        f"{source.name} has no weights that can be read here{source.offline_note()}; looked for {looked_for}, and for "
        f"shards of them."
    )


def save_checkpoint(
    folder: Path,
    config: PretrainedConfig,
    tensors: Mapping[str, StoredTensor],
    max_shard_size: int | str = "5GB",
    variant: str | None = None,
    weights_name: str = WEIGHTS_NAME,
    write: Writer = write_safetensors,
) -> None:
    """Write `config.json` and the weights; either all of them are replaced or nothing is.

    Args:
        folder: where; made if need be. Other files in it are left alone.
        config: the config; its `torch_dtype` is set from the tensors in the file.
        tensors: the weights by canonical name, in the order of the parameter table, which is the order of the shards.
        max_shard_size: largest size of a file, in bytes or as "5GB", "200MB", ...; one larger tensor gets its own file.
        variant: "fp16" writes `model.fp16.safetensors`; weights of another variant that lie there stay.
        weights_name: the usual name of such a file. Whatever it is, safetensors that lie there go: they would be read
            instead.
        write: writes such a file.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
        TypeError: `variant` is no text.
        ValueError: `max_shard_size` is no size, or `variant` cannot be a part of a file's name.
    """
    variant = checked_variant(variant)
    shards, texts = plan_files(config, tensors, max_shard_size, variant, weights_name)
    obsolete = (*weight_files(variant), *weight_files(variant, weights_name))
    with replacing_files(Path(folder), [*shards, *texts], obsolete) as staging:
        for name, names in shards.items():
            write(staging / name, {tensor: tensors[tensor] for tensor in names})
        for name, content in texts.items():
            write_flushed(staging / name, content)


def plan_files(
    config: PretrainedConfig,
    tensors: Mapping[str, StoredTensor],
    max_shard_size: int | str = "5GB",
    variant: str | None = None,
    weights_name: str = WEIGHTS_NAME,
) -> tuple[dict[str, list[str]], dict[str, bytes]]:
    """What the files of a checkpoint are, before any is written; for arguments and errors see `save_checkpoint`.

    Returns:
        For each file of weights, the names of its tensors; and each other file with its content.
    """
    described = config.replaced(torch_dtype=first_float_name(tensors))
    texts: dict[str, bytes] = {CONFIG_NAME: described.to_json_string().encode()}
    shards = split_into_shards(tensors, max_shard_size, variant, weights_name)
    if len(shards) > 1:
        texts[variant_name(f"{weights_name}{INDEX_SUFFIX}", variant)] = _index(shards, tensors)
    return shards, texts


def split_into_shards(
    tensors: Mapping[str, StoredTensor],
    max_shard_size: int | str,
    variant: str | None = None,
    weights_name: str = WEIGHTS_NAME,
) -> dict[str, list[str]]:
    """Distribute tensors over files: in order, a new file whenever the next tensor would pass the size.

    Returns:
        {file name: names of its tensors}, none of them empty unless there are no tensors at all.
    """
    largest = parse_size(max_shard_size)
    shards: list[list[str]] = [[]]
    filled = 0
    for name, tensor in tensors.items():
        if shards[-1] and filled + tensor.nbytes > largest:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += tensor.nbytes
    whole = variant_name(weights_name, variant)
    if len(shards) == 1:
        return {whole: shards[0]}
    stem, _, suffix = whole.rpartition(".")
    return {f"{stem}-{i:05}-of-{len(shards):05}.{suffix}": names for i, names in enumerate(shards, start=1)}


def parse_size(size: int | str) -> int:
    """Bytes of a size such as 1000, "5GB" or "200MiB"."""
    match = re.fullmatch(r"([0-9]{1,40}(?:\.[0-9]{1,40})?) ?([KMGT]I?B)?", str(size).strip().upper())
    in_bytes = int(Decimal(match[1]) * SIZE_UNITS[match[2] or ""]) if match else 0
    if in_bytes <= 0:
        raise ValueError(f"max_shard_size is {size!r}; give bytes or a size such as '5GB' or '200MB'.")
    return in_bytes


def _index(shards: Mapping[str, list[str]], tensors: Mapping[str, StoredTensor]) -> bytes:
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
        "weight_map": {tensor: name for name, names in shards.items() for tensor in names},
    }
    return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()


def _read_shards(source: ModelSource, index: Path, read: Reader) -> tuple[dict[str, StoredTensor], list[Path]]:
    weight_map = read_json_file(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} has no weight_map that names a shard for each tensor; get it again.")
    for name in weight_map.values():
        if not isinstance(name, str) or not _is_plain(name):
            raise ValueError(f"{index} names {shown(name)} as a shard; only files in its own folder are opened.")
    paths = {name: source.file(name) for name in sorted(set(weight_map.values()))}
    if missing := [name for name, path in paths.items() if path is None]:
        raise OSError(f"{source.name} lacks {missing[0]}, a shard that its {index.name} names; get it again.")
    shards = {name: read(path) for name, path in paths.items() if path}
    _require_one_shard_each(index, shards)
    tensors: dict[str, StoredTensor] = {}
    for tensor, name in weight_map.items():
        spellings = (tensor, tensor.partition("/")[2])  # TensorFlow's index has the model's name in front
        stored = next((spelling for spelling in spellings if spelling in shards[name]), None)
        if stored is None:
            raise ValueError(f"{index} names {shown(tensor)} as a tensor of {name}, which does not hold it.")
        if stored in tensors:
            raise ValueError(f"{index} names {shown(stored)} twice, and nothing says which one counts; get it again.")
        tensors[stored] = shards[name][stored]
    return tensors, [index, *filter(None, paths.values())]


def _require_one_shard_each(index: Path, shards: Mapping[str, Mapping[str, StoredTensor]]) -> None:
    first: dict[str, str] = {}
    for shard, names in shards.items():
        for name in names:
            if first.setdefault(name, shard) != shard:
                raise ValueError(
                    f"{index} has {shown(name)} in {first[name]} and in {shard}, and nothing says which one counts; "
                    f"get it again."
                )


def _is_plain(name: str) -> bool:
    return bool(re.fullmatch(r"[\w-][\w.-]{0,199}", name))
