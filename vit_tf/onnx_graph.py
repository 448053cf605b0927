"""A TensorFlow graph as an ONNX graph (https://onnx.ai/onnx/operators), for the operations that our models are made of.

Whole numbers are int64 throughout, as ONNX wants shapes to be. A norm becomes one operation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from conversion.onnx_writer import RUNTIME, Writer
from vit_tf.onnx_operations import OPERATIONS, TYPES

OPSET, IR_VERSION = 20, 9  # what onnxruntime 1.20 reads, and later ones


#: Writes the product of rows, (rows, width), and a kernel of a linear layer; returns its name.
Product = Callable[[Writer, str, np.ndarray], str]


def onnx_model(
    call: Callable[[tf.Tensor], Mapping[str, tf.Tensor]],
    images: tf.TensorSpec,
    layers: Sequence[keras.layers.Layer],
    products: Mapping[int, Product],
) -> onnx.ModelProto:
    """Trace a function of images and translate it.

    Args:
        call: from images to tensors by name.
        images: their shape, type and name.
        layers: those of the model that it calls.
        products: how products with kernels are written, by `id` of their variables; those with others are in float32.

    Raises:
        ValueError: an operation is none of `OPERATIONS`.
    """
    function = tf.function(call, autograph=False).get_concrete_function(images)
    captured = {inside.name: outside for outside, inside in function.graph.captures}
    variables = {id(each.value.handle): each for layer in layers for each in layer.variables}
    read = {
        each.outputs[0].name: variables[id(captured[each.inputs[0].name])]
        for each in function.graph.get_operations()
        if each.type == "ReadVariableOp"
    }
    whole = _whole(function.graph, layers, read)
    writer = Writer()
    names: dict[str, str] = {}  # of TensorFlow's tensors in ONNX

    def written(operation: tf.Operation) -> list[str]:
        output = operation.outputs[0].name
        if operation.name in whole:
            given, write = whole[operation.name]
            return [write(writer, names[given])]
        if operation.type == "Placeholder":
            return [writer.constant(captured[output].numpy()) if output in captured else images.name]
        if output in read:
            return [writer.constant(read[output].numpy())]
        inputs = [names[each.name] for each in operation.inputs]
        kernel = read.get(operation.inputs[1].name) if operation.type == "MatMul" else None
        if id(kernel) in products:
            return [products[id(kernel)](writer, inputs[0], read[operation.inputs[1].name].numpy())]
        if operation.type not in OPERATIONS:
            raise ValueError(f"{operation.name} is a {operation.type}, which has no translation to ONNX here.")
        returned = OPERATIONS[operation.type](writer, operation, *inputs)
        return [returned] if isinstance(returned, str) else returned

    for operation in _needed(function, {name: given for name, (given, _) in whole.items()}):
        names.update(zip((each.name for each in operation.outputs), written(operation), strict=True))
    outputs = {name: names[tensor.name] for name, tensor in function.structured_outputs.items()}
    return assembled(writer, images, outputs)


def _whole(
    graph: tf.Graph, layers: Sequence[keras.layers.Layer], read: Mapping[str, keras.Variable]
) -> dict[str, tuple[str, Callable[[Writer, str], str]]]:
    """What is written as one operation, norms and exact GELU: by the name of the last of their operations, the name of
    what they are computed of, and what writes them.
    """
    norms = {id(layer.gamma): layer for layer in layers if isinstance(layer, keras.layers.LayerNormalization)}
    scopes: dict[str, list[tf.Operation]] = {}
    for operation in graph.get_operations():
        for match in re.finditer("/", operation.name):
            scopes.setdefault(operation.name[: match.start()], []).append(operation)
    found: dict[str, tuple[str, Callable[[Writer, str], str]]] = {}
    for scope, operations in scopes.items():
        first = {each.type: each for each in reversed(operations)}
        own = re.sub(r"_\d+$", "", scope.rpartition("/")[2])  # how often it was called is counted
        used = {id(read[each.outputs[0].name]) for each in operations if each.type == "ReadVariableOp"}
        if own == "Gelu" and "Erfc" in first:
            found[operations[-1].name] = first["Neg"].inputs[0].name, lambda write, values: write.add("Gelu", values)
        for norm in (norms[each] for each in used & norms.keys()):
            if norm.name in (own, scope.rpartition("/")[2]):
                found[operations[-1].name] = first["Mean"].inputs[0].name, partial(_norm, norm)
    return found


def _norm(norm: keras.layers.LayerNormalization, write: Writer, values: str) -> str:
    parameters = norm.gamma.numpy(), norm.beta.numpy()
    return write.add("LayerNormalization", values, *parameters, epsilon=norm.epsilon)


def _needed(function: Any, given: Mapping[str, str]) -> Iterator[tf.Operation]:
    """The operations that a function's outputs follow from, in the order in which they are computed.

    Args:
        function: it.
        given: the name of the one input of some operations, where it is not the inputs that they have.
    """
    graph = function.graph
    needed: set[str] = set()
    waiting = [tensor.op for tensor in function.outputs]
    while waiting:
        operation = waiting.pop()
        if operation.name in needed:
            continue
        needed.add(operation.name)
        if operation.name in given:
            waiting.append(graph.get_tensor_by_name(given[operation.name]).op)
        elif operation.type != "ReadVariableOp":
            waiting.extend(tensor.op for tensor in operation.inputs)
    return (operation for operation in graph.get_operations() if operation.name in needed)


def assembled(writer: Writer, images: tf.TensorSpec, outputs: Mapping[str, str]) -> onnx.ModelProto:
    """The model of what was written, whose outputs have names of their own."""
    for name, written in outputs.items():
        writer.nodes.append(helper.make_node("Identity", [written], [name]))
    batch, *shape = images.shape
    used = {name for node in writer.nodes for name in node.input}
    graph = helper.make_graph(
        writer.nodes,
        "model",
        [helper.make_tensor_value_info(images.name, TYPES[images.dtype], [batch or "batch", *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in writer.constants.items() if name in used],
    )
    versions = [helper.make_opsetid("", OPSET), helper.make_opsetid(RUNTIME, 1)]
    return helper.make_model(graph, opset_imports=versions, ir_version=IR_VERSION, producer_name="trivit")
