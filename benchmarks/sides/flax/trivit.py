"""Our models in Flax."""

from __future__ import annotations

import vit_flax
from benchmarks import weights
from benchmarks.models import IMAGE, MODELS
from benchmarks.sides.flax import passes
from benchmarks.worker import Prepared


def prepare(
    kind: str,
    model: str,
    batch: int,
    dtype: str,
    image: int = IMAGE,
    layers: int = 0,
    merging: tuple[int, str] | None = None,
) -> Prepared:
    """Forward passes or training steps; `merging` is what the model's `merge_tokens` is called with."""
    model_class = getattr(vit_flax, f"Flax{MODELS[model].name}")
    loaded = model_class.from_pretrained(weights.folder(model, image, layers), dtype=passes.DTYPES[dtype])
    if merging:
        loaded.merge_tokens(*merging)
    train = kind == "training step"
    return passes.KINDS[kind](
        lambda params, images: loaded(images, params=params, train=train)[0], loaded.params, batch, dtype, image
    )
