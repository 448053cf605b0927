"""Products of an exported graph in int8."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from conversion.onnx_int8 import int8_product
from conversion.onnx_writer import RUNTIME, Writer


def round_products(model: ModelProto, names: Collection[str]) -> None:
    """Have products with weights be of int8.

    Args:
        model: the graph, with its weights.
        names: of the nodes that are such products, of which a weight is the second input.
    """
    graph, write = model.graph, Writer()
    initializers = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.name not in names or node.input[1] not in initializers:
            write.nodes.append(node)
            continue
        x, weights = node.input[0], numpy_helper.to_array(initializers[node.input[1]])
        product = int8_product(write, write.add("Reshape", x, np.array([-1, len(weights)])), weights)
        shape = write.add("Concat", write.add("Shape", x, end=-1), np.array(weights.shape[1:]), axis=0)
        write.nodes.append(helper.make_node("Reshape", [product, shape], node.output))
    initializers |= {name: numpy_helper.from_array(array, name) for name, array in write.constants.items()}
    used = {name for node in write.nodes for name in node.input}
    nodes = list(write.nodes)
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(each for name, each in initializers.items() if name in used)
    if all(each.domain != RUNTIME for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(RUNTIME, 1))
