"""What from_pretrained and save_pretrained have in common in every framework."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vit_core.checkpoint import Checkpoint
from vit_core.config import ViTConfig
from vit_core.hub import ModelSource, locate
from vit_core.parameters import BASE_MODEL_PREFIX, Parameter, Task, parameters
from vit_core.position import resample_position_embeddings
from vit_core.safetensors_file import StoredTensor, first_float_name, shown

#: The name of each model in `config.json`, the same whichever framework saves.
ARCHITECTURES: dict[Task, str] = {
    "model": "ViTModel",
    "image-classification": "ViTForImageClassification",
    "masked-image-modeling": "ViTForMaskedImageModeling",
}

#: Arguments of ViTModel that decide which parameters there are.
PARTS = ("add_pooling_layer", "use_mask_token")

#: Options of transformers' from_pretrained that say what is always so here, accepted so that scripts keep running.
NEEDLESS_OPTIONS = frozenset(
    [
        "from_pt",
        "from_tf",
        "from_flax",
        "low_cpu_mem_usage",
        "use_safetensors",
        "trust_remote_code",
        "resume_download",
        "_fast_init",
    ]
)

#: Opens a checkpoint, given what the caller says of its config.
Opener = Callable[[ModelSource, Mapping[str, Any]], Checkpoint]

NAMES_SHOWN = 6  # in a warning; a model has hundreds


@dataclass(frozen=True)
class LoadingPlan:
    """Which tensor of a checkpoint fills which parameter of a model.

    Attributes:
        tensors: what to load, by canonical name.
        missing: parameters that nothing in the checkpoint fits, the mismatched included; they keep their random start.
        unexpected: tensors of the checkpoint that the model does not have.
        mismatched: (name, shape in the checkpoint, shape in the model) of parameters left at their random start.
    """

    tensors: dict[str, StoredTensor]
    missing: tuple[Parameter, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()

    def loading_info(self) -> dict[str, list[Any]]:
        """What `output_loading_info=True` returns beside the model."""
        mismatched = {name for name, _, _ in self.mismatched}
        return {
            "missing_keys": [row.name for row in self.missing if row.name not in mismatched],
            "unexpected_keys": list(self.unexpected),
            "mismatched_keys": list(self.mismatched),
            "error_msgs": [],
        }

    def warn(self, model: str, source: str) -> None:
        """Name in one warning what was left at its random start and what was not used, if anything."""
        info = self.loading_info()
        sentences = {
            "were not in the checkpoint and start at random, so train them before use": info["missing_keys"],
            "have another shape in the checkpoint and start at random": [
                f"{name} {stored} -> {wanted}" for name, stored, wanted in self.mismatched
            ],
            "are in the checkpoint, but this model has no such tensors": info["unexpected_keys"],
        }
        told = [f"{_some(names)} {sentence}" for sentence, names in sentences.items() if names]
        if told:
            warnings.warn(f"{model} from {source}: {'; '.join(told)}.", stacklevel=3)


@dataclass(frozen=True)
class Loading:
    """What a framework needs to build a model from a checkpoint.

    Attributes:
        source: what to call the checkpoint in messages.
        config: the model's.
        plan: what fills which parameter.
        dtype: of the checkpoint's first floating-point tensor, such as "float32"; None if it has none.
    """

    source: str
    config: ViTConfig
    plan: LoadingPlan
    dtype: str | None


def prepare_loading(
    model_id_or_path: str | os.PathLike[str],
    task: Task,
    *,
    config: ViTConfig | str | os.PathLike[str] | None,
    location: Mapping[str, Any],
    config_overrides: Mapping[str, Any],
    parts: Mapping[str, bool],
    ignore_mismatched_sizes: bool,
    opener: Opener,
) -> Loading:
    """Do what `from_pretrained` does in every framework before there is a model.

    Args:
        model_id_or_path: a folder, a Hub id, or a checkpoint that ships with the package.
        task: which model.
        config: a config, or where to find one, instead of the checkpoint's own.
        location: the options of `vit_core.hub.locate`.
        config_overrides: fields of the config to set.
        parts: the options of `vit_core.parameters.parameters`.
        ignore_mismatched_sizes: see `plan_loading`.
        opener: opens the checkpoint, whatever its format.

    Raises:
        OSError: there is no such checkpoint, or it cannot be reached.
        ValueError: a file is corrupt, the config is impossible, or a shape does not fit.
        TypeError: an override is no field of the config.
    """
    if isinstance(config, str | os.PathLike):
        config = ViTConfig.from_pretrained(config, **location)
    source = locate(model_id_or_path, **location)
    known = {**({} if config is None else config.to_dict()), **config_overrides}
    checkpoint = opener(source, known)
    config = config_for_loading(checkpoint, source.name, config, config_overrides)
    table = parameters(config, task, **parts)
    plan = plan_loading(table, checkpoint, config, source.name, ignore_mismatched_sizes)
    return Loading(source.name, config, plan, first_float_name(checkpoint.tensors))


def plan_loading(
    table: Sequence[Parameter],
    checkpoint: Checkpoint,
    config: ViTConfig,
    source: str,
    ignore_mismatched_sizes: bool = False,
) -> LoadingPlan:
    """Match the tensors of a checkpoint with the parameters of a model, before any memory is taken.

    A checkpoint of the base model fits models with a head and the other way round. Position embeddings are resampled
    when the model's image size is not that of the checkpoint's config.

    Args:
        table: the model's parameters.
        checkpoint: the opened checkpoint.
        config: the model's config.
        source: what to call the checkpoint in messages.
        ignore_mismatched_sizes: leave parameters whose shape does not fit at their random start.

    Raises:
        ValueError: a shape does not fit (both are named), nothing fits at all, or what is missing would need more
            memory than the machine has.
    """
    stored_names = {row.name: _stored_name(row.name, checkpoint.tensors) for row in table}
    if table and not any(stored_names.values()):
        raise ValueError(
            f"{source} holds no tensor of this model: it has {_some(checkpoint.tensors)}, where {table[0].name} and "
            f"others like it are needed."
        )
    tensors: dict[str, StoredTensor] = {}
    mismatched, resampled = [], []
    for row in table:
        if (stored_name := stored_names[row.name]) is None:
            continue
        stored = checkpoint.tensors[stored_name]
        tensor = _resampled(stored, row, checkpoint.config, config)
        if tensor is not stored:
            resampled.append(row)
        if tensor.shape == row.shape:
            tensors[row.name] = tensor
        elif ignore_mismatched_sizes:
            mismatched.append((row.name, tensor.shape, row.shape))
        else:
            raise ValueError(
                f"{source} holds {stored_name} with shape {tensor.shape}, but the config makes it {row.shape}; load "
                f"with the checkpoint's own config, or with ignore_mismatched_sizes=True to start it at random."
            )
    missing = tuple(row for row in table if row.name not in tensors)
    require_memory((*missing, *resampled), config)
    used = set(stored_names.values())
    unexpected = tuple(name for name in checkpoint.tensors if name not in used)
    return LoadingPlan(tensors, missing, unexpected, tuple(mismatched))


def require_memory(rows: Iterable[Parameter], config: ViTConfig) -> None:
    """Check that the machine can hold such parameters in float32, before they are made.

    Raises:
        ValueError: it cannot.
    """
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    needed = 4 * sum(row.size for row in rows)
    if needed > memory:
        raise ValueError(
            f"a config with hidden_size={config.hidden_size}, intermediate_size={config.intermediate_size}, "
            f"num_hidden_layers={config.num_hidden_layers}, image_size={config.image_size} and {config.num_labels} "
            f"labels asks for {needed / 2**30:.0f} GiB of new weights, but this machine has {memory / 2**30:.0f} GiB; "
            f"check the config."
        )


def config_for_loading(
    checkpoint: Checkpoint, source: str, config: ViTConfig | None, overrides: Mapping[str, Any]
) -> ViTConfig:
    """The config a model is loaded with: the caller's or the checkpoint's, with some fields set anew.

    Raises:
        OSError: the checkpoint has no config and none was given.
        TypeError: an override is no field of the config.
        ValueError: a value is impossible.
    """
    if config is None and not checkpoint.config:
        raise OSError(f"{source} has no config.json; give the model's config as config=ViTConfig(...).")
    base = ViTConfig.from_dict(checkpoint.config) if config is None else config
    overrides = {name: value for name, value in overrides.items() if name not in NEEDLESS_OPTIONS}
    if unknown := [name for name in overrides if not hasattr(base, name)]:
        raise TypeError(f"from_pretrained has no option {unknown[0]!r}, nor is it a field of the config.")
    if config is None:
        return ViTConfig.from_dict(checkpoint.config, **overrides)
    chosen = {"attn_implementation": config.attn_implementation, **overrides}
    return ViTConfig.from_dict(config.to_dict(), **chosen)


def _stored_name(name: str, tensors: Mapping[str, StoredTensor]) -> str | None:
    """The name under which a checkpoint of the base model or of a model with a head holds a parameter."""
    without_prefix = name.removeprefix(BASE_MODEL_PREFIX)
    return next((each for each in (name, without_prefix, BASE_MODEL_PREFIX + name) if each in tensors), None)


def _resampled(tensor: StoredTensor, row: Parameter, stored: Mapping[str, Any], config: ViTConfig) -> StoredTensor:
    """Position embeddings for the model's grid; anything else, and what is for that grid already, as it is."""
    if row.kind != "positions" or not stored:
        return tensor
    # Only these fields: the rest may describe another kind of model, whose weights fit the config that was given.
    sizes = {name: stored[name] for name in ("image_size", "patch_size") if name in stored}
    old_grid, new_grid = ViTConfig(**sizes).grid, config.grid
    hidden = row.shape[-1]
    if old_grid == new_grid or tensor.shape != (1, 1 + old_grid[0] * old_grid[1], hidden):
        return tensor
    return StoredTensor(
        "F32",
        row.shape,
        lambda: resample_position_embeddings(tensor.numpy(), old_grid, new_grid).astype("float32"),
    )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(name if name.isprintable() else shown(name) for name in names[:NAMES_SHOWN]) + more
