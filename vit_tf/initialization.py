"""How new weights start."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

from vit_core import PretrainedConfig
from vit_core.parameters import INITIALIZER_CUT, Parameter
from vit_core.position import sincos_positions
from vit_core.rotary import Rotary

_is_left_unfilled: ContextVar[bool] = ContextVar("is_left_unfilled", default=False)


@contextlib.contextmanager
def left_unfilled() -> Iterator[None]:
    """Build models without drawing weights, because they are about to get others."""
    token = _is_left_unfilled.set(True)
    try:
        yield
    finally:
        _is_left_unfilled.reset(token)


class Start(keras.initializers.Initializer):
    """How weights start that the table of parameters calls normal; zeros where they are about to get others."""

    def __init__(self, config: PretrainedConfig) -> None:
        self.deviation = config.initializer_range

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Draw weights.

        Args:
            shape: theirs.
            dtype: theirs; float32 unless given.
        """
        if _is_left_unfilled.get():
            return ops.zeros(shape, dtype)
        return ops.cast(truncated_normal(shape, self.deviation), dtype or "float32")


class SinCos(keras.initializers.Initializer):
    """The fixed positions of MAE; see `vit_core.position.sincos_positions`."""

    def __init__(self, grid: tuple[int, int], prefix_tokens: int) -> None:
        self.grid, self.prefix_tokens = grid, prefix_tokens

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """The positions.

        Args:
            shape: theirs.
            dtype: theirs; float32 unless given.
        """
        return ops.cast(sincos_positions(self.grid, shape[-1], self.prefix_tokens), dtype or "float32")


class Frequencies(keras.initializers.Initializer):
    """The start of trained frequencies; see `vit_core.rotary.Rotary.starting_frequencies`."""

    def __init__(self, rotary: Rotary) -> None:
        self.rotary = rotary

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """The frequencies.

        Args:
            shape: theirs, of which the second axis counts heads.
            dtype: theirs; float32 unless given.
        """
        return ops.cast(self.rotary.starting_frequencies(shape[1]), dtype or "float32")


def initialize(model: Any, rows: Iterable[Parameter]) -> None:
    """Give parameters of a model that was left unfilled the random start that the table names.

    The others have theirs.
    """
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
