"""The image processors' batches as structures that Keras can take apart, as it does with dicts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import optree

from vit_core import BatchFeature

__all__ = ["BatchFeature"]


def _items_and_names(batch: BatchFeature) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    names = tuple(sorted(batch))
    return tuple(batch[name] for name in names), names


def _batch(names: tuple[str, ...], items: Iterable[Any]) -> BatchFeature:
    return BatchFeature(zip(names, items, strict=True))


# Any class may be registered, though optree's types ask for collections of their leaves.
optree.register_pytree_node(BatchFeature, _items_and_names, _batch, namespace="keras")  # type: ignore[arg-type]
