"""Which tensor of a checkpoint fills which parameter of a model."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from vit_core.checkpoint import OpenCheckpoint
from vit_core.checks import listed
from vit_core.config import PretrainedConfig
from vit_core.loading_options import PATCH_RESAMPLINGS, PatchResampling
from vit_core.memory import allowed_memory, in_gib
from vit_core.parameters import Parameter
from vit_core.renaming import TwoNamesError, renamed
from vit_core.resampling import require_trained_patches, resampled, sees_pixels
from vit_core.stored_tensor import StoredTensor

Shape = tuple[int, ...]
T = TypeVar("T")

#: What data parallelism, torch.compile, FSDP and activation checkpointing put into names.
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_WRAPPER = re.compile("|".join(WRAPPERS))

#: What older checkpoints of transformers hold although it follows from sizes, by the last part of its name.
COMPUTED = ("relative_position_index", "position_ids")


class ShapeError(ValueError, RuntimeError):
    """A weight does not fit the model: a ValueError, and what scripts for transformers' PyTorch models catch."""


@dataclass(frozen=True)
class LoadingPlan:
    """Which tensor of a checkpoint fills which parameter of a model.

    Attributes:
        tensors: what to load, by canonical name.
        missing: parameters that nothing in the checkpoint fits, the mismatched included; they start at random.
        missing_extras: likewise of what a subclass added; they keep the start that its constructor gave them.
        unexpected: tensors of the checkpoint that the model does not have.
        mismatched: (name, shape in the checkpoint, shape in the model) of parameters left at their random start.
        texts: the tensors of the text tower of a model of images and texts, which the model does not have.
    """

    tensors: dict[str, StoredTensor]
    missing: tuple[Parameter, ...] = ()
    missing_extras: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def missing_names(self) -> list[str]:
        """The names of all that is missing."""
        return [*(row.name for row in self.missing), *self.missing_extras]

    def loading_info(self) -> dict[str, list[Any]]:
        """What `output_loading_info=True` returns beside the model."""
        mismatched = {name for name, _, _ in self.mismatched}
        return {
            "missing_keys": [name for name in self.missing_names if name not in mismatched],
            "unexpected_keys": list(self.unexpected),
            "mismatched_keys": list(self.mismatched),
            "error_msgs": [],
        }

    def warn(
        self, model: str, source: str, missing_is_fine: Sequence[str] = (), unexpected_is_fine: Sequence[str] = ()
    ) -> None:
        """Name in one warning what was left at its random start and what was not used, if anything.

        Args:
            model: what to call the model.
            source: what to call the checkpoint.
            missing_is_fine: regular expressions of names that may be missing.
            unexpected_is_fine: likewise of names that may be left over.
        """
        info = self.loading_info()
        info["missing_keys"] = _without(info["missing_keys"], missing_is_fine)
        unexpected = [name for name in self.unexpected if name not in self.texts]
        info["unexpected_keys"] = _without(unexpected, unexpected_is_fine)
        sentences = {
            "were not in the checkpoint and start at random, so train them before use": info["missing_keys"],
            "have another shape in the checkpoint and start at random": [
                f"{name} {stored} -> {wanted}" for name, stored, wanted in self.mismatched
            ],
            "are in the checkpoint, but this model has no such tensors": info["unexpected_keys"],
        }
        told = [f"{listed(names)} {sentence}" for sentence, names in sentences.items() if names]
        if self.texts:
            told.append(f"the text tower, {len(self.texts)} tensors, is left out")
        if told:
            warnings.warn(f"{model} from {source}: {'; '.join(told)}.", stacklevel=3)


def plan_loading(
    table: Sequence[Parameter],
    checkpoint: OpenCheckpoint,
    config: PretrainedConfig,
    source: str,
    ignore_mismatched_sizes: bool = False,
    extras: Mapping[str, Shape] | None = None,
    prefix: str | None = None,
    patch_resampling: PatchResampling | None = None,
) -> LoadingPlan:
    """Match the tensors of a checkpoint with the parameters of a model, before any memory is taken.

    A checkpoint of the base model fits models with a head and the other way round. Position embeddings are resampled
    when the model's grid of patches is not that of the checkpoint's config.

    Args:
        table: the model's parameters.
        checkpoint: the opened checkpoint.
        config: the model's config.
        source: what to call the checkpoint in messages.
        ignore_mismatched_sizes: leave parameters whose shape does not fit at their random start.
        extras: the shapes of what a subclass added to the table's parameters, by name.
        prefix: what the names of the base model's parameters start with in a model of someone's own with a head; as
            in those of the config's family unless given.
        patch_resampling: how the patches' projection is resampled where the model's patches have another size; None
            leaves it as it is, so that it does not fit.

    Raises:
        ShapeError: a shape does not fit; both are named.
        ValueError: nothing fits at all, a tensor is there under two names, or what is missing would need more memory
            than the machine has.
    """
    wanted = {row.name: row.shape for row in table} | dict(extras or {})
    available = unwrapped(checkpoint.tensors, wanted)
    usual = f"{config.base_model_prefix}."
    stored_names = _stored_names(wanted, available, prefix or usual, usual)
    if wanted and not stored_names:
        raise ValueError(
            f"{source} holds no tensor of this model: it has {listed(available)}, where {next(iter(wanted))} and "
            f"others like it are needed."
        )
    rows = {row.name: row for row in table}
    tensors: dict[str, StoredTensor] = {}
    mismatched, changed = [], []
    for name, shape in wanted.items():
        if (stored_name := stored_names.get(name)) is None:
            continue
        stored = tensor = available[stored_name]
        if name in rows:
            tensor = resampled(stored, rows[name], checkpoint.config, config, patch_resampling)
        if tensor is not stored:
            changed.append(rows[name])
        fits = tensor.shape == shape
        if name in rows and (fits or not ignore_mismatched_sizes):
            require_trained_patches(source, rows[name], changed, config)
        if fits:
            tensors[name] = tensor
        elif ignore_mismatched_sizes:
            mismatched.append((name, tensor.shape, shape))
        else:
            is_left = name in rows and sees_pixels(rows[name]) and patch_resampling is None
            advice = f", with patch_resampling={PATCH_RESAMPLINGS[0]!r} to resample it" if is_left else ""
            raise ShapeError(
                f"{source} holds {stored_name} with shape {tensor.shape}, but the config makes it {shape}; load "
                f"with the checkpoint's own config{advice}, or with ignore_mismatched_sizes=True to start it at random."
            )
    missing = tuple(row for row in table if row.name not in tensors)
    require_memory((*missing, *changed), config)
    used = set(stored_names.values())
    _require_one_name_each(available, used, (prefix or usual, usual), source)
    return LoadingPlan(
        tensors,
        missing,
        tuple(name for name in extras or () if name not in tensors),
        tuple(name for name in available if name not in used and name.rpartition(".")[2] not in COMPUTED),
        tuple(mismatched),
        tuple(name for name in checkpoint.texts if name not in used),
    )


def unwrapped(tensors: Mapping[str, T], known: Iterable[str]) -> dict[str, T]:
    """Tensors without what wrappers of a model put into their names.

    Args:
        tensors: by name.
        known: the model's own names, which stay as they are.

    Raises:
        TwoNamesError: two names become one.
    """
    known = set(known)

    def spelling(name: str) -> str:
        if name in known or not _WRAPPER.search(name):
            return name
        return ".".join(part for part in name.split(".") if part not in WRAPPERS)

    return renamed(tensors, spelling)


def require_memory(rows: Iterable[Parameter], config: PretrainedConfig) -> None:
    """Check that this process can have such parameters in float32, before they are made.

    Raises:
        ValueError: it cannot.
    """
    memory, needed = allowed_memory(), 4 * sum(row.size for row in rows)
    if memory is not None and needed > memory:
        raise ValueError(
            f"a config with hidden_size={config.hidden_size}, intermediate_size={config.intermediate_size}, "
            f"num_hidden_layers={config.num_hidden_layers}, image_size={config.image_size} and {config.num_labels} "
            f"labels asks for {in_gib(needed)} of new weights, but this process may have {in_gib(memory)}; check the "
            f"config."
        )


def _stored_names(wanted: Iterable[str], tensors: Collection[str], prefix: str, usual: str) -> dict[str, str]:
    """The names under which a checkpoint holds a model's parameters, of those that it has.

    The checkpoint may be the base model's and the model one with a head, or the other way round. A part of a head may
    have a name that a part of the base model has, too, such as "layernorm"; the one is never taken for the other.

    Args:
        wanted: the model's names.
        tensors: the checkpoint's names.
        prefix: what the names of the base model's parameters start with in a model with a head.
        usual: what they start with in the checkpoints of the family.
    """
    prefixes = [each for each in dict.fromkeys((prefix, usual)) if _any_starts(tensors, each)]
    bare = {name: name.removeprefix(prefix) for name in wanted if name.startswith(prefix)}
    if not bare:  # the model is a base model
        begins = prefixes or [""]
        found = {name: next((each + name for each in begins if each + name in tensors), "") for name in wanted}
        return {name: stored for name, stored in found.items() if stored}
    if prefix in prefixes:  # both have a head
        return {name: name for name in wanted if name in tensors}
    # What stands under the prefix may be a model with a head in its turn.
    begin = prefixes[0] if prefixes and not _any_starts(bare.values(), prefixes[0]) else ""
    found = {name: begin + rest for name, rest in bare.items() if begin + rest in tensors}
    taken = set(found.values())
    return found | {name: name for name in wanted if name in tensors and name not in taken}


def _require_one_name_each(names: Iterable[str], used: Collection[str], prefixes: Iterable[str], source: str) -> None:
    """Raise ValueError if a tensor is there with and without what a base model's names start with in one with a head.

    Norms are not looked at: a head may have one of the base model's name.
    """
    for name in names:
        if name in used:
            continue
        for prefix in prefixes:
            other = name.removeprefix(prefix) if name.startswith(prefix) else prefix + name
            if other in used and min(name, other, key=len).startswith(("embeddings.", "encoder.", "classifier.")):
                raise ValueError(f"{source}: {TwoNamesError(other, name, name, {})}")


def _any_starts(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _without(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if not any(re.search(pattern, name) for pattern in patterns)]
