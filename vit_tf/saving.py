"""Writing checkpoints: safetensors, or the `tf_model.h5` that scripts for transformers 4 may ask for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from conversion.casting import Cast
from conversion.checkpoint import Checkpoint
from conversion.containers.hdf5_file import write_hdf5
from conversion.formats.transformers import TRANSFORMERS
from conversion.formats.transformers_tf import TRANSFORMERS_TF
from conversion.plan import Plan
from conversion.published import as_published
from vit_core import PretrainedConfig
from vit_core.checkpoint import parse_size, save_checkpoint
from vit_core.file_names import TENSORFLOW_NAME
from vit_core.parameters import Task
from vit_core.stored_tensor import StoredTensor


def save(
    folder: Path,
    config: PretrainedConfig,
    tensors: Mapping[str, StoredTensor],
    task: Task | None,
    max_shard_size: int | str,
    variant: str | None,
    safe_serialization: bool,
) -> None:
    """Write a checkpoint as safetensors or, if asked, as HDF5.

    Args:
        folder: where.
        config: the model's.
        tensors: by canonical name, and what a subclass added by its own.
        task: which model they are of; None for a subclass with a head of its own.
        max_shard_size: see `vit_core.checkpoint.save_checkpoint`; HDF5 is written in one file.
        variant: likewise.
        safe_serialization: False writes `tf_model.h5`, which transformers' TensorFlow models read where it has such a
            model; otherwise its names are ours.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
        ValueError: HDF5 has no place for something, or the model is larger than `max_shard_size`.
    """
    if safe_serialization:
        save_checkpoint(folder, config, as_published(tensors, config), max_shard_size, variant)
        return
    checkpoint = Checkpoint(config, tensors, task or "model", TRANSFORMERS.name, {}, (), (), "", ())
    plan = Plan.of(checkpoint, Cast(None, allow_nan=True), TRANSFORMERS_TF)
    if plan.left_out:
        raise ValueError(
            f"{TENSORFLOW_NAME} has no place for {', '.join(plan.left_out)}; leave out safe_serialization=False, and "
            f"model.safetensors holds everything."
        )
    if (size := sum(tensor.nbytes for tensor in plan.tensors.values())) > parse_size(max_shard_size):
        raise ValueError(
            f"the weights have {size} bytes and max_shard_size is {max_shard_size!r}, but {TENSORFLOW_NAME} is written "
            f"in one piece; give a larger max_shard_size, or leave out safe_serialization=False."
        )
    if plan.notes:
        warnings.warn(f"{TENSORFLOW_NAME}: {'; '.join(plan.notes)}.", stacklevel=3)
    spelt = plan.spelt()
    attributes = plan.form.attributes(spelt) if plan.form.attributes else None
    config = plan.config.replaced(architectures=config.architectures)
    save_checkpoint(
        folder, config, spelt, size + 1, variant, TENSORFLOW_NAME, lambda path, part: write_hdf5(path, part, attributes)
    )
