"""A small language of invertible rules: where another format keeps the canonical tensors, and with which axes.

A rule names canonical tensors on one side and a format's on the other, and the steps between them. Each step knows both
directions, so one table of rules reads a format and writes it. Names are templates in which `*` is a layer's number.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from conversion.canonical import LAYER, every_row, in_words, is_of_base, without_layer
from vit_core.config import LARGEST_LAYER_COUNT
from vit_core.layouts import Leaf
from vit_core.parameters import Kind
from vit_core.renaming import TwoNamesError
from vit_core.stored_tensor import StoredTensor

Shape = tuple[int, ...]
#: Where in an attention projection the heads are: what it returns, or what it takes.
HeadSide = Literal["outputs", "inputs"]


class Step(ABC):
    """An invertible change of the arrays of one rule; `heads` is the config's number of attention heads."""

    @abstractmethod
    def to_theirs(self, arrays: Sequence[np.ndarray], heads: int) -> list[np.ndarray]:
        """The format's arrays from the canonical ones."""

    @abstractmethod
    def to_ours(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The canonical arrays from the format's."""

    @abstractmethod
    def their_shapes(self, shapes: Sequence[Shape], heads: int) -> list[Shape]:
        """The shapes of what `to_theirs` returns."""

    @abstractmethod
    def our_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """The shapes of what `to_ours` returns.

        Raises:
            ValueError: such shapes cannot be.
        """


@dataclass(frozen=True)
class Transpose(Step):
    """Other axes: `axes` are the canonical ones in the format's order."""

    axes: tuple[int, ...]

    def to_theirs(self, arrays: Sequence[np.ndarray], heads: int) -> list[np.ndarray]:  # noqa: D102
        return [arrays[0].transpose(self.axes)]

    def to_ours(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:  # noqa: D102
        return [arrays[0].transpose(np.argsort(self.axes))]

    def their_shapes(self, shapes: Sequence[Shape], heads: int) -> list[Shape]:  # noqa: D102
        return [tuple(shapes[0][axis] for axis in self.axes)]

    def our_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:  # noqa: D102
        _require_rank(shapes[0], len(self.axes))
        return [tuple(shapes[0][axis] for axis in np.argsort(self.axes))]

    def __str__(self) -> str:
        return f"axes {self.axes}"


@dataclass(frozen=True)
class SplitHeads(Step):
    """The width of all heads, along `axis` of `rank`, as two axes: heads and the width of one."""

    axis: int
    rank: int

    def to_theirs(self, arrays: Sequence[np.ndarray], heads: int) -> list[np.ndarray]:  # noqa: D102
        return [arrays[0].reshape(self.their_shapes([arrays[0].shape], heads)[0])]

    def to_ours(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:  # noqa: D102
        return [arrays[0].reshape(self.our_shapes([arrays[0].shape])[0])]

    def their_shapes(self, shapes: Sequence[Shape], heads: int) -> list[Shape]:  # noqa: D102
        before, width, after = shapes[0][: self.axis], shapes[0][self.axis], shapes[0][self.axis + 1 :]
        return [(*before, heads, width // heads, *after)]

    def our_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:  # noqa: D102
        _require_rank(shapes[0], self.rank + 1)
        split = shapes[0][self.axis : self.axis + 2]
        return [(*shapes[0][: self.axis], math.prod(split), *shapes[0][self.axis + 2 :])]

    def __str__(self) -> str:
        return f"axis {self.axis} split into heads and their width"


@dataclass(frozen=True)
class DropFirstAxis(Step):
    """Without the first axis, whose length is one."""

    def to_theirs(self, arrays: Sequence[np.ndarray], heads: int) -> list[np.ndarray]:  # noqa: D102
        return [arrays[0][0]]

    def to_ours(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:  # noqa: D102
        return [arrays[0][None]]

    def their_shapes(self, shapes: Sequence[Shape], heads: int) -> list[Shape]:  # noqa: D102
        return [shapes[0][1:]]

    def our_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:  # noqa: D102
        return [(1, *shapes[0])]

    def __str__(self) -> str:
        return "without the first axis"


@dataclass(frozen=True)
class Fuse(Step):
    """Several tensors of one shape, one after the other along the first axis."""

    count: int

    def to_theirs(self, arrays: Sequence[np.ndarray], heads: int) -> list[np.ndarray]:  # noqa: D102
        return [np.concatenate(arrays)]

    def to_ours(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:  # noqa: D102
        return np.split(arrays[0], self.count)

    def their_shapes(self, shapes: Sequence[Shape], heads: int) -> list[Shape]:  # noqa: D102
        return [(sum(shape[0] for shape in shapes), *shapes[0][1:])]

    def our_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:  # noqa: D102
        if not shapes[0] or shapes[0][0] % self.count:
            raise ValueError(f"a first axis that {self.count} divides")
        return [(shapes[0][0] // self.count, *shapes[0][1:])] * self.count

    def __str__(self) -> str:
        return "one after the other along the first axis"


@dataclass(frozen=True)
class FoldClassPosition(Step):
    """Class token and position embeddings, whose first position is added to the class token and left out.

    A model adds the two in any case. What was folded comes back with zeros as the class token's position.
    """

    def to_theirs(self, arrays: Sequence[np.ndarray], heads: int) -> list[np.ndarray]:  # noqa: D102
        token, positions = arrays
        first = positions[:, :1]
        if not first.any():
            return [token, positions[:, 1:]]
        if token.dtype.kind != "f":
            raise ValueError(
                "the class token's position can be added to the token in float32 and float16 only; convert to float32."
            )
        return [token + first, positions[:, 1:]]

    def to_ours(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:  # noqa: D102
        token, positions = arrays
        return [token, np.concatenate([np.zeros_like(positions[:, :1]), positions], axis=1)]

    def their_shapes(self, shapes: Sequence[Shape], heads: int) -> list[Shape]:  # noqa: D102
        token, (one, tokens, hidden) = shapes
        return [token, (one, tokens - 1, hidden)]

    def our_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:  # noqa: D102
        _require_rank(shapes[1], 3)
        token, (one, tokens, hidden) = shapes
        return [token, (one, tokens + 1, hidden)]

    def __str__(self) -> str:
        return "the class token's position added to the token"


@cache  # and no cached_property, which in Python 3.11 holds a lock that a forked worker could wait for in vain
def _patterns(names: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(re.escape(name).replace(re.escape(LAYER), "(0|[1-9][0-9]{0,4})")) for name in names)


@dataclass(frozen=True)
class Rule:
    """Canonical tensors, a format's, and the steps from the first to the second.

    Attributes:
        ours: templates of canonical tensors, see `conversion.canonical`.
        theirs: the format's names, without what stands before those of the base model.
        steps: in the order from ours to theirs.
        unless: templates of canonical tensors beside which the format keeps these elsewhere, as another rule says.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    steps: tuple[Step, ...] = ()
    unless: tuple[str, ...] = ()

    @property
    def is_of_base(self) -> bool:
        """Whether its tensors are the base model's."""
        return is_of_base(self.ours[0])

    @property
    def patterns(self) -> tuple[re.Pattern[str], ...]:
        """What matches the format's names; the layer's number is the group."""
        return _patterns(self.theirs)

    def read(self, stored: Sequence[StoredTensor]) -> list[StoredTensor]:
        """The canonical tensors from the format's; nothing is read before a tensor is.

        Raises:
            ValueError: shapes cannot be; the message says what is needed.
        """
        if not self.steps:
            return list(stored)
        shapes = [tensor.shape for tensor in stored]
        for step in reversed(self.steps):
            shapes = step.our_shapes(shapes)

        def read(index: int) -> np.ndarray:
            arrays = [tensor.read() for tensor in stored]
            for step in reversed(self.steps):
                arrays = step.to_ours(arrays)
            return arrays[index]

        return [_lazily(stored[0].dtype, shape, read, index) for index, shape in enumerate(shapes)]

    def write(self, canonical: Sequence[StoredTensor], heads: int) -> list[StoredTensor]:
        """The format's tensors from the canonical ones; nothing is read before a tensor is.

        Raises:
            ValueError: tensors that become one are of several dtypes.
        """
        if not self.steps:
            return list(canonical)
        if len({tensor.dtype for tensor in canonical}) > 1:
            raise ValueError(f"{' and '.join(self.ours)} have several dtypes; convert with a dtype for all.")
        shapes = [tensor.shape for tensor in canonical]
        for step in self.steps:
            shapes = step.their_shapes(shapes, heads)

        def write(index: int) -> np.ndarray:
            arrays = [tensor.read() for tensor in canonical]
            for step in self.steps:
                arrays = step.to_theirs(arrays, heads)
            return arrays[index]

        return [_lazily(canonical[0].dtype, shape, write, index) for index, shape in enumerate(shapes)]

    def heads(self, stored: Sequence[StoredTensor]) -> int | None:
        """The number of attention heads, if the format's shapes tell it."""
        split = next((step for step in self.steps if isinstance(step, SplitHeads)), None)
        return stored[0].shape[split.axis] if split else None


@dataclass(frozen=True)
class Module:
    """A row of a format's table: a parameter, or a layer with its weight and bias, and where the format keeps it.

    Attributes:
        ours: template of a canonical parameter, or of a layer without the leaf; several layers become one.
        theirs: the format's name, with `{leaf}` where it names the layer's weight or bias.
        heads: where the heads are that the format gives an axis of their own, if it does.
        steps: what else to do, after axes were moved.
        unless: see `Rule`.
    """

    ours: str | tuple[str, ...]
    theirs: str
    heads: HeadSide | None = None
    steps: tuple[Step, ...] = ()
    unless: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Rules:
    """The rules of a format, from its table and from how it stores each kind of parameter.

    They are made when somebody first goes through them: every import has the tables of all formats, and a program needs
    the rules of one or two.

    Attributes:
        leaves: how the format stores each kind.
        table: its modules, and rules that modules cannot say; or what returns them, where they are made from `kinds`.
        without: the tensors of a rule that is left out, although a module says it.
    """

    leaves: Mapping[Kind, Leaf]
    table: Iterable[Module | Rule] | Callable[[], Iterable[Module | Rule]]
    without: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Rule]:
        return iter(_made(self))


@cache
def _made(rules: Rules) -> tuple[Rule, ...]:
    table = rules.table() if callable(rules.table) else rules.table
    made = (rule for row in table for rule in ([row] if isinstance(row, Rule) else _expanded(row, rules.leaves)))
    return tuple(rule for rule in made if rule.ours != rules.without)


def _expanded(module: Module, leaves: Mapping[Kind, Leaf]) -> Iterable[Rule]:
    names = (module.ours,) if isinstance(module.ours, str) else module.ours
    for leaf in ("", ".weight", ".bias"):
        ours = tuple(name + leaf for name in names)
        if ours[0] not in kinds():
            continue
        kind = kinds()[ours[0]]
        axes = leaves[kind].axes
        steps: list[Step] = [Fuse(len(ours))] if len(ours) > 1 else []
        if axes is not None:
            steps.append(Transpose(axes))
        if module.heads == "outputs":
            steps.append(SplitHeads(1, 2) if kind == "linear" else SplitHeads(0, 1))
        elif module.heads == "inputs" and kind == "linear":
            steps.append(SplitHeads(0, 2))
        yield Rule(ours, (module.theirs.format(leaf=leaves[kind].name),), (*steps, *module.steps), module.unless)


#: PyTorch's own names and axes.
TORCH_LEAVES: Mapping[Kind, Leaf] = {
    "conv": Leaf("weight"),
    "linear": Leaf("weight"),
    "bias": Leaf("bias"),
    "scale": Leaf("weight"),
    "shift": Leaf("bias"),
    "token": Leaf(None),
    "gain": Leaf(None),
    "table": Leaf(None),
    "frequencies": Leaf(None),
    "positions": Leaf(None),
}


@cache
def kinds() -> Mapping[str, Kind]:
    """What each canonical tensor of any family is, by its template."""
    return {template: row.kind for template, row in every_row().items()}


def modules_named_alike(path_of: Callable[[str], str], end_of_parameter: str = "") -> list[Module]:
    """A module for each layer and each parameter of any family, where a format makes its names from the canonical ones.

    Args:
        path_of: (canonical name) -> the format's.
        end_of_parameter: what it puts behind the name of a parameter that belongs to no layer.
    """
    layers = dict.fromkeys(name.removesuffix(".weight").removesuffix(".bias") for name in kinds())
    ends = {name: end_of_parameter if name in kinds() else "/{leaf}" for name in layers}
    return [Module(name, path_of(in_words(name)) + end) for name, end in ends.items()]


@dataclass(frozen=True)
class Reading:
    """What rules find among a format's tensors.

    Attributes:
        tensors: canonical tensors by key.
        sources: for each of them, the format's name, without what stands before those of the base model.
        heads: the number of attention heads, if shapes tell it.
        unused: the format's tensors that no rule reads, with what stands before the names of the base model.
    """

    tensors: dict[str, StoredTensor]
    sources: dict[str, str]
    heads: int | None
    unused: tuple[str, ...]


def read(table: Iterable[Rule], stored: Mapping[str, StoredTensor], base_prefix: str = "") -> Reading:
    """Find the canonical tensors among a format's; of rules that ask for the same tensor, the first one gets it.

    Args:
        table: the format's rules, those of heads after those of the base model.
        stored: the format's tensors.
        base_prefix: what stands before the names of the base model, and not before those of a head.

    Raises:
        TwoNamesError: a canonical tensor is there under two names.
        ValueError: a shape cannot be, or layers differ in their number of heads.
    """
    inside = {name.removeprefix(base_prefix): tensor for name, tensor in stored.items() if name.startswith(base_prefix)}
    outside = {name: tensor for name, tensor in stored.items() if not base_prefix or not name.startswith(base_prefix)}
    tensors: dict[str, StoredTensor] = {}
    sources: dict[str, str] = {}
    heads: int | None = None
    used: set[str] = set()
    for rule in table:
        place, prefix = (inside, base_prefix) if rule.is_of_base else (outside, "")
        for number in _numbers(rule, place):
            names = [name.replace(LAYER, number) for name in rule.theirs]
            if not all(name in place and prefix + name not in used for name in names):
                continue
            found = [place[name] for name in names]
            try:
                canonical = rule.read(found)
            except ValueError as error:
                raise ValueError(f"{names[-1]} has shape {found[-1].shape}, where {error} is needed.") from None
            ours = [key.replace(LAYER, number) for key in rule.ours]
            if again := next((key for key in ours if key in tensors), None):
                raise TwoNamesError(sources[again], names[-1], again, stored)
            tensors |= zip(ours, canonical, strict=True)
            sources |= zip(ours, names if len(names) == len(ours) else names[-1:] * len(ours), strict=True)
            if (split := rule.heads(found)) is not None:
                if heads not in (None, split):
                    raise ValueError(f"{names[-1]} is split into {split} heads, and others into {heads}.")
                heads = split
            used.update(prefix + name for name in names)
    return Reading(tensors, sources, heads, tuple(name for name in stored if name not in used))


def require_other_names(unused: Iterable[str], used: Iterable[str], prefixes: Collection[str]) -> None:
    """Raise TwoNamesError if a name that no rule reads is one that a rule has read, but for what stands before it.

    Args:
        unused: the names that no rule reads and no such model has for something else.
        used: those that rules have read.
        prefixes: what may stand before the names of a base model, "" among it.
    """
    read = {name.removeprefix(prefix): name for name in used for prefix in prefixes if name.startswith(prefix)}
    for name in unused:
        for rest in (name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)):
            if rest in read:
                raise TwoNamesError(read[rest], name, rest, {})


def write(
    table: Iterable[Rule], canonical: Mapping[str, StoredTensor], heads: int, base_prefix: str = ""
) -> dict[str, StoredTensor]:
    """A format's tensors from the canonical ones; those without a rule are left out.

    Args:
        table: the format's rules.
        canonical: by key.
        heads: the number of attention heads.
        base_prefix: what stands before all names but those of a head.
    """
    stored: dict[str, StoredTensor] = {}
    for rule, number, ours in applied(table, canonical):
        prefix = base_prefix if rule.is_of_base else ""
        theirs = [prefix + each.replace(LAYER, number) for each in rule.theirs]
        stored |= zip(theirs, rule.write([canonical[each] for each in ours], heads), strict=True)
    return stored


def applied(table: Iterable[Rule], canonical: Collection[str]) -> Iterator[tuple[Rule, str, list[str]]]:
    """The rules by which canonical tensors are written, each with the number of its layer and the keys it takes.

    Of several for the same tensors, the first one is.
    """
    by_first: dict[str, list[Rule]] = {}
    for rule in table:
        by_first.setdefault(rule.ours[0], []).append(rule)
    taken: set[str] = set()
    for key in canonical:
        template, number = without_layer(key)
        for rule in by_first.get(template, ()):
            ours = [each.replace(LAYER, number) for each in rule.ours]
            others = [each.replace(LAYER, number) for each in rule.unless]
            is_there = all(each in canonical and each not in taken for each in ours)
            if is_there and not any(each in canonical for each in others):
                taken.update(ours)
                yield rule, number, ours
                break


def _numbers(rule: Rule, stored: Iterable[str]) -> list[str]:
    """The layers whose tensors a rule finds; one empty string for a rule of no layer."""
    if LAYER not in rule.theirs[0]:
        return [""]
    matches = (rule.patterns[0].fullmatch(name) for name in stored)
    return [match[1] for match in matches if match and int(match[1]) < LARGEST_LAYER_COUNT]


def _lazily(dtype: str, shape: Shape, compute: object, index: int) -> StoredTensor:
    return StoredTensor(dtype, shape, lambda: compute(index))  # type: ignore[operator]


def _require_rank(shape: Shape, rank: int) -> None:
    if len(shape) != rank:
        raise ValueError(f"one of {rank} axes")
