"""From any format to any that can be written, in one pass, and read back before it is anybody's checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from conversion.canonical import keyed
from conversion.casting import Cast, Progress, forget
from conversion.checkpoint import Checkpoint, load
from conversion.containers.weights_file import CONTAINERS
from conversion.destination import Destination
from conversion.formats import FORMATS, WRITABLE
from conversion.formats.transformers import TRANSFORMERS
from conversion.known_settings import known_fields, known_preprocessing
from conversion.plan import Plan
from vit_core.array_bytes import contiguous
from vit_core.checkpoint import plan_files
from vit_core.checks import require_choice
from vit_core.config import PretrainedConfig
from vit_core.families import family_of
from vit_core.file_names import CONFIG_NAME, PROCESSOR_NAME, WEIGHTS_NAME
from vit_core.saving import write_flushed
from vit_core.stored_tensor import FLOAT_CODES, first_float_name

#: What a file of weights alone does not tell of a model; beside the weights in a folder lies `config.json`.
UNTOLD = (
    *("num_attention_heads", "image_size", "hidden_act", "layer_norm_eps", "rope_theta", "position_resampling"),
    *("pooler_act", "classifier_uses_pooler", "pruned_heads", "decoder_num_attention_heads", "model_type"),
)


@dataclass(frozen=True)
class Conversion:
    """What `convert` did.

    Attributes:
        source: the checkpoint as it was read.
        config: of the model that was written.
        destination: the folder or the file.
        format: what it was written as.
        files: the names of the files, and their sizes in bytes.
        notes: what whoever uses the result should know, in sentences.
        compared: how many tensors were read back and found equal; 0 if that was not asked for.
        carried: the names of what the source has beside the model and was written, too, such as a CLIP's text tower.
    """

    source: Checkpoint
    config: PretrainedConfig
    destination: Path
    format: str
    files: Mapping[str, int]
    notes: tuple[str, ...]
    compared: int
    carried: tuple[str, ...] = ()


def convert(
    source: str | PathLike[str],
    destination: str | PathLike[str],
    to: str = TRANSFORMERS.name,
    dtype: str | None = None,
    *,
    overwrite: bool = False,
    allow_nan: bool = False,
    compare: bool = True,
    max_shard_size: int | str = "5GB",
    progress: Progress | None = None,
    **options: Any,
) -> Conversion:
    """Write a checkpoint in another format, all of it or nothing.

    Args:
        source: see `conversion.load`.
        destination: a folder, which gets the weights, `config.json` and `preprocessor_config.json`; or a file, whose
            name ends as the format's files do, for the weights alone.
        to: the format, a name of `conversion.formats.WRITABLE`.
        dtype: "float16", "bfloat16", "float32" or "float64"; each tensor keeps its own unless given.
        overwrite: whether what is there may be replaced.
        allow_nan: whether weights may be NaN.
        compare: whether to read the result back and compare each tensor, bit for bit, before it takes its place.
        max_shard_size: largest size of a safetensors file in canonical names; larger models are written in shards.
        progress: called before each tensor is read, with its name, the bytes so far and all bytes.
        **options: those of `conversion.load`, among them fields of the config.

    Returns:
        What was done.

    Raises:
        OSError: there is no such source, the destination exists, or it cannot be written.
        ValueError: the source cannot be read, has NaN, or is a model that the format has no place for.
    """
    require_choice("to", to, WRITABLE)
    if dtype is not None:
        require_choice("dtype", dtype, FLOAT_CODES)
    form = FORMATS[to]
    target = Destination.at(Path(destination), form)
    target.require_free(overwrite)
    checkpoint = load(source, **options)
    reading = Cast(dtype, allow_nan, progress)
    config, unknown_fields = known_fields(checkpoint.config)
    preprocessing, unknown_settings = known_preprocessing(checkpoint.preprocessing)
    known = replace(checkpoint, config=config)
    plan = Plan.of(known, reading, form)
    writers = _writers(target, plan, preprocessing, max_shard_size)
    with target.replacing(writers) as staging:
        for name, write in writers.items():
            write(staging / name)
        again = Plan.of(known, Cast(dtype, allow_nan=True), form)
        compared = _compare(staging, target, again) if compare else 0
        files = {name: (staging / name).stat().st_size for name in sorted(writers)}
    notes = (
        *unknown_fields,
        *unknown_settings,
        *plan.notes,
        *target.notes(plan.config, plan.task, plan.form),
        *reading.notes(),
    )
    return Conversion(
        checkpoint, plan.config, Path(destination), plan.form.name, files, notes, compared, tuple(plan.beside)
    )


def _writers(
    target: Destination, plan: Plan, preprocessing: Mapping[str, Any], max_shard_size: int | str
) -> dict[str, Callable[[Path], None]]:
    """The names of all files, and what writes each, flushed to disk."""
    form = plan.form
    config = plan.config.replaced(torch_dtype=first_float_name(plan.tensors))
    container, written = CONTAINERS[target.container], plan.spelt()
    more: list[Any] = [form.attributes(written)] if form.attributes and container.takes_attributes else []
    more += [form.inside] if form.inside and container.takes_inside else []
    texts = {} if target.is_file else {CONFIG_NAME: form.config_file(config, preprocessing).encode()}
    if form.shards and target.weights == WEIGHTS_NAME and not target.is_file:
        shards, index = plan_files(config, written, max_shard_size)
        texts = {**index, **texts}
    else:
        shards = {target.weights: list(written)}
    if not target.is_file:
        texts[PROCESSOR_NAME] = (json.dumps(preprocessing, indent=2, sort_keys=True) + "\n").encode()
    write = container.write
    assert write is not None  # no format is written to a kind of file that is only read

    def weights(names: list[str]) -> Callable[[Path], None]:
        return lambda path: write(path, {each: written[each] for each in names}, *more)

    def text(content: bytes) -> Callable[[Path], None]:
        return lambda path: write_flushed(path, content)

    return {name: weights(names) for name, names in shards.items()} | {name: text(texts[name]) for name in texts}


def _compare(staging: Path, target: Destination, plan: Plan) -> int:
    """Read the result back and compare each tensor, bit for bit; the number of tensors."""
    result = load(staging / target.weights, **untold(plan.config)) if target.is_file else load(staging)
    beside = {name: result.beside[name] for name in plan.beside if name in result.beside}
    found = {**keyed(result.tensors, result.config, result.task), **beside}
    for name, tensor in {**keyed(plan.tensors, plan.config, plan.task), **plan.beside}.items():
        stored = found.pop(name, None)
        if stored is None or stored.shape != tensor.shape or stored.dtype != tensor.dtype:
            raise OSError(f"{name} is not in what was written as it should be; nothing was kept.")
        bits = stored.read()
        if not np.array_equal(_bytes(bits), _bytes(tensor.read())):
            raise OSError(f"{name} does not come back from what was written as it was; nothing was kept.")
        forget(bits)
    if found:
        raise OSError(f"{min(found)} is in what was written and should not be; nothing was kept.")
    return len(plan.tensors) + len(plan.beside)


def untold(config: PretrainedConfig) -> dict[str, Any]:
    """What a file of weights alone does not tell of a model."""
    told = {name: getattr(config, name) for name in UNTOLD if hasattr(config, name)}
    if family_of(config).task_of(next(iter(config.architectures or []), "")) != "pre-training":
        told.pop("decoder_num_attention_heads", None)  # of a decoder that is not there, and whose width no file tells
    return told


def _bytes(array: np.ndarray) -> np.ndarray:
    """The bits as whole numbers, which are equal to themselves also where values are NaN."""
    return contiguous(array).view(f"u{array.dtype.itemsize}")
