"""Where each framework keeps a parameter of the table: how its name is spelt there, and which axes move.

This is the only place that knows that a kernel is transposed. PyTorch needs no layout: its names and axes are the
canonical ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from vit_core.parameters import Kind, Parameter


@dataclass(frozen=True)
class Leaf:
    """How a framework stores one kind of parameter.

    Attributes:
        name: its name in its layer, instead of the canonical "weight" or "bias"; None for parameters that have a name
            of their own, such as the class token.
        axes: the canonical axes in the framework's order; None if that is theirs.
    """

    name: str | None
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Layout:
    """How a framework stores the parameters of the table.

    Attributes:
        leaves: for each kind.
        renamed: parts of canonical names that the framework keeps for itself, with what stands for them.
        stacks_layers: whether each parameter of a transformer layer lies in one array with those of the other layers,
            along a first axis of its own.
    """

    leaves: dict[Kind, Leaf]
    renamed: dict[str, str]
    stacks_layers: bool = False

    def path(self, row: Parameter) -> tuple[str, ...]:
        """Where the parameter is, from the model down: ("encoder", "layer", "0", ..., "kernel").

        In a stack it is without the number of its layer, and the same for all layers.
        """
        *parents, last = row.name.split(".")
        if self.stacks_layers and (depth := row.depth_of_layer) is not None:
            del parents[depth]
        leaf = self.leaves[row.kind].name
        return (*(self.renamed.get(part, part) for part in parents), leaf or last)

    def places(self, table: Iterable[Parameter]) -> dict[tuple[str, ...], list[Parameter]]:
        """The rows that lie at each path: one, or in a stack those of all layers in order."""
        found: dict[tuple[str, ...], list[Parameter]] = {}
        for row in table:
            found.setdefault(self.path(row), []).append(row)
        return found

    def is_stacked(self, row: Parameter) -> bool:
        """Whether the parameter lies in a stack, at the index of its layer."""
        return self.stacks_layers and row.layer is not None

    def shape(self, row: Parameter) -> tuple[int, ...]:
        """The shape with the framework's axes, by itself."""
        axes = self.leaves[row.kind].axes
        return row.shape if axes is None else tuple(row.shape[axis] for axis in axes)

    def from_canonical(self, row: Parameter, array: np.ndarray) -> np.ndarray:
        """A view of a canonical array with its axes as the framework has them."""
        axes = self.leaves[row.kind].axes
        return array if axes is None else array.transpose(axes)

    def to_canonical(self, row: Parameter, array: np.ndarray) -> np.ndarray:
        """A view of the framework's array with canonical axes."""
        axes = self.leaves[row.kind].axes
        return array if axes is None else array.transpose(np.argsort(axes))


KERAS = Layout(
    leaves={
        "token": Leaf(None),
        "positions": Leaf(None),
        "gain": Leaf(None),
        "table": Leaf(None),
        "frequencies": Leaf(None),
        "conv": Leaf("kernel", (2, 3, 1, 0)),  # (height, width, in, out)
        "linear": Leaf("kernel", (1, 0)),  # (in, out)
        "bias": Leaf("bias"),
        "scale": Leaf("gamma"),
        "shift": Leaf("beta"),
    },
    renamed={"output": "output_"},  # every Keras layer has an `output` already
)

FLAX = Layout(
    leaves={
        "token": Leaf(None),
        "positions": Leaf(None),
        "gain": Leaf(None),
        "table": Leaf(None),
        "frequencies": Leaf(None),
        "conv": Leaf("kernel", (2, 3, 1, 0)),  # (height, width, in, out)
        "linear": Leaf("kernel", (1, 0)),  # (in, out)
        "bias": Leaf("bias"),
        "scale": Leaf("scale"),
        "shift": Leaf("bias"),
    },
    renamed={},
)
FLAX_SCANNED = replace(FLAX, stacks_layers=True)  # for `nn.scan` over the layers
