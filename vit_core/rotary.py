"""Rotary positions: by which angles the queries and keys of a patch are turned (Su et al. 2021, arXiv 2104.09864).

Channels of a head are turned in pairs: a pair (x, y) becomes (x cos - y sin, y cos + x sin). One half of the pairs
knows the row, the other the column, or the other way round. Models do it in ways that differ:

- "centres" (DINOv3): a coordinate is where the patch's centre lies between the image's edges, from -1 to 1, so that it
  is known for images of any size; a pair is a channel of the head's first half and its counterpart in the second.
- "indices" (EVA-02): a coordinate is the number of the row or the column, in a grid that is stretched to the one of
  training unless that is turned off; a pair is two neighbouring channels.
- "mixed" (RoPE-Mixed, Heo et al. 2024, https://arxiv.org/abs/2403.13298): likewise, but each pair of each head in each
  layer has a trained frequency for either coordinate, and is turned by the sum of both angles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vit_core.architecture import RotaryFirst, RotaryPositions

if TYPE_CHECKING:
    from jaxtyping import Float

    from vit_core.config import PretrainedConfig

Grid = tuple[int, int]


@dataclass(frozen=True)
class Rotary:
    """The rotary positions of a model: all that their tables follow from, beside the grid of the patches.

    Attributes:
        kind: which coordinates and which pairs.
        head_dim: width of a head, a multiple of 4.
        theta: the ratio of the first frequency to what would come after the last.
        reference: the rows and columns to which a grid is stretched, unless of "centres"; None if none is.
        offset: likewise, the number of the first row and column, before the grid is stretched.
        first: which coordinate the first half of the pairs knows.
    """

    kind: RotaryPositions
    head_dim: int
    theta: float
    reference: Grid | None = None
    offset: float = 0.0
    first: RotaryFirst = "rows"

    @classmethod
    def of(cls, config: PretrainedConfig) -> Self:
        """Those of a model whose architecture has some."""
        options = config.architecture
        assert options.rotary_positions is not None
        reference = rotary_reference(config) if options.rotary_stretch else None
        theta: float = vars(config)["rope_theta"]
        return cls(
            options.rotary_positions, config.head_dim, theta, reference, options.rotary_offset, options.rotary_first
        )

    def place(self, index: Any, axis: int, count: Any) -> Any:
        """The coordinate of a row (axis 0) or a column (axis 1); of one number, or of arrays of any framework.

        Args:
            index: its number, from 0.
            axis: which of the two it is.
            count: how many there are in the image.
        """
        if self.kind == "centres":
            return (index + 0.5) / count * 2 - 1
        place = index + self.offset if self.offset else index
        return place if self.reference is None else place / count * self.reference[axis]

    def coordinates(self, grid: Grid) -> Float[np.ndarray, "patches 2"]:
        """Both coordinates of each patch, row by row; first the one that the first pairs know.

        Args:
            grid: rows and columns of patches in the image.
        """
        places = np.indices(grid).reshape(2, -1).astype(np.float64)
        both = [self.place(places[axis], axis, grid[axis]) for axis in self.axes]
        return np.stack(both, axis=1)

    @property
    def axes(self) -> tuple[int, int]:
        """The axes of the grid in the order in which the pairs know them."""
        return (0, 1) if self.first == "rows" else (1, 0)

    @property
    def frequencies(self) -> Float[np.ndarray, " quarter"]:
        """The angle of a coordinate of 1, for each pair of channels that knows it; those of the other are the same."""
        quarter = self.head_dim // 4
        frequencies = self.theta ** -(np.arange(quarter) / quarter)
        return frequencies * 2 * math.pi if self.kind == "centres" else frequencies

    def starting_frequencies(self, heads: int) -> Float[np.ndarray, "2 heads half"]:
        """How trained frequencies start: those of "indices", for axes that are turned further from head to head.

        Over the heads they turn once; the authors' code draws the angle of each head.
        """
        turns = 2 * math.pi * np.arange(heads)[:, None] / heads
        first, second = (np.concatenate([f(turns), f(turns + math.pi / 2)], axis=1) for f in (np.cos, np.sin))
        return np.stack([first, second]).repeat(self.head_dim // 4, axis=2) * np.tile(self.frequencies, 2)

    def mixed_tables(
        self, coordinates: Float[np.ndarray, "patches 2"], frequencies: Float[np.ndarray, "2 heads half"]
    ) -> tuple[Float[np.ndarray, "heads patches head_dim"], Float[np.ndarray, "heads patches head_dim"]]:
        """Cosines and sines for each channel of each head, by trained frequencies."""
        angles = np.einsum("pa,ahf->hpf", coordinates, frequencies).repeat(2, axis=2)
        return np.cos(angles), np.sin(angles)

    def tables(
        self, coordinates: Float[np.ndarray, "patches 2"]
    ) -> tuple[Float[np.ndarray, "patches head_dim"], Float[np.ndarray, "patches head_dim"]]:
        """Cosines and sines for each channel of a head; `rotated` says how they are used."""
        angles = (coordinates[:, :, None] * self.frequencies).reshape(len(coordinates), -1)
        angles = np.tile(angles, 2) if self.kind == "centres" else np.repeat(angles, 2, axis=1)
        return np.cos(angles), np.sin(angles)


def rotary_reference(config: PretrainedConfig) -> Grid:
    """Rows and columns to which positions of "indices" stretch a grid: `rotary_grid`, or else the model's own."""
    side = getattr(config, "rotary_grid", None)
    if side is None:
        return config.grid
    return side if isinstance(side, tuple) else (side, side)


def rotated(
    rotary: RotaryPositions, heads: Float[np.ndarray, "... head_dim"], tables: tuple[np.ndarray, np.ndarray]
) -> Float[np.ndarray, "... head_dim"]:
    """Queries or keys of the patches, turned: `x cos + turned(x) sin`, as the backends do it.

    Args:
        rotary: which positions.
        heads: (..., patches, head_dim).
        tables: see `Rotary.tables`.
    """
    cos, sin = tables
    if rotary == "centres":
        first, second = np.split(heads, 2, axis=-1)
        turned = np.concatenate([-second, first], axis=-1)
    else:
        turned = np.stack([-heads[..., 1::2], heads[..., ::2]], axis=-1).reshape(heads.shape)
    return heads * cos + turned * sin
