"""What each of TensorFlow's operations is in ONNX, as far as our models have them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from onnx import TensorProto

if TYPE_CHECKING:
    from vit_tf.onnx_graph import Writer

#: Given what writes nodes, TensorFlow's operation and the names of its inputs, the names of its outputs.
Translation = Callable[..., str | list[str]]

TYPES = {
    tf.float32: TensorProto.FLOAT,
    tf.bool: TensorProto.BOOL,
    tf.int32: TensorProto.INT64,
    tf.int64: TensorProto.INT64,
}


def _known(operation: tf.Operation, index: int) -> np.ndarray:
    """An input that says how the operation works, and is known when its graph is made."""
    value = tf.get_static_value(operation.inputs[index])
    if value is None:
        raise ValueError(f"{operation.name} follows the size of images, which has to be known for ONNX.")
    return np.asarray(value, np.int64)


def _alike(name: str, write: Writer, _: tf.Operation, *inputs: str) -> str:
    return write.add(name, *inputs)


def _reduced(name: str, write: Writer, operation: tf.Operation, values: str, _: str) -> str:
    return write.add(name, values, _known(operation, 1).reshape(-1), keepdims=int(operation.get_attr("keep_dims")))


def _squared_difference(write: Writer, _: tf.Operation, one: str, other: str) -> str:
    difference = write.add("Sub", one, other)
    return write.add("Mul", difference, difference)


def _transposed(write: Writer, operation: tf.Operation, values: str, _: str) -> str:
    return write.add("Transpose", values, perm=_known(operation, 1).tolist())


def _product(write: Writer, operation: tf.Operation, *sides: str) -> str:
    flags = ("transpose_a", "transpose_b") if operation.type == "MatMul" else ("adj_x", "adj_y")
    turned = []
    for side, tensor, flag in zip(sides, operation.inputs, flags, strict=True):
        *others, one, two = range(tensor.shape.rank)
        turned.append(write.add("Transpose", side, perm=[*others, two, one]) if operation.get_attr(flag) else side)
    return write.add("MatMul", *turned)


def _convolution(write: Writer, operation: tf.Operation, images: str, kernel: str) -> str:
    _, *strides, _ = operation.get_attr("strides")
    pixels = write.add("Transpose", images, perm=[0, 3, 1, 2])
    patches = write.add("Conv", pixels, write.add("Transpose", kernel, perm=[3, 2, 0, 1]), strides=strides)
    return write.add("Transpose", patches, perm=[0, 2, 3, 1])


def _concatenated(write: Writer, operation: tf.Operation, *inputs: str) -> str:
    return write.add("Concat", *inputs[:-1], axis=int(_known(operation, len(inputs) - 1)))


def _packed(write: Writer, operation: tf.Operation, *inputs: str) -> str:
    axis = operation.get_attr("axis")
    return write.add("Concat", *(write.add("Unsqueeze", each, [axis]) for each in inputs), axis=axis)


def _split(write: Writer, operation: tf.Operation, _: str, values: str) -> list[str]:
    count = operation.get_attr("num_split")
    return write.add_several(count, "Split", values, axis=int(_known(operation, 0)), num_outputs=count)


def _squeezed(write: Writer, operation: tf.Operation, values: str) -> str:
    return write.add("Squeeze", values, np.array(operation.get_attr("squeeze_dims"), np.int64))


def _gathered(write: Writer, operation: tf.Operation, values: str, indices: str, _: str) -> str:
    return write.add("Gather", values, indices, axis=int(_known(operation, 2)))


def _sliced(write: Writer, operation: tf.Operation, values: str, *_: str) -> str:
    """A slice as NumPy has it, whose masks say bit by bit what each of its places is."""
    begins, ends, strides = (_known(operation, index) for index in (1, 2, 3))

    def marked(mask: str, place: int) -> bool:
        return bool(operation.get_attr(mask) >> place & 1)

    slices, dropped, added, axis, position = [], [], [], 0, 0
    for place, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        if marked("ellipsis_mask", place):
            later = sum(not marked("new_axis_mask", each) for each in range(place + 1, len(begins)))
            skipped = operation.inputs[0].shape.rank - later - axis
            axis, position = axis + skipped, position + skipped
        elif marked("new_axis_mask", place):
            added.append(position)
            position += 1
        elif marked("shrink_axis_mask", place):
            slices.append((axis, begin, begin + 1 or _END, 1))
            dropped.append(axis)
            axis += 1
        else:
            first = (0 if stride > 0 else _END) if marked("begin_mask", place) else begin
            last = (_END if stride > 0 else -_END) if marked("end_mask", place) else end
            if (first, last, stride) != (0, _END, 1):
                slices.append((axis, first, last, stride))
            axis, position = axis + 1, position + 1
    if slices:
        axes, firsts, lasts, steps = np.array(slices, np.int64).T
        values = write.add("Slice", values, firsts, lasts, axes, steps)
    values = write.add("Squeeze", values, np.array(dropped)) if dropped else values
    return write.add("Unsqueeze", values, np.array(added)) if added else values


_END = 2**31 - 1  # further than any axis is long


def _padded(write: Writer, operation: tf.Operation, values: str, *_: str) -> str:
    return write.add("Pad", values, _known(operation, 1).T.reshape(-1))


OPERATIONS: dict[str, Translation] = {
    **{
        name: partial(_alike, ours or name)
        for name, ours in {
            **dict.fromkeys(("Cos", "Div", "Elu", "Equal", "Erf", "Exp", "Greater", "Identity", "Less", "Mul", "Neg")),
            **dict.fromkeys(("Pow", "Relu", "Reshape", "Selu", "Shape", "Sigmoid", "Sin", "Softmax", "Softplus")),
            **dict.fromkeys(("Sqrt", "Sub", "Tanh", "Tile")),
            "AddV2": "Add",
            "BiasAdd": "Add",
            "BroadcastTo": "Expand",
            "ExpandDims": "Unsqueeze",
            "Maximum": "Max",
            "Minimum": "Min",
            "RealDiv": "Div",
            "SelectV2": "Where",
            "StopGradient": "Identity",
        }.items()
    },
    **{name: partial(_reduced, f"Reduce{name}") for name in ("Max", "Mean", "Min", "Sum")},
    "BatchMatMulV2": _product,
    "Cast": lambda write, operation, values: write.add("Cast", values, to=TYPES[operation.get_attr("DstT")]),
    "ConcatV2": _concatenated,
    "Const": lambda write, operation: write.constant(tf.get_static_value(operation.outputs[0])),
    "Conv2D": _convolution,
    "Einsum": lambda write, operation, *inputs: write.add(
        "Einsum", *inputs, equation=operation.get_attr("equation").decode()
    ),
    "Erfc": lambda write, _, values: write.add("Sub", np.float32(1), write.add("Erf", values)),
    "GatherV2": _gathered,
    "IdentityN": lambda write, _, *inputs: list(inputs),
    "MatMul": _product,
    "Pack": _packed,
    "Pad": _padded,
    "Relu6": lambda write, _, values: write.add("Clip", values, np.float32(0), np.float32(6)),
    "Rsqrt": lambda write, _, values: write.add("Reciprocal", write.add("Sqrt", values)),
    "Split": _split,
    "Square": lambda write, _, values: write.add("Mul", values, values),
    "SquaredDifference": _squared_difference,
    "Squeeze": _squeezed,
    "StridedSlice": _sliced,
    "Transpose": _transposed,
}
