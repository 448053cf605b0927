"""The dtype of a model, in the terms of Keras."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from vit_core.stored_tensor import FLOAT_CODES


def dtype_policy(dtype: Any, stored: str | None) -> Any:
    """The Keras policy that a dtype asks for.

    Args:
        dtype: a dtype of any framework, its name, a policy or its name; "auto" is what is stored; None for Keras'
            global policy.
        stored: the dtype of a checkpoint.

    Raises:
        ValueError: it is no floating-point type.
    """
    if isinstance(dtype, str) and dtype == "auto":
        dtype = stored
    if dtype is None or isinstance(dtype, keras.DTypePolicy):
        return dtype
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or str(dtype)
    name = name.removeprefix("torch.")
    if name.removeprefix("mixed_") not in FLOAT_CODES:
        raise ValueError(
            f"dtype is {dtype!r}; choose a floating-point type or policy such as 'float32', 'bfloat16', "
            f"'mixed_bfloat16' or 'auto'."
        )
    return name


@contextlib.contextmanager
def default_policy(policy: Any) -> Iterator[None]:
    """Make layers with a policy that are given none, such as those of a subclass; with None leave Keras as it is."""
    before = keras.config.dtype_policy()
    if policy is not None:
        keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
