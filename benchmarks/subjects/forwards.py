"""Rows of forward passes and training steps, whatever the framework."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from benchmarks.arithmetic import operations
from benchmarks.models import RELATIVES, VITS
from benchmarks.rows import Length, Row

BATCHES = (1, 8, 32)
#: Operations of one pass up to which a row is in a whole run: larger ones take more than their part of the time.
LARGEST = {"float32": 350e9, "bfloat16": 160e9, "int8": 350e9}
#: Of the smallest model's batches a whole run has this one.
SMALLEST = ("ViT-Ti/16", 8)
#: How far answers may be from ours.
TOLERANCES = {"float32": 1e-3, "tf32": 0.02, "float16": 0.02, "bfloat16": 0.1, "int8": 0.5}
#: Instructions of which a processor must have one; others compute with each number as float32, and slower.
INSTRUCTIONS = {"bfloat16": ("avx512_bf16", "amx_bf16", "bf16")}
QUICK = (("ViT-S/16", 1, "float32"), ("ViT-S/16", 8, "float32"))
WITH_MEMORY = (("ViT-B/16", 8, "float32"), ("ViT-B/16", 8, "bfloat16"))
RELATIVE_BATCHES = (8,)
#: Where attention has more to do than everything else.
LARGE_IMAGE = 1344
LARGE: dict[str, Length] = {"ViT-Ti/16": "whole", "ViT-S/16": "long"}


def forward(
    model: str, batch: int, dtype: str, sides: tuple[str, ...], limit: str, length: Length | None = None
) -> Row:
    """A row of forward passes; in which runs it is follows from its size unless it is said."""
    needed = operations(model, batch)
    if length is None:
        is_usual = needed <= LARGEST[dtype] and (model != SMALLEST[0] or batch == SMALLEST[1])
        length = "quick" if (model, batch, dtype) in QUICK else "whole" if is_usual else "long"
    work = {"kind": "forward", "model": model, "batch": batch, "dtype": dtype}
    return Row(
        title(model, batch, dtype),
        work,
        sides,
        limit,
        length,
        weight(needed),
        TOLERANCES[dtype],
        has_memory=(model, batch, dtype) in WITH_MEMORY,
        instructions=INSTRUCTIONS.get(dtype, ()),
    )


def grid(
    dtype: str, sides: tuple[str, ...], limit: str, models: Iterable[str] = VITS, batches: Iterable[int] = BATCHES
) -> Iterator[Row]:
    """Forward passes of each model with each batch."""
    for model in models:
        for batch in batches:
            yield forward(model, batch, dtype, sides, limit)


def relatives(sides: tuple[str, ...], limit: str) -> Iterator[Row]:
    """Forward passes of models with registers and rotary positions."""
    return grid("float32", sides, limit, RELATIVES, RELATIVE_BATCHES)


def in_manner(manner: str, model: str, batch: int, sides: tuple[str, ...], limit: str, **work: str) -> Row:
    """A row of forward passes that are run in another manner than `from_pretrained` gives."""
    return Row(
        f"{title(model, batch, 'float32')}, {manner}",
        {"kind": "forward", "model": model, "batch": batch, "dtype": "float32", **work},
        sides,
        limit,
        weight=weight(operations(model, batch)),
    )


def large_images(sides: tuple[str, ...], limit: str) -> Iterator[Row]:
    """Forward passes of one large image."""
    for model, length in LARGE.items():
        work = {"kind": "forward", "model": model, "batch": 1, "dtype": "float32", "image": LARGE_IMAGE}
        name = f"{title(model, 1, 'float32')}, {LARGE_IMAGE} x {LARGE_IMAGE}"
        weighed = weight(operations(model, 1, LARGE_IMAGE))
        yield Row(name, work, sides, limit, length, weighed, has_memory=True, fewest=1)


def training_step(model: str, batch: int, sides: tuple[str, ...], manner: str = "") -> Row:
    """A row of training steps; one whose sides run in another manner has no memory."""
    work = {"kind": "training step", "model": model, "batch": batch, "dtype": "float32"}
    name = ", ".join(filter(None, (title(model, batch, "float32"), "training step", manner)))
    return Row(name, work, sides, weight=weight(3 * operations(model, batch)), has_memory=not manner)


def title(model: str, batch: int, dtype: str) -> str:
    """What a row is called."""
    return f"{model}, batch {batch}, {dtype}"


def weight(needed: int) -> float:
    """A row's part of the time: more for larger ones, though they get fewer rounds."""
    return math.sqrt(needed / 10e9)
