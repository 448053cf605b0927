"""Parameters as another nested dict: in another dtype, with layers stacked or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax.core import FrozenDict, freeze
from flax.traverse_util import unflatten_dict

from vit_flax.parameter_tree import Path, depth_of_layers, flatten, joined


def cast(params: Mapping[str, Any], dtype: Any, mask: Any = None) -> Any:
    """Parameters in another dtype; frozen if they were.

    Args:
        params: a nested dict.
        dtype: what floating-point parameters become.
        mask: a tree like `params` with True where a parameter is to be cast; all are unless given.

    Raises:
        ValueError: the mask has not one entry for each parameter.
    """
    leaves = flatten(params)
    chosen = dict.fromkeys(leaves, True) if mask is None else flatten(mask)
    if different := leaves.keys() ^ chosen.keys():
        raise ValueError(f"{joined(min(different))} is in only one of params and mask; give one bool for each.")
    changed = {
        path: leaf.astype(dtype) if chosen[path] and jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
        for path, leaf in leaves.items()
    }
    return freeze(unflatten_dict(changed)) if isinstance(params, FrozenDict) else unflatten_dict(changed)


def stack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a model with `scan_layers=True`, from those of one without.

    Args:
        params: a nested dict, such as transformers' Flax models have.

    Returns:
        The nested dict in which each parameter of the transformer layers is one array for all of them.
    """
    leaves: dict[Path, Any] = {}
    stacks: dict[Path, dict[int, Any]] = {}
    for path, leaf in flatten(params).items():
        depth = depth_of_layers(path)
        if depth is None:
            leaves[path] = leaf
        else:
            stacks.setdefault((*path[:depth], *path[depth + 1 :]), {})[int(path[depth])] = leaf
    stacked = {path: jnp.stack([stack[layer] for layer in sorted(stack)]) for path, stack in stacks.items()}
    return unflatten_dict({**leaves, **stacked})


def unstack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a model without `scan_layers`, from those of one with it; see `stack_layers`."""
    leaves: dict[Path, Any] = {}
    for path, leaf in flatten(params).items():
        depth = depth_of_layers(path)
        if depth is None:
            leaves[path] = leaf
        else:
            leaves |= {(*path[:depth], str(layer), *path[depth:]): leaf[layer] for layer in range(len(leaf))}
    return unflatten_dict(leaves)
