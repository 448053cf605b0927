"""Products of linear layers in 8 bits, as ONNX says them: a scale for each row of activations, found as they come, and
for each column of the kernel.

Dettmers et al. 2022, "LLM.int8()", https://arxiv.org/abs/2208.07339, section 2.1, has vector-wise quantization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vit_tf.onnx_graph import Writer

#: Activations are -127 to 127, 128 more of which fits 8 bits without a sign.
LARGEST_ACTIVATION, ZERO = 127, 128
#: Processors without VNNI add two products in 16 bits, which 2 * 255 * 64 stays below and 2 * 255 * 127 does not.
LARGEST_WEIGHT = 64
SMALLEST = 1e-30  # a scale of rows of zeros


def int8_product(write: Writer, rows: str, kernel: np.ndarray) -> str:
    """Write the product of rows, (rows, width), and a kernel, (width, units)."""
    largest = write.add("ReduceMax", write.add("Abs", rows), np.array([1]), keepdims=0)
    scales = write.add("Max", write.add("Mul", largest, np.float32(1 / LARGEST_ACTIVATION)), np.float32(SMALLEST))
    zeros = write.add("Expand", np.uint8(ZERO), write.add("Shape", scales))
    activations = write.add("QuantizeLinear", rows, scales, zeros, axis=0)
    units = np.maximum(np.abs(kernel).max(axis=0) / LARGEST_WEIGHT, SMALLEST).astype(np.float32)
    weights = np.rint(kernel / units).astype(np.int8)
    product = write.add(
        "MatMulIntegerToFloat", activations, weights, np.float32(1), units, np.uint8(ZERO), domain="com.microsoft"
    )
    return write.add("Mul", product, write.add("Unsqueeze", scales, np.array([1])))
