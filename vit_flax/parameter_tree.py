"""Parameters as nested dicts, and what checkpoints call them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict, unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array
from jax.sharding import Sharding

from vit_core.array_bytes import contiguous
from vit_core.layouts import Layout
from vit_core.parameters import LAYERS, Parameter
from vit_core.safetensors_file import FLOAT_CODES, StoredTensor

Path = tuple[str, ...]


def leaf_shapes(table: Iterable[Parameter], layout: Layout) -> dict[Path, tuple[int, ...]]:
    """The shape of the array at each path."""
    return {
        path: (len(rows), *layout.shape(rows[0])) if layout.is_stacked(rows[0]) else layout.shape(rows[0])
        for path, rows in layout.places(table).items()
    }


def flatten(params: Mapping[str, Any]) -> dict[Path, Any]:
    """The arrays of a nested dict by their paths."""
    return flatten_dict(unfreeze(params) if isinstance(params, FrozenDict) else dict(params))


def check_params(params: Any, shapes: Mapping[Path, tuple[int, ...]]) -> None:
    """Check that parameters are those of the model.

    Raises:
        TypeError: they are no nested dict.
        ValueError: one is missing, unknown, or of another shape.
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"params are a {type(params).__name__}; pass a nested dict such as model.params.")
    found = flatten(params)
    hint = "pass those of a model with the same config, scan_layers included."
    for path in found:
        if path not in shapes:
            raise ValueError(f"params hold {shown(path)}, which the model does not have; {hint}")
    for path, shape in shapes.items():
        if path not in found:
            raise ValueError(f"params lack {shown(path)}; {hint}")
        if (actual := jnp.shape(found[path])) != shape:
            raise ValueError(f"params hold {shown(path)} with shape {actual}, but the config makes it {shape}; {hint}")


def stored(params: Mapping[str, Any], table: Iterable[Parameter], layout: Layout) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint; each becomes a numpy array when it is written."""
    leaves = flatten(params)
    return {row.name: _stored(row, leaves[layout.path(row)], layout) for row in table}


def _stored(row: Parameter, leaf: Any, layout: Layout) -> StoredTensor:
    dtype = jnp.dtype(leaf.dtype).name
    if dtype not in FLOAT_CODES:
        raise ValueError(f"{row.name} is of dtype {dtype}, which checkpoints do not hold; convert it to float32 first.")

    def read() -> np.ndarray:
        array = np.asarray(leaf[row.layer] if layout.is_stacked(row) else leaf)
        array = contiguous(layout.to_canonical(row, array)).reshape(row.shape)
        return array.view(np.uint16) if dtype == "bfloat16" else array

    return StoredTensor(FLOAT_CODES[dtype], row.shape, read)


def loaded(
    rows: list[Parameter], tensors: Mapping[str, StoredTensor], layout: Layout, dtype: Any, sharding: Sharding | None
) -> Array:
    """The array of one path, read from a checkpoint; on a mesh, each device gets its part and nothing else.

    Args:
        rows: what lies there, as `Layout.places` lists it.
        tensors: the checkpoint's, by canonical name.
        layout: the model's.
        dtype: of the array.
        sharding: where it goes; JAX's default device unless given.
    """

    def part(index: Any) -> np.ndarray:  # a slice for each axis
        if not layout.is_stacked(rows[0]):
            return read(rows[0], index)
        layers, *rest = index
        return np.stack([read(row, tuple(rest)) for row in rows[layers]])

    def read(row: Parameter, index: Any) -> np.ndarray:
        tensor = tensors[row.name]
        array = tensor.read().view(jnp.bfloat16) if tensor.dtype == "BF16" else tensor.read()
        return layout.from_canonical(row, array)[index].astype(dtype, copy=False)

    (shape,) = leaf_shapes(rows, layout).values()
    if sharding is None:
        return jnp.asarray(part((slice(None),) * len(shape)))
    return jax.make_array_from_callback(shape, sharding, part)


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
        depth = _depth_of_layers(path)
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
        depth = _depth_of_layers(path)
        if depth is None:
            leaves[path] = leaf
        else:
            leaves |= {(*path[:depth], str(layer), *path[depth:]): leaf[layer] for layer in range(len(leaf))}
    return unflatten_dict(leaves)


def _depth_of_layers(path: Path) -> int | None:
    """Where in a path of a transformer layer its number stands, or would stand."""
    starts = (depth for depth in range(len(LAYERS), len(path)) if path[depth - len(LAYERS) : depth] == LAYERS)
    return next(starts, None)


def shown(path: Path) -> str:
    """A path for a message."""
    return "/".join(path)
