"""A graphics card: forward passes in PyTorch by attention and by how they are run, and in JAX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.arithmetic import operations
from benchmarks.models import IMAGE
from benchmarks.rows import Row, Side, Subject
from benchmarks.subjects.forwards import TOLERANCES, title, weight

DTYPES = ("float32", "tf32", "bfloat16", "float16")
BATCHES = (1, 8, 64, 512)
MODELS = ("ViT-B/16",)
#: How a model is run: which attention it has, and what is done with its forward pass.
WAYS: dict[str, dict[str, Any]] = {
    "SDPA": {},
    "eager": {"attention": "eager"},
    "compiled": {"mode": "compiled"},
    "graphed": {"mode": "graphed"},
    "compiled and graphed": {"mode": "compiled and graphed"},
}
FIRST = "SDPA"
PRODUCTS = "matrix products"
#: In which module of `benchmarks.sides` a peer is, and what it is told; and the ways in which it is run.
PEERS = {"transformers 5": ("pytorch.from_folder", {"package": "transformers"}), "timm": ("pytorch.timm", {})}
PEERS_WAYS = (FIRST, "compiled")


def ours(way: str) -> Side:
    """Our model in PyTorch, run in a way; all ways in one process, which has the card's memory to itself."""
    within = "" if way == FIRST else FIRST
    return Side("pytorch.from_folder", within=within, options={"package": "vit_torch", **WAYS[way]})


SIDES = {
    **{way: ours(way) for way in WAYS},
    **{
        f"{peer}, {way}": Side(
            module,
            within="" if way == FIRST else f"{peer}, {FIRST}",
            options={**options, **WAYS[way]},
        )
        for peer, (module, options) in PEERS.items()
        for way in PEERS_WAYS
    },
    "JAX": Side("flax.trivit"),
    PRODUCTS: Side("pytorch.products", within=FIRST),
    f"{PRODUCTS} in JAX": Side("flax.products", within="JAX"),
}


def rows(
    models: Sequence[str] = MODELS,
    batches: Sequence[int] = BATCHES,
    dtypes: Sequence[str] = DTYPES,
    ways: Sequence[str] = tuple(WAYS),
    device: str = "cuda",
    image: int = IMAGE,
) -> Iterator[Row]:
    """Each model in each type with each batch, in PyTorch in each way, and in JAX."""
    in_pytorch = (FIRST, *(name for name in SIDES if name != FIRST and name.rpartition(", ")[2] in ways))
    for model in models:
        for dtype in dtypes:
            for batch in batches:
                work = {"kind": "forward", "model": model, "batch": batch, "dtype": dtype, "image": image}
                weighed = {"weight": weight(operations(model, batch, image)), "tolerance": TOLERANCES[dtype]}
                name = title(model, batch, dtype)
                yield Row(f"PyTorch: {name}", {**work, "device": device}, in_pytorch, PRODUCTS, **weighed)
                yield Row(f"JAX: {name}", work, ("JAX",), f"{PRODUCTS} in JAX", **weighed)


SUBJECT = Subject("card", f"Graphics card, beside our models with {FIRST}", SIDES, tuple(rows()))
