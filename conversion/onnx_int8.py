"""Products with weights in 8 bits, as ONNX says them: a scale for each column of weights, and one for each row of
activations, found as they come.

Dettmers et al. 2022, "LLM.int8()", https://arxiv.org/abs/2208.07339, section 2.1, has vector-wise quantization. Where a
layer reads more channels than it makes, as after an activation, whose values are mostly above zero, rows are rounded
between their least and their greatest value; elsewhere as far below zero as above, which takes fewer steps.
"""

from __future__ import annotations

import numpy as np

from conversion.onnx_writer import RUNTIME, Writer

#: Activations are -127 to 127, 128 more of which fits 8 bits without a sign.
GREATEST_ACTIVATION, ZERO = 127, 128
#: A file may come to a processor without VNNI, which adds two products in 16 bits: 2 * 255 * 64 fits, 2 * 255 * 127
#: does not.
GREATEST_WEIGHT = 64
LEAST = np.float32(1e-30)  # a scale, of rows and columns of zeros


def int8_product(write: Writer, rows: str, weights: np.ndarray) -> str:
    """Write a product; what else reads the same rows shares their rounding.

    Args:
        write: to the graph.
        rows: the name of float32 activations, (rows, channels read).
        weights: float32, (channels read, channels made).

    Returns:
        The name of the product, (rows, channels made).
    """
    greatest = write.add("ReduceMax", rows, np.array([1]), keepdims=0)
    least = write.add("ReduceMin", rows, np.array([1]), keepdims=0)
    middle = ""
    if weights.shape[0] > weights.shape[1]:
        reach = write.add("Mul", write.add("Sub", greatest, least), np.float32(0.5))
        middle = write.add("Mul", write.add("Add", greatest, least), np.float32(0.5))
        middle = write.add("Unsqueeze", middle, np.array([1]))
        rows = write.add("Sub", rows, middle)
    else:
        reach = write.add("Max", greatest, write.add("Neg", least))
    scales = write.add("Max", write.add("Mul", reach, np.float32(1 / GREATEST_ACTIVATION)), LEAST)
    zeros = write.add("Expand", np.uint8(ZERO), write.add("Shape", scales))
    activations = write.add("QuantizeLinear", rows, scales, zeros, axis=0)
    units = np.maximum(np.abs(weights).max(axis=0) / GREATEST_WEIGHT, LEAST).astype(np.float32)
    rounded = np.rint(weights / units).astype(np.int8)
    product = write.add(
        "MatMulIntegerToFloat", activations, rounded, np.float32(1), units, np.uint8(ZERO), domain=RUNTIME
    )
    product = write.add("Mul", product, write.add("Unsqueeze", scales, np.array([1])))
    if not middle:
        return product
    return write.add("Add", product, write.add("Mul", middle, rounded.sum(0, np.float32) * units))
