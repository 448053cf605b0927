"""How new weights start."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

from vit_core.parameters import INITIALIZER_CUT, Parameter

_is_left_unfilled: ContextVar[bool] = ContextVar("is_left_unfilled", default=False)


@contextlib.contextmanager
def left_unfilled() -> Iterator[None]:
    """Build models without drawing weights, because they are about to get others."""
    token = _is_left_unfilled.set(True)
    try:
        yield
    finally:
        _is_left_unfilled.reset(token)


def initialize(model: Any, rows: Iterable[Parameter]) -> None:
    """Give parameters of a model the random start that the table names; LayerNorms and biases have theirs."""
    if _is_left_unfilled.get():
        return
    for row in rows:
        if row.initializer == "normal":
            variable = model.get_parameter(row)
            variable.assign(truncated_normal(variable.shape, model.config.initializer_range))


def truncated_normal(shape: tuple[int, ...], std: float) -> Any:
    """Draw from a normal distribution cut at plus and minus `INITIALIZER_CUT`, by inverting its cumulative one.

    Keras' own TruncatedNormal cuts at two standard deviations.
    """
    within = math.erf(INITIALIZER_CUT / (std * 2**0.5)) if std else 1.0
    limit = min(within, 1 - 2**-24)  # float32's neighbour of one, where erfinv is still finite
    return std * 2**0.5 * ops.erfinv(keras.random.uniform(shape, -limit, limit, dtype="float32"))
