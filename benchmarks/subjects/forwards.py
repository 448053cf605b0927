"""Rows of forward passes and training steps, whatever the framework."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator

from benchmarks.arithmetic import operations
from benchmarks.models import RELATIVES, VITS
from benchmarks.rows import Length, Row

BATCHES = (1, 8, 32)
Pairs = Collection[tuple[str, int]]
#: What quick runs have of models and batches, and whole ones.
QUICK: Pairs = {("ViT-S/16", 1)}
USUAL: Pairs = {*QUICK, ("ViT-S/16", 8), ("ViT-B/16", 1)}
#: How far answers may be from ours.
TOLERANCES = {"float32": 1e-3, "tf32": 0.02, "float16": 0.02, "bfloat16": 0.1, "int8": 0.5}
#: Instructions of which a processor must have one; others compute with each number as float32, and slower.
INSTRUCTIONS = {"bfloat16": ("avx512_bf16", "amx_bf16", "bf16")}
WITH_MEMORY = ("ViT-S/16", 8)
RELATIVE_BATCHES = (8,)
#: Where attention has more to do than everything else.
LARGE_IMAGE = 1344
LARGE = ("ViT-Ti/16", "ViT-S/16")


def forward(model: str, batch: int, dtype: str, sides: tuple[str, ...], limit: str, length: Length) -> Row:
    """A row of forward passes."""
    work = {"kind": "forward", "model": model, "batch": batch, "dtype": dtype}
    return Row(
        title(model, batch, dtype),
        work,
        sides,
        limit,
        length,
        weight(operations(model, batch)),
        TOLERANCES[dtype],
        has_memory=dtype != "int8" and (model, batch) == WITH_MEMORY,
        instructions=INSTRUCTIONS.get(dtype, ()),
    )


def grid(
    dtype: str,
    sides: tuple[str, ...],
    limit: str,
    models: Iterable[str] = VITS,
    batches: Iterable[int] = BATCHES,
    usual: Pairs = USUAL,
) -> Iterator[Row]:
    """Forward passes of each model with each batch; those that are not usual are for long runs."""
    for model in models:
        for batch in batches:
            is_quick, is_usual = dtype == "float32" and (model, batch) in QUICK, (model, batch) in usual
            yield forward(model, batch, dtype, sides, limit, "quick" if is_quick else "whole" if is_usual else "long")


def relatives(sides: tuple[str, ...], limit: str) -> Iterator[Row]:
    """Forward passes of models with registers and rotary positions."""
    return grid("float32", sides, limit, RELATIVES, RELATIVE_BATCHES, ())


def in_manner(
    manner: str, model: str, batch: int, sides: tuple[str, ...], limit: str, length: Length = "whole", **work: str
) -> Row:
    """A row of forward passes that are run in another manner than `from_pretrained` gives."""
    return Row(
        f"{title(model, batch, 'float32')}, {manner}",
        {"kind": "forward", "model": model, "batch": batch, "dtype": "float32", **work},
        sides,
        limit,
        length,
        weight(operations(model, batch)),
    )


def large_images(sides: tuple[str, ...], limit: str) -> Iterator[Row]:
    """Forward passes of one large image."""
    for model in LARGE:
        work = {"kind": "forward", "model": model, "batch": 1, "dtype": "float32", "image": LARGE_IMAGE}
        name = f"{title(model, 1, 'float32')}, {LARGE_IMAGE} x {LARGE_IMAGE}"
        weighed = weight(operations(model, 1, LARGE_IMAGE))
        yield Row(name, work, sides, limit, "long", weighed, has_memory=True, fewest=1)


def training_step(model: str, batch: int, sides: tuple[str, ...], manner: str = "", length: Length = "whole") -> Row:
    """A row of training steps; one whose sides run in another manner has no memory."""
    work = {"kind": "training step", "model": model, "batch": batch, "dtype": "float32"}
    name = ", ".join(filter(None, (title(model, batch, "float32"), "training step", manner)))
    weighed = weight(3 * operations(model, batch))
    return Row(name, work, sides, length=length, weight=weighed, has_memory=not manner)


def title(model: str, batch: int, dtype: str) -> str:
    """What a row is called."""
    return f"{model}, batch {batch}, {dtype}"


def weight(needed: int) -> float:
    """A row's part of the time: more for larger ones, though they get fewer rounds."""
    return math.sqrt(needed / 10e9)
