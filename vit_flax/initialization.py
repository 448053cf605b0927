"""How weights start; no model runs for it, and a checkpoint that lacks a head costs the random numbers of that head."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Sharding

from vit_core import PretrainedConfig
from vit_core.layouts import Layout
from vit_core.parameters import INITIALIZER_CUT, Parameter
from vit_core.position import sincos_positions
from vit_core.rotary import Rotary

Initializer = Callable[..., Any]  # of a key, a shape and a dtype; what it returns may be in a box


#: The initialisers of the table that are one number under a name.
NUMBERS: dict[Any, float] = {"zeros": 0.0, "ones": 1.0}


def normal(deviation: float) -> Initializer:
    """How weights start: normal with a standard deviation, cut at ±2 as `vit_core.parameters` says; drawn in float32.

    JAX's truncated normal draws its lower cut once in 2**23 times, which for the usual deviation of 0.02 would be a
    weight of -2, at 100 deviations. Its normal stays within 5.5 of them, so that a cut beyond 6 is none.
    """
    cut = INITIALIZER_CUT / deviation if deviation else math.inf
    draw = jax.random.normal if cut > 6 else partial(jax.random.truncated_normal, lower=-cut, upper=cut)

    def start(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return (deviation * draw(key, shape=shape, dtype=jnp.float32)).astype(dtype)

    return start


def starting_frequencies(config: PretrainedConfig) -> Initializer:
    """How trained frequencies of rotary positions start; see `vit_core.rotary.Rotary.starting_frequencies`."""
    return lambda key, shape, dtype: jnp.asarray(Rotary.of(config).starting_frequencies(shape[1]), dtype)


def initialized(
    rows: Sequence[Parameter],
    layout: Layout,
    config: PretrainedConfig,
    rng: Array,
    dtype: Any,
    sharding: Sharding | None,
) -> Array:
    """The array at one path as it starts; on a mesh each device makes its part.

    Args:
        rows: what lies there, as `Layout.places` lists it. Each draws by its name, so that stacks start as single
            parameters do, and a parameter as it does in any other model.
        layout: the model's.
        config: the model's.
        rng: a key.
        dtype: of the array.
        sharding: where it goes; JAX's default device unless given.
    """
    shape, is_stacked = layout.shape(rows[0]), layout.is_stacked(rows[0])
    if rows[0].initializer in ("sincos", "rotary"):
        if rows[0].initializer == "sincos":
            fixed = sincos_positions(config.grid, shape[-1], config.architecture.num_positioned_prefix_tokens)
        else:
            fixed = np.stack([Rotary.of(config).starting_frequencies(row.shape[1]) for row in rows])
            fixed = fixed if is_stacked else fixed[0]
        fixed, shape = fixed.astype(dtype), fixed.shape
        if sharding is None:
            return jnp.asarray(fixed)
        return jax.make_array_from_callback(shape, sharding, lambda index: fixed[index])
    if rows[0].initializer != "normal":
        start: Any = rows[0].initializer
        value = NUMBERS.get(start, start)
        return jnp.full((len(rows), *shape) if is_stacked else shape, value, dtype, device=sharding)
    # As numpy arrays, which in a program of several processes are the same everywhere.
    data = jax.random.key_data(rng)
    key = data if isinstance(data, jax.core.Tracer) else np.asarray(data)
    names = np.array([zlib.crc32(row.name.encode()) for row in rows], np.uint32)
    kind = jax.random.key_impl(rng) if jnp.issubdtype(rng.dtype, jax.dtypes.prng_key) else None
    run = jax.jit(_drawn, static_argnums=(2, 3, 4, 5, 6), out_shardings=sharding)
    return run(key, names, kind, config.initializer_range, shape, dtype, is_stacked)


def _drawn(
    key: Array, names: Array, kind: Any, deviation: float, shape: tuple[int, ...], dtype: Any, is_stacked: bool
) -> Array:
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.wrap_key_data(key, impl=kind)))(names)
    drawn = jax.vmap(lambda key: normal(deviation)(key, shape, dtype))(keys)
    return drawn if is_stacked else drawn[0]
