"""How many rounds each row gets, so that a run ends in its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

FEWEST, MOST = 5, 40  # rounds


class Budget:
    """Time that rows share by their weights: what one leaves, or takes too much, the next rows have, or lack.

    Args:
        seconds: in all.
        weights: of the rows, in their order.
        fewest: rounds that rows have in any case, unless fewer are enough for one.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        seconds: float,
        weights: Iterable[float],
        fewest: int = FEWEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.weights = list(weights)
        self.fewest = fewest
        self.clock = clock
        self.end = clock() + seconds
        self.row_end = self.end

    def begin_row(self) -> None:
        """The next row begins."""
        left = sum(self.weights)
        weight = self.weights.pop(0)
        now = self.clock()
        self.row_end = now + max(self.end - now, 0) * weight / left

    def has_time_for_round(self, done: int, longest: float, fewest: int = FEWEST) -> bool:
        """Whether the row goes on.

        Args:
            done: the rounds that it has.
            longest: seconds that the longest of them took.
            fewest: rounds that are enough for it.
        """
        if done < min(fewest, self.fewest):
            return True
        return done < MOST and self.clock() + longest <= self.row_end
