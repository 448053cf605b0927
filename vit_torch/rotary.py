"""Rotary positions in PyTorch: the core's tables as tensors, for sizes that a compiler may leave open.

See `vit_core.rotary`.
"""

from __future__ import annotations

import math
from dataclasses import astuple
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vit_core import PretrainedConfig
from vit_core.architecture import RotaryPositions
from vit_core.parameters import INITIALIZERS
from vit_core.rotary import Rotary
from vit_torch.initialization import start

#: Cosines and sines, a row for each token, of all heads or of each; those of the tokens before the patches are 1 and 0,
#: which turn nothing.
Tables = tuple[Float[Tensor, "*heads tokens head_dim"], Float[Tensor, "*heads tokens head_dim"]]
#: What layers turn queries and keys by: tables, or coordinates of which each makes its own.
Rotating = Tables | Float[Tensor, "tokens 2"]


class RotaryPositionEmbedding(nn.Module):
    """By which angles queries and keys are turned for where their patches are (https://arxiv.org/abs/2104.09864).

    In training the patches of all images may be moved at random: shifted, then stretched or shrunk along each axis,
    then along both (Siméoni et al. 2025, https://arxiv.org/abs/2508.10104), as the config says.

    Args:
        config: the model's; its architecture has rotary positions.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.grid = config.grid
        self.num_prefix_tokens = config.architecture.num_prefix_tokens
        self.rotary = Rotary.of(config)
        self.fields = astuple(self.rotary)  # constants, which compilers take from a model as they are
        self.frequencies: list[float] = self.rotary.frequencies.tolist()
        self.shift, self.jitter, self.rescale = (
            vars(config).get(f"pos_embed_{name}") for name in ("shift", "jitter", "rescale")
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
            return make(self.fields, grid or self.grid, self.num_prefix_tokens, *place)
        coordinates = self._coordinates(grid or self.grid, hidden_states.device)
        if moves:
            coordinates = self._moved(coordinates)
        angles = coordinates[:, :, None] * coordinates.new_tensor(self.frequencies)
        is_halved = self.rotary.kind == "centres"
        angles = angles.flatten(1).tile(2) if is_halved else angles.flatten(1).repeat_interleave(2, 1)
        return _with_prefix(angles.cos(), angles.sin(), self.num_prefix_tokens, *place)

    def _coordinates(self, grid: tuple[int, int], device: torch.device) -> Float[Tensor, "patches 2"]:
        """See `vit_core.rotary.Rotary.coordinates`; the grid may be symbolic."""
        indices = [torch.arange(count, dtype=torch.float32, device=device) for count in grid]
        rows, columns = (self.rotary.place(indices[axis], axis, grid[axis]) for axis in (0, 1))
        both = [rows[:, None].expand(grid), columns.expand(grid)]
        return torch.stack([both[axis] for axis in self.rotary.axes], dim=-1).flatten(0, 1)

    def _moved(self, coordinates: Float[Tensor, "patches 2"]) -> Float[Tensor, "patches 2"]:
        """Coordinates moved at random, by torch's generator."""
        if self.shift is not None:
            coordinates = coordinates + torch.empty_like(coordinates[0]).uniform_(-self.shift, self.shift)
        for largest, count in ((self.jitter, 2), (self.rescale, 1)):
            if largest is not None:
                exponents = torch.empty_like(coordinates[0, :count]).uniform_(-math.log(largest), math.log(largest))
                coordinates = coordinates * exponents.exp()
        return coordinates


class RotaryCoordinates(RotaryPositionEmbedding):
    """Where the patches are, for layers that make tables of their own of it; see `MixedRotary`."""

    def forward(  # type: ignore[override]
        self, hidden_states: Float[Tensor, "batch tokens hidden"], grid: tuple[int, int] | None = None
    ) -> Float[Tensor, "tokens 2"]:
        """The coordinates of each token; those before the patches have zeros, which turn nothing."""
        return functional.pad(
            self._coordinates(grid or self.grid, hidden_states.device), (0, 0, self.num_prefix_tokens, 0)
        )


class MixedRotary(nn.Module):
    """The trained frequencies of a layer, one for each pair of channels of each head and either coordinate.

    Heo et al. 2024, https://arxiv.org/abs/2403.13298, section 3.2.

    Args:
        config: the model's.
        layer: the number of the layer that owns it, of whose heads it has those that are not pruned; all without one.
    """

    def __init__(self, config: PretrainedConfig, layer: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.frequencies = nn.Parameter(torch.empty(2, len(config.kept_heads(layer)), config.head_dim // 2))
        self.start_parameters()

    def start_parameters(self) -> None:
        """Give the frequencies their start."""
        start(self.frequencies, INITIALIZERS["frequencies"], self.config)

    def forward(self, coordinates: Float[Tensor, "tokens 2"]) -> Tables:
        """Cosines and sines for each head, (heads, tokens, head_dim), in float32."""
        first, second = self.frequencies.to(coordinates.dtype)[:, :, None]
        angles = coordinates[:, :1] * first + coordinates[:, 1:] * second
        angles = angles.repeat_interleave(2, -1)
        return angles.cos(), angles.sin()


#: What makes of a grid that which layers turn queries and keys by.
ROTARY: dict[RotaryPositions, type[RotaryPositionEmbedding]] = {
    "centres": RotaryPositionEmbedding,
    "indices": RotaryPositionEmbedding,
    "mixed": RotaryCoordinates,
}


def constant_tables(
    fields: tuple[Any, ...], grid: tuple[int, int], num_prefix_tokens: int, device: torch.device, dtype: torch.dtype
) -> Tables:
    """The tables for a grid, of rotary positions with such fields; see `vit_core.rotary.Rotary.tables`."""
    rotary = Rotary(*fields)
    tables = rotary.tables(rotary.coordinates(grid))
    cos, sin = (torch.from_numpy(table).to(device, torch.float32) for table in tables)
    return _with_prefix(cos, sin, num_prefix_tokens, device, dtype)


def cached_tables(*arguments: Any) -> Tables:
    """See `constant_tables`; to a compiler, what it returns is a constant."""
    return _cached_tables(*arguments)


# As `torch.compiler.assume_constant_result` has it, which imports the whole compiler: a second for every user.
cached_tables._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache(maxsize=16)
def _cached_tables(*arguments: Any) -> Tables:
    with torch.inference_mode(False):  # or the tables would be of no use in training
        return constant_tables(*arguments)


def rotated(
    rotary: RotaryPositions, heads: Float[Tensor, "batch heads tokens head_dim"], tables: Tables
) -> Float[Tensor, "batch heads tokens head_dim"]:
    """Queries or keys, turned; see `vit_core.rotary.rotated`."""
    # Tokens before heads, as projections leave them in memory; and no more tensors are made than are needed, since the
    # time is that of memory: this takes three quarters of the time of the plain sum.
    tokens = heads.transpose(1, 2)
    cos, sin = (table.expand(heads.shape[1], -1, -1).transpose(0, 1).to(heads.dtype) for table in tables)
    if rotary == "centres":
        first, second = tokens.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
    else:
        turned = torch.stack([-tokens[..., 1::2], tokens[..., ::2]], dim=-1).flatten(-2)
    turned *= sin
    turned += tokens * cos
    return turned.transpose(1, 2)


def _with_prefix(cos: Tensor, sin: Tensor, num_prefix_tokens: int, device: torch.device, dtype: torch.dtype) -> Tables:
    before = (0, 0, num_prefix_tokens, 0)
    return functional.pad(cos, before, value=1.0).to(dtype), functional.pad(sin, before).to(dtype)
