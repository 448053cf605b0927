"""The image processors' batches as pytrees, which pass through jit, pmap and sharding as dicts do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax

from vit_core import BatchFeature

__all__ = ["BatchFeature"]


def _keyed_items_and_names(batch: BatchFeature) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
    names = tuple(sorted(batch))
    return [(jax.tree_util.DictKey(name), batch[name]) for name in names], names


def _batch(names: tuple[str, ...], items: Iterable[Any]) -> BatchFeature:
    return BatchFeature(zip(names, items, strict=True))


jax.tree_util.register_pytree_with_keys(BatchFeature, _keyed_items_and_names, _batch)
