"""The matrix products of a forward pass and nothing else: what TensorFlow's own routines need for them."""

from __future__ import annotations

import tensorflow as tf

from benchmarks.arithmetic import products
from benchmarks.models import IMAGE
from benchmarks.worker import Prepared


def prepare(model: str, batch: int, dtype: str, image: int = IMAGE, layers: int = 0, **_: object) -> Prepared:
    """Every product of the pass with matrices of its own, in one `tf.function`."""
    pairs = []
    for count, size, rows, inner, columns in products(model, batch, image, layers):
        for _ in range(count):
            shapes = [(size, rows, inner), (size, inner, columns)] if size > 1 else [(rows, inner), (inner, columns)]
            pairs.append([tf.cast(tf.random.normal(shape), dtype) for shape in shapes])

    @tf.function
    def multiply(pairs: list[list[tf.Tensor]]) -> list[tf.Tensor]:
        return [tf.matmul(left, right)[..., -1, -1] for left, right in pairs]

    def run() -> None:
        multiply(pairs)[-1].numpy()  # waits for all

    return Prepared(run)
