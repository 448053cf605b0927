"""The matrix products of a forward pass and nothing else: what XLA's own routines need for them."""

from __future__ import annotations

import jax

from benchmarks.arithmetic import products
from benchmarks.models import IMAGE
from benchmarks.sides.flax.passes import DTYPES, PRECISIONS
from benchmarks.worker import Prepared


def prepare(model: str, batch: int, dtype: str, image: int = IMAGE, layers: int = 0, **_: object) -> Prepared:
    """Every product of the pass with matrices of its own, in one compiled function."""
    key = jax.random.key(0)
    pairs = []
    for count, size, rows, inner, columns in products(model, batch, image, layers):
        for _ in range(count):
            shapes = [(size, rows, inner), (size, inner, columns)] if size > 1 else [(rows, inner), (inner, columns)]
            pairs.append([jax.random.normal(key, shape).astype(DTYPES[dtype]) for shape in shapes])

    @jax.jit
    def multiply(pairs: list[list[jax.Array]]) -> list[jax.Array]:
        return [
            jax.lax.optimization_barrier(left @ right)[..., -1, -1] for left, right in pairs
        ]  # all of it, kept nowhere

    def run() -> None:
        with jax.default_matmul_precision(PRECISIONS.get(dtype)):
            jax.block_until_ready(multiply(pairs))

    return Prepared(run)
