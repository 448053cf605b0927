"""What is measured: a subject is a table of rows, a row is work that several sides do in turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.budget import FEWEST

Length = Literal["quick", "whole", "long"]
#: Minutes of a run, from the shortest, which has the fewest rows, to the longest, which has all that the page shows.
LENGTHS: dict[Length, float] = {"quick": 2, "whole": 20, "long": 120}
#: Rounds that their rows have in any case.
ROUNDS: dict[Length, int] = {"quick": 3, "whole": 3, "long": FEWEST}
Work = Mapping[str, Any]


@dataclass(frozen=True)
class Side:
    """Somebody who can do the work of a subject's rows.

    Attributes:
        module: where in `benchmarks.sides` its `prepare` is.
        environment: whose Python runs it, a key of `environments.ENVIRONMENTS`.
        within: the side whose process it shares; a limit is measured where what it limits is.
        called: its name in tables, if it is another than among the sides.
        options: what its `prepare` gets besides the row's work.
        variables: what is in the environment of its process besides.
    """

    module: str
    environment: str = "trivit"
    within: str = ""
    called: str = ""
    options: Work = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        title: what is measured.
        work: what each side is asked to prepare.
        sides: who does it; the first is ours, and the others are compared with it.
        limit: the side that does no more than the machine must, if there is one.
        length: the shortest run that has the row.
        weight: its part of the time, beside the other rows' parts.
        tolerance: how far answers may be from ours, in standard deviations of ours: who computes something else is not
            compared.
        has_memory: whether memory is measured, too, which takes processes of its own.
        fewest: rounds that are enough for it; fewer than usual where a turn takes many seconds.
        instructions: of which the processor must have one; on others the work says nothing.
    """

    title: str
    work: Work
    sides: tuple[str, ...]
    limit: str = ""
    length: Length = "whole"
    weight: float = 1.0
    tolerance: float = 1e-3
    has_memory: bool = False
    fewest: int = FEWEST
    instructions: tuple[str, ...] = ()

    @property
    def everybody(self) -> tuple[str, ...]:
        """All who take part in a round."""
        return (*self.sides, self.limit) if self.limit else self.sides

    def is_in(self, length: Length) -> bool:
        """Whether a run of this length has the row."""
        lengths = list(LENGTHS)
        return lengths.index(self.length) <= lengths.index(length)


@dataclass(frozen=True)
class Subject:
    """A table: rows, and the sides that they name.

    Attributes:
        name: one word, for commands and JSON.
        title: what stands above the table.
        sides: by the names that rows and tables use.
        rows: in the order of the table.
        has_peers: whether ours is compared with others', rather than with other ways of ours.
    """

    name: str
    title: str
    sides: Mapping[str, Side]
    rows: tuple[Row, ...]
    has_peers: bool = True

    def name_of(self, side: str) -> str:
        """What tables call a side."""
        return self.sides[side].called or side
