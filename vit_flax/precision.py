"""Matrix products as TPUs want them: with operands in half precision and sums in float32."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

HALF_PRECISION = (jnp.bfloat16, jnp.float16)


def is_half(dtype: Any) -> bool:
    """Whether products of that dtype are summed in a wider one."""
    return dtype in HALF_PRECISION


def product(subscripts: str, left: Array, right: Array, dtype: Any) -> Array:
    """Multiply two arrays in a dtype, and with operands of that dtype in the backward pass, too.

    JAX's own derivative of a product of bfloat16 operands with a float32 result multiplies the float32 gradient with a
    bfloat16 operand, which a TPU does in several passes. Here that gradient is rounded first. What is returned for a
    float32 operand, such as a parameter, has all the bits of the sum.

    Args:
        subscripts: as of `jnp.einsum`, with two operands, without ellipsis, and with each index in two of the three.
        left: any floating-point dtype.
        right: likewise.
        dtype: of the operands.

    Returns:
        The product, in float32 if `dtype` is half precision, otherwise in `dtype`.
    """
    if is_half(dtype):
        return _half_product(subscripts, jnp.dtype(dtype), left, right)
    return jnp.einsum(subscripts, left.astype(dtype), right.astype(dtype))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _half_product(subscripts: str, dtype: Any, left: Array, right: Array) -> Array:
    return jnp.einsum(subscripts, left.astype(dtype), right.astype(dtype), preferred_element_type=jnp.float32)


def _half_product_forward(subscripts: str, dtype: Any, left: Array, right: Array) -> tuple[Array, Any]:
    # Kept in half precision; the empty arrays remember what the operands were.
    kept = (left.astype(dtype), right.astype(dtype), jnp.zeros(0, left.dtype), jnp.zeros(0, right.dtype))
    # Written out, so that policies of `jax.checkpoint` see the product.
    return jnp.einsum(subscripts, *kept[:2], preferred_element_type=jnp.float32), kept


def _half_product_backward(subscripts: str, dtype: Any, kept: Any, gradient: Array) -> tuple[Array, Array]:
    left, right, like_left, like_right = kept
    operands, result = subscripts.split("->")
    left_axes, right_axes = operands.split(",")
    left_gradient = _half_product(f"{result},{right_axes}->{left_axes}", dtype, gradient, right)
    right_gradient = _half_product(f"{left_axes},{result}->{right_axes}", dtype, left, gradient)
    return left_gradient.astype(like_left.dtype), right_gradient.astype(like_right.dtype)


_half_product.defvjp(_half_product_forward, _half_product_backward)


def float_dtype(name: str, dtype: Any) -> Any:
    """A floating-point dtype, from what people call it: `jnp.bfloat16`, "bfloat16", `torch.bfloat16`.

    Args:
        name: of the option, for the message.
        dtype: what was given.

    Raises:
        ValueError: it is none, or JAX is not set to compute in it.
    """
    try:
        found = jnp.dtype(str(dtype).removeprefix("torch.") if "torch" in str(dtype) else dtype)
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        raise ValueError(f"{name} is {dtype!r}; choose a floating-point type such as jnp.float32 or jnp.bfloat16.")
    if jax.dtypes.canonicalize_dtype(found) != found:
        raise ValueError(
            f"{name} is float64, which JAX leaves out; call jax.config.update('jax_enable_x64', True) first."
        )
    return found
