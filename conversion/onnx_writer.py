"""Nodes and constants of an ONNX graph (https://onnx.ai/onnx/operators), written one after the other."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import onnx
from onnx import helper

RUNTIME = "com.microsoft"  # whose operations onnxruntime has besides


class Writer:
    """The nodes and constants of an ONNX graph. What is written twice is there once."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self._written: dict[tuple[Any, ...], list[str]] = {}

    def constant(self, value: Any) -> str:
        """A constant; returns its name."""
        array = np.asarray(value)
        if array.dtype == np.int32:
            array = array.astype(np.int64)
        digest = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()[:16]
        name = f"{array.dtype}_{'x'.join(map(str, array.shape))}_{digest}"
        self.constants[name] = array
        return name

    def add(self, operation: str, *inputs: Any, domain: str = "", **attributes: Any) -> str:
        """An operation; returns the name of its output.

        Args:
            operation: its name in ONNX.
            *inputs: names of what is written, or constants; "" leaves an optional one out.
            domain: whose operation it is.
            **attributes: see its documentation.
        """
        return self.add_several(1, operation, *inputs, domain=domain, **attributes)[0]

    def add_several(self, count: int, operation: str, *inputs: Any, domain: str = "", **attributes: Any) -> list[str]:
        """An operation with several outputs; returns their names."""
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        key = (operation, domain, count, *names, repr(sorted(attributes.items())))
        if key not in self._written:
            outputs = [f"{operation}_{len(self.nodes)}_{index}" for index in range(count)]
            self.nodes.append(helper.make_node(operation, names, outputs, domain=domain, **attributes))
            self._written[key] = outputs
        return self._written[key]
