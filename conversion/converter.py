"""From any format to any that can be written, in one pass, and read back before it is anybody's checkpoint."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from conversion import rules
from conversion.checkpoint import Checkpoint, load
from conversion.format import Format, Tensors
from conversion.formats import FORMATS, WRITABLE
from conversion.formats.transformers import TRANSFORMERS
from conversion.passing import Pass, Progress, forget
from conversion.sources import KNOWN_NAMES
from conversion.weights_file import CONTAINERS, container_for
from vit_core.checkpoint import plan_files
from vit_core.checks import require_choice
from vit_core.config import ViTConfig
from vit_core.file_names import CONFIG_NAME, PROCESSOR_NAME, WEIGHT_FILES, WEIGHTS_NAME
from vit_core.memory_order import contiguous
from vit_core.parameters import BASE_MODEL_PREFIX, Task
from vit_core.pretrained import ARCHITECTURES
from vit_core.safetensors_file import DTYPES, FLOAT_CODES, StoredTensor, first_float_name, from_numpy
from vit_core.saving import replacing_files, write_flushed


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
    """

    source: Checkpoint
    config: ViTConfig
    destination: Path
    format: str
    files: Mapping[str, int]
    notes: tuple[str, ...]
    compared: int


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
    target = _Target.at(Path(destination), form)
    target.require_free(overwrite)
    checkpoint = load(source, **options)
    plan = _Plan.of(checkpoint, Pass(dtype, allow_nan, progress), form)
    notes = [*plan.notes, *target.notes(plan.config, form)]
    with target.replacing() as staging:
        _write(staging, target, form, plan, checkpoint.preprocessing, max_shard_size)
        again = _Plan.of(checkpoint, Pass(dtype, allow_nan=True), form)
        compared = _compare(staging, target, again) if compare else 0
        files = {file.name: file.stat().st_size for file in sorted(staging.iterdir())}
    return Conversion(checkpoint, plan.config, Path(destination), form.name, files, tuple(notes), compared)


@dataclass(frozen=True)
class _Target:
    """Where to: a folder with everything, or one file.

    Attributes:
        folder: the folder.
        container: the kind of the file of weights.
        weights: the name of the file of weights.
        is_file: whether nothing but the weights is written.
    """

    folder: Path
    container: str
    weights: str
    is_file: bool

    @classmethod
    def at(cls, destination: Path, form: Format) -> _Target:
        container = container_for(destination)
        if container is None or destination.is_dir():
            usual = next(iter(form.files))
            return cls(destination, usual, form.files[usual], is_file=False)
        if container not in form.files:
            suffixes = [suffix for each in form.files for suffix in CONTAINERS[each].suffixes]
            raise ValueError(
                f"{destination} cannot hold the format {form.name!r}, whose files end in {' or '.join(suffixes)}; name "
                f"such a file, a folder, or another format."
            )
        return cls(destination.parent, container, destination.name, is_file=True)

    def require_free(self, overwrite: bool) -> None:
        """Raise an OSError unless the destination may be written."""
        if self.is_file:
            if (self.folder / self.weights).exists() and not overwrite:
                raise FileExistsError(f"{self.folder / self.weights} exists and is kept; allow overwriting it.")
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder} is a file; name a folder.")
        there = sorted(file.name for file in self.folder.iterdir()) if self.folder.is_dir() else []
        if there and not overwrite:
            raise FileExistsError(f"{self.folder} holds {there[0]} and is kept; allow overwriting it, or name another.")
        if others := [name for name in there if name in KNOWN_NAMES and name != self.weights]:
            raise FileExistsError(
                f"{self.folder} holds {others[0]}, other weights beside the new ones; remove it first."
            )

    def notes(self, config: ViTConfig, form: Format) -> list[str]:
        """What the code that reads such files takes for granted and this model is not."""
        notes = [
            f"what else reads {form.title} computes with {name}={value}; this model has {getattr(config, name)}, so "
            f"its answers differ there"
            for name, value in form.conventions.items()
            if getattr(config, name) != value and (self.is_file or name not in form.told)
        ]
        if self.is_file:
            notes.append(f"the weights alone were written: a folder also gets {CONFIG_NAME} and {PROCESSOR_NAME}")
        return notes

    @contextlib.contextmanager
    def replacing(self) -> Iterator[Path]:
        """A staging folder, whose files appear together when the block ends; on failure nothing is left."""
        folders = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        obsolete = () if self.is_file else WEIGHT_FILES
        try:
            with replacing_files(self.folder, obsolete=obsolete) as staging:
                yield staging
        except BaseException:
            for folder in folders:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise


@dataclass(frozen=True)
class _Plan:
    """What a format takes of a checkpoint, to be read once.

    Attributes:
        tensors: by canonical name.
        config: of the model that these tensors make.
        notes: what was changed, in sentences.
    """

    tensors: Tensors
    config: ViTConfig
    notes: tuple[str, ...]

    @classmethod
    def of(cls, checkpoint: Checkpoint, reading: Pass, form: Format) -> _Plan:
        config, notes = copy.deepcopy(checkpoint.config), []
        if config.pruned_heads and any(_needs_whole_heads(rule) for rule in form.rules):
            raise ValueError(
                f"attention heads are pruned, for which {form.title} has no place; convert to transformers."
            )
        tensors = _base_names(reading.through(checkpoint.tensors))
        if form.has_qkv_bias and not config.qkv_bias:
            config.qkv_bias = True
            tensors = _with_zero_biases(tensors)
            notes.append(f"{form.title} always has biases of query, key and value; zeros were written")
        for rule in form.rules:
            if any(isinstance(step, rules.FoldClassPosition) for step in rule.steps):
                folded = rule.write([tensors[name] for name in rule.ours], config.num_attention_heads)
                tensors |= zip(rule.ours, rule.read(folded), strict=True)
                notes.append(f"in {form.title} the class token's position is a part of the token")
        places = {name for rule in form.rules for name in rule.ours}
        homeless = [name for name in tensors if rules.template_of(name)[0] not in places]
        if form.head_reads_pooler and not config.classifier_uses_pooler:
            homeless += [name for name in tensors if name.startswith("pooler.") and name not in homeless]
        if config.classifier_uses_pooler and "pooler.dense.weight" in homeless:
            raise ValueError(
                f"the classifier reads a pooler (Google's representation layer), for which {form.title} has no place; "
                f"convert to transformers, google, torchvision or keras-hub."
            )
        if homeless:
            notes.append(f"{form.title} has no place for {', '.join(homeless)}; left out")
        kept = {name: tensor for name, tensor in tensors.items() if name not in homeless}
        task: Task = "model" if any(map(_is_head, homeless)) else checkpoint.task
        config.architectures = [ARCHITECTURES[task]]
        prefix = "" if task == "model" else BASE_MODEL_PREFIX
        named = {name if _is_head(name) else prefix + name: tensor for name, tensor in kept.items()}
        return cls(named, config, tuple(notes))


def _is_head(name: str) -> bool:
    return name.split(".")[0] in rules.HEADS


def _needs_whole_heads(rule: rules.Rule) -> bool:
    return any(isinstance(step, rules.Fuse | rules.SplitHeads) for step in rule.steps)


def _with_zero_biases(tensors: Tensors) -> dict[str, StoredTensor]:
    """The tensors with biases of zero after the weights of query, key and value."""
    complete: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        complete[name] = tensor
        if ".attention.attention." in name:
            zeros = from_numpy(np.zeros(tensor.shape[:1], DTYPES[tensor.dtype]))
            complete[name.removesuffix("weight") + "bias"] = replace(zeros, dtype=tensor.dtype)
    return complete


def _base_names(tensors: Tensors) -> dict[str, StoredTensor]:
    return {name.removeprefix(BASE_MODEL_PREFIX): tensor for name, tensor in tensors.items()}


def _write(
    staging: Path,
    target: _Target,
    form: Format,
    plan: _Plan,
    preprocessing: Mapping[str, Any],
    max_shard_size: int | str,
) -> None:
    """Write all files, each flushed to disk."""
    config = ViTConfig.from_dict({**plan.config.to_dict(), "torch_dtype": first_float_name(plan.tensors)})
    container, base = CONTAINERS[target.container], _base_names(plan.tensors)
    has_head = config.architectures != [ARCHITECTURES["model"]]
    prefix = form.base_prefix if has_head else ""
    written = form.spelt(rules.write(form.rules, base, config.num_attention_heads, prefix))
    attributes = [form.attributes(written)] if form.attributes and container.takes_attributes else []
    texts = {} if target.is_file else {CONFIG_NAME: form.config_file(config, preprocessing).encode()}
    if target.weights == WEIGHTS_NAME and not target.is_file:
        shards, more = plan_files(config, written, max_shard_size)
        texts = {**more, **texts}
    else:
        shards = {target.weights: list(written)}
    if not target.is_file:
        texts[PROCESSOR_NAME] = (json.dumps(preprocessing, indent=2, sort_keys=True) + "\n").encode()
    for name, names in shards.items():
        container.write(staging / name, {each: written[each] for each in names}, *attributes)
    for name, content in texts.items():
        write_flushed(staging / name, content)


def _compare(staging: Path, target: _Target, plan: _Plan) -> int:
    """Read the result back and compare each tensor, bit for bit; the number of tensors."""
    told = {"num_attention_heads": plan.config.num_attention_heads, "image_size": plan.config.image_size}
    result = load(staging / target.weights, **told) if target.is_file else load(staging)
    found = _base_names(result.tensors)
    for name, tensor in plan.tensors.items():
        stored = found.pop(name.removeprefix(BASE_MODEL_PREFIX), None)
        if stored is None or stored.shape != tensor.shape or stored.dtype != tensor.dtype:
            raise OSError(f"{name} is not in what was written as it should be; nothing was kept.")
        bits = stored.read()
        if not np.array_equal(_bytes(bits), _bytes(tensor.read())):
            raise OSError(f"{name} does not come back from what was written as it was; nothing was kept.")
        forget(bits)
    if found:
        raise OSError(f"{min(found)} is in what was written and should not be; nothing was kept.")
    return len(plan.tensors)


def _bytes(array: np.ndarray) -> np.ndarray:
    """The bits as whole numbers, which are equal to themselves also where values are NaN."""
    return contiguous(array).view(f"u{array.dtype.itemsize}")
