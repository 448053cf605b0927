"""Rotary positions in PyTorch: the core's tables as tensors, for sizes that a compiler may leave open.

See `vit_core.rotary`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vit_core import PretrainedConfig
from vit_core.architecture import RotaryPositions
from vit_core.rotary import rotary_coordinates, rotary_frequencies, rotary_reference, rotary_tables

#: Cosines and sines, a row for each token; those of the tokens before the patches are 1 and 0, which turn nothing.
Tables = tuple[Float[Tensor, "tokens head_dim"], Float[Tensor, "tokens head_dim"]]


class RotaryPositionEmbedding(nn.Module):
    """By which angles queries and keys are turned for where their patches are (https://arxiv.org/abs/2104.09864).

    In training the patches of all images may be moved at random: shifted, then stretched or shrunk along each axis,
    then along both (Siméoni et al. 2025, https://arxiv.org/abs/2508.10104), as the config says.

    Args:
        config: the model's; its architecture has rotary positions.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        architecture, fields = config.architecture, vars(config)
        self.grid = config.grid
        self.head_dim = config.head_dim
        self.num_prefix_tokens = architecture.num_prefix_tokens
        assert architecture.rotary_positions is not None  # or there would be no such part
        self.rotary = architecture.rotary_positions
        self.reference = rotary_reference(config)
        self.theta: float = fields["rope_theta"]
        self.frequencies: list[float] = rotary_frequencies(self.rotary, self.head_dim, self.theta).tolist()
        self.shift, self.jitter, self.rescale = (
            fields.get(f"pos_embed_{name}") for name in ("shift", "jitter", "rescale")
        )

    def forward(
        self, hidden_states: Float[Tensor, "batch tokens hidden"], grid: tuple[int, int] | None = None
    ) -> Tables:
        """The tables for images, of the tokens' device and dtype.

        Args:
            hidden_states: the tokens.
            grid: rows and columns of patches; the model's own unless given, for which the tables are constants.
        """
        place = (hidden_states.device, hidden_states.dtype)
        moves = self.training and any(largest is not None for largest in (self.shift, self.jitter, self.rescale))
        is_known = grid is None or (not torch.compiler.is_compiling() and all(type(count) is int for count in grid))
        if is_known and not moves:
            # Tensors of other classes have no values, and what is made among them has none for others.
            make = cached_tables if type(hidden_states) is Tensor else constant_tables
            own = (self.rotary, grid or self.grid, self.reference, self.head_dim, self.theta, self.num_prefix_tokens)
            return make(*own, *place)
        coordinates = self._coordinates(grid or self.grid, hidden_states.device)
        if moves:
            coordinates = self._moved(coordinates)
        angles = coordinates[:, :, None] * coordinates.new_tensor(self.frequencies)
        angles = angles.flatten(1).tile(2) if self.rotary == "centres" else angles.flatten(1).repeat_interleave(2, 1)
        return _with_prefix(angles.cos(), angles.sin(), self.num_prefix_tokens, *place)

    def _coordinates(self, grid: tuple[int, int], device: torch.device) -> Float[Tensor, "patches 2"]:
        """See `vit_core.rotary.rotary_coordinates`; the grid may be symbolic."""
        rows, columns = (torch.arange(count, dtype=torch.float32, device=device) for count in grid)
        if self.rotary == "centres":
            rows, columns = (rows + 0.5) / grid[0] * 2 - 1, (columns + 0.5) / grid[1] * 2 - 1
        else:
            rows, columns = rows / grid[0] * self.reference[0], columns / grid[1] * self.reference[1]
        return torch.stack([rows[:, None].expand(grid), columns.expand(grid)], dim=-1).flatten(0, 1)

    def _moved(self, coordinates: Float[Tensor, "patches 2"]) -> Float[Tensor, "patches 2"]:
        """Coordinates moved at random, by torch's generator."""
        if self.shift is not None:
            coordinates = coordinates + torch.empty_like(coordinates[0]).uniform_(-self.shift, self.shift)
        for largest, count in ((self.jitter, 2), (self.rescale, 1)):
            if largest is not None:
                exponents = torch.empty_like(coordinates[0, :count]).uniform_(-math.log(largest), math.log(largest))
                coordinates = coordinates * exponents.exp()
        return coordinates


def constant_tables(
    rotary: RotaryPositions,
    grid: tuple[int, int],
    reference: tuple[int, int],
    head_dim: int,
    theta: float,
    num_prefix_tokens: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Tables:
    """The tables for a grid; see `vit_core.rotary.rotary_tables`."""
    coordinates = rotary_coordinates(rotary, grid, reference)
    tables = rotary_tables(rotary, coordinates, rotary_frequencies(rotary, head_dim, theta))
    cos, sin = (torch.from_numpy(table).to(device, torch.float32) for table in tables)
    return _with_prefix(cos, sin, num_prefix_tokens, device, dtype)


@torch.compiler.assume_constant_result
def cached_tables(*arguments: Any) -> Tables:
    """See `constant_tables`; to a compiler, what it returns is a constant."""
    return _cached_tables(*arguments)


@lru_cache(maxsize=16)
def _cached_tables(*arguments: Any) -> Tables:
    with torch.inference_mode(False):  # or the tables would be of no use in training
        return constant_tables(*arguments)


def rotated(
    rotary: RotaryPositions, heads: Float[Tensor, "batch heads tokens head_dim"], tables: Tables
) -> Float[Tensor, "batch heads tokens head_dim"]:
    """Queries or keys, turned; see `vit_core.rotary.rotated`."""
    cos, sin = (table.to(heads.dtype) for table in tables)
    if rotary == "centres":
        first, second = heads.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
    else:
        turned = torch.stack([-heads[..., 1::2], heads[..., ::2]], dim=-1).flatten(-2)
    return heads * cos + turned * sin


def _with_prefix(cos: Tensor, sin: Tensor, num_prefix_tokens: int, device: torch.device, dtype: torch.dtype) -> Tables:
    before = (0, 0, num_prefix_tokens, 0)
    return functional.pad(cos, before, value=1.0).to(dtype), functional.pad(sin, before).to(dtype)
