"""Products of an ONNX graph in int8, rounded as those of `vit_torch.int8`, by an operator of onnxruntime."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from vit_torch.int8 import GREATEST_WEIGHTS, LEAST, ZERO

#: A file may come to a processor that adds pairs of products in 16 bits.
GREATEST = GREATEST_WEIGHTS[-1]
DOMAIN = "com.microsoft"


def round_products(model: ModelProto, names: Collection[str]) -> None:
    """Have products with weights be of int8.

    Args:
        model: the graph, with its weights.
        names: of the nodes that are such products, of which a weight is the second input.
    """
    rounding = Rounding(model)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.name in names and node.input[1] in rounding.weights:
            rounding.product(node)
        else:
            model.graph.node.append(node)
    used = {name for node in model.graph.node for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in used]
    del model.graph.initializer[:], model.graph.value_info[:]
    model.graph.initializer.extend(kept)
    if all(each.domain != DOMAIN for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


class Rounding:
    """Writes products of int8 to the end of a graph."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.weights = {each.name: each for each in self.graph.initializer}
        self.rows: dict[tuple[str, bool], tuple[str, str, str]] = {}
        self.axis, self.zero = self.constant("int8_axis", np.array([-1])), self.constant("int8_zero", np.uint8(ZERO))
        self.numbers = {each: self.constant(f"int8_{each}", np.float32(each)) for each in (1, 2, 127, 254, LEAST)}

    def product(self, node: NodeProto) -> None:
        """One of x and weights, (channels read, channels made)."""
        x, output, name = node.input[0], node.output[0], node.name
        weight = numpy_helper.to_array(self.weights[node.input[1]])
        scales = np.maximum(np.abs(weight).max(0) / np.float32(GREATEST), np.float32(LEAST))
        rounded = np.rint(weight / scales)
        has_middle = weight.shape[0] > weight.shape[1]
        as_bytes, scale, middle = self.rounded_rows(x, has_middle)
        weights = self.constant(f"{name}_weights", rounded.astype(np.int8))
        inputs = [as_bytes, weights, self.numbers[1], self.constant(f"{name}_scales", scales), self.zero]
        product = self.add("MatMulIntegerToFloat", inputs, f"{name}_product", domain=DOMAIN)
        if not has_middle:
            self.add("Mul", [product, scale], output)
            return
        sums = self.constant(f"{name}_sums", rounded.sum(0) * scales)
        scaled = self.add("Mul", [product, scale], f"{name}_scaled")
        self.add("Add", [scaled, self.add("Mul", [middle, sums], f"{name}_middle")], output)

    def rounded_rows(self, x: str, has_middle: bool) -> tuple[str, str, str]:
        """The bytes of x, the scale of each row and its middle, where it has one; once for all that read x."""
        if (x, has_middle) in self.rows:
            return self.rows[x, has_middle]
        name = f"{x}_{'middle' if has_middle else 'zero'}"
        greatest = self.add("ReduceMax", [x, self.axis], f"{name}_greatest")
        least = self.add("ReduceMin", [x, self.axis], f"{name}_least")
        read, middle = x, ""
        if has_middle:
            reach = self.add("Sub", [greatest, least], f"{name}_reach")
            both = self.add("Add", [greatest, least], f"{name}_both")
            middle = self.add("Div", [both, self.numbers[2]], f"{name}_middle")
            x = self.add("Sub", [x, middle], f"{name}_moved")
        else:
            reach = self.add("Max", [greatest, self.add("Neg", [least], f"{name}_negated")], f"{name}_reach")
        unit = self.add("Div", [reach, self.numbers[254 if has_middle else 127]], f"{name}_unit")
        scale = self.add("Max", [unit, self.numbers[LEAST]], f"{name}_scale")
        scaled = self.add("Div", [x, scale], f"{name}_scaled")
        as_bytes = self.add("QuantizeLinear", [scaled, self.numbers[1], self.zero], f"{name}_bytes")
        self.rows[read, has_middle] = as_bytes, scale, middle
        return as_bytes, scale, middle

    def add(self, operator: str, inputs: list[str], output: str, **options: Any) -> str:
        """A node more; gives its output's name."""
        self.graph.node.append(helper.make_node(operator, inputs, [output], **options))
        return output

    def constant(self, name: str, value: Any) -> str:
        """A tensor more; gives its name."""
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name
