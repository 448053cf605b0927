"""Tracing and compiling a training step, on shapes alone, and the memory that the compiler plans for it."""

from __future__ import annotations

import time
from typing import Any

import jax

import vit_flax
from benchmarks import pixels
from benchmarks.models import IMAGE, MODELS, fields_of
from benchmarks.sides.flax import passes
from benchmarks.worker import Prepared, Spent


def prepare(model: str, batch: int, layers: dict[str, Any], image: int = IMAGE) -> Prepared:
    """Compile again and again.

    Args:
        model: which.
        batch: images of a step.
        layers: arguments of the model that say how its layers are compiled.
        image: height and width.
    """
    said = MODELS[model]
    config = getattr(vit_flax, said.config)(**fields_of(model, image))
    made = getattr(vit_flax, f"Flax{said.name}")(config, _do_init=False, **layers)
    optimizer, step = passes.training(lambda params, images: made(images, params=params, train=True)[0])
    params = made.params_shape_tree
    given = [pixels.images(batch, image), pixels.labels(batch)]
    shapes = [params, jax.eval_shape(optimizer.init, params), *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in given)]

    def run() -> Spent:
        jax.clear_caches()
        start = time.perf_counter()
        compiled = step.lower(*shapes).compile()
        return Spent(time.perf_counter() - start, compiled.memory_analysis().temp_size_in_bytes)

    return Prepared(run)
