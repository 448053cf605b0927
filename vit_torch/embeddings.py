"""How an image becomes tokens in PyTorch: patches, tokens before them, positions.

Which of these there are, a config's `architecture` says (`vit_core.architecture`).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from vit_core import PretrainedConfig
from vit_core.parameters import INITIALIZERS
from vit_core.patches import grid_of
from vit_torch.initialization import start
from vit_torch.norms import norm_of
from vit_torch.position import resample_grid


class ViTPatchEmbeddings(nn.Module):
    """Cuts an image into patches and projects each to a token."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.image_size = config.image_shape
        self.patch_size = config.patch_shape
        self.num_channels = config.num_channels
        self.num_patches = config.grid[0] * config.grid[1]
        self.projection = nn.Conv2d(
            config.num_channels,
            config.hidden_size,
            kernel_size=self.patch_size,
            stride=self.patch_size,
            bias=config.architecture.patch_bias,
        )
        self.layernorm = norm_of(config) if config.architecture.patch_norm else None

    def forward(
        self, pixel_values: Float[Tensor, "batch channels height width"], interpolate_pos_encoding: bool = False
    ) -> Float[Tensor, "batch patches hidden"]:
        self._check(pixel_values, interpolate_pos_encoding)
        projection = self.projection
        weight = getattr(projection, "weight", None)
        if weight is None:  # of what scripts put here, which may have parts
            weight = next(projection.parameters(), pixel_values)
        patches = projection(pixel_values.to(weight.dtype)).flatten(2).transpose(1, 2)
        return patches if self.layernorm is None else self.layernorm(patches)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches."""
        return grid_of((height, width), self.patch_size)

    def fits(self, height: int, width: int) -> bool:
        """Whether images have as many rows and columns of patches as those that the model is for.

        Their size may be another: of 384 pixels, SigLIP sees 27 patches of 14.
        """
        return (height, width) == self.image_size or self.grid(height, width) == self.grid(*self.image_size)

    def is_own_size(self, pixel_values: Tensor) -> bool:
        """Whether images have the size that the model is for."""
        return tuple(pixel_values.shape[-2:]) == self.image_size

    def _check(self, pixel_values: Tensor, interpolate_pos_encoding: bool) -> None:
        if pixel_values.ndim != 4:
            raise ValueError(
                f"pixel_values have shape {tuple(pixel_values.shape)}; they need (batch, channels, height, width)."
            )
        _, channels, height, width = pixel_values.shape
        if channels != self.num_channels:
            raise ValueError(
                f"pixel_values of shape {tuple(pixel_values.shape)} have {channels} channels, the model takes "
                f"{self.num_channels}; channels come first."
            )
        if not (interpolate_pos_encoding or self.fits(height, width)):
            raise ValueError(
                f"images of {height} x {width} pixels do not fit a model for {self.image_size[0]} x "
                f"{self.image_size[1]}; resize them, or call with interpolate_pos_encoding=True."
            )
        if height < self.patch_size[0] or width < self.patch_size[1]:
            raise ValueError(
                f"images of {height} x {width} pixels are smaller than one patch of {self.patch_size[0]} x "
                f"{self.patch_size[1]}; make them larger."
            )


class ViTEmbeddings(nn.Module):
    """Turns an image into tokens: those before the patches, such as a class token, then the patches; with positions."""

    def __init__(self, config: PretrainedConfig, use_mask_token: bool = False) -> None:
        super().__init__()
        self.config = config
        architecture, hidden = config.architecture, config.hidden_size
        self.prefix_tokens = architecture.prefix_tokens
        for name in self.prefix_tokens:
            self.register_parameter(name, nn.Parameter(torch.empty(1, 1, hidden)))
        registers = architecture.register_tokens
        self.register_tokens = nn.Parameter(torch.empty(1, registers, hidden)) if registers else None
        has_mask_token = use_mask_token if architecture.mask_token is None else architecture.mask_token
        self.mask_token = nn.Parameter(torch.empty(1, 1, hidden)) if has_mask_token else None
        self.grid = config.grid
        self.num_positioned = architecture.num_positioned_prefix_tokens
        self.absolute_positions = architecture.absolute_positions
        self.position_resampling = architecture.position_resampling
        self.position_embeddings = self._positions()
        self.resamples_unasked = architecture.resamples_unasked
        self.patch_embeddings = ViTPatchEmbeddings(config)
        self.patch_size = config.patch_size
        self.layernorm = norm_of(config) if architecture.embedding_norm else None
        self.dropout = nn.Dropout(config.hidden_dropout_prob if architecture.embedding_dropout else 0.0)
        self.start_parameters()

    def start_parameters(self) -> None:
        """Give the tokens and positions their start."""
        for name in self.prefix_tokens:
            start(getattr(self, name), INITIALIZERS["token"], self.config)
        if self.register_tokens is not None:
            start(self.register_tokens, INITIALIZERS["token"], self.config)
        if self.mask_token is not None:
            start(self.mask_token, "zeros", self.config)
        if self.position_embeddings is not None:
            is_fixed = self.absolute_positions == "sincos"
            start(self.position_embeddings, "sincos" if is_fixed else INITIALIZERS["positions"], self.config)

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"],
        bool_masked_pos: Shaped[Tensor, "batch patches"] | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> Float[Tensor, "batch tokens hidden"]:
        interpolate = self.interpolates(pixel_values, interpolate_pos_encoding)
        patches = self.patch_embeddings(pixel_values, interpolate)
        if bool_masked_pos is not None:
            patches = self._mask(patches, bool_masked_pos)
        tokens = self._with_prefix(patches)
        if self.position_embeddings is not None and interpolate:
            tokens = tokens + self.interpolate_pos_encoding(tokens, *pixel_values.shape[-2:])
        elif self.position_embeddings is not None:
            tokens = tokens + self.position_embeddings
        tokens = self.dropout(self._with_unpositioned(tokens))
        return tokens if self.layernorm is None else self.layernorm(tokens)

    def interpolates(self, pixel_values: Tensor, interpolate_pos_encoding: bool | None) -> bool:
        """Whether positions are resampled: where it is asked for, or unasked for images of another size."""
        return bool(interpolate_pos_encoding) or (
            self.resamples_unasked and not self.patch_embeddings.is_own_size(pixel_values)
        )

    def interpolate_pos_encoding(
        self, embeddings: Float[Tensor, "batch given_tokens hidden"], height: int, width: int
    ) -> Float[Tensor, "1 tokens hidden"]:
        """The position embeddings for images of another size, resampled as `vit_core.position` defines it.

        Args:
            embeddings: the tokens that the positions are for; the sizes alone decide here.
            height: of the images, in pixels.
            width: likewise.
        """
        grid, before = self.patch_embeddings.grid(height, width), self.num_positioned
        positions: Any = self.position_embeddings
        of_prefix, patches = positions[:, :before], positions[:, before:]
        resampled = resample_grid(patches[0].unflatten(0, self.grid), grid, resampling=self.position_resampling)
        return torch.cat([of_prefix, resampled.flatten(0, 1)[None]], dim=1)

    def _positions(self) -> nn.Parameter | None:
        if self.absolute_positions is None:
            return None
        tokens = self.num_positioned + self.grid[0] * self.grid[1]
        positions = torch.empty(1, tokens, self.config.hidden_size)
        return nn.Parameter(positions, requires_grad=self.absolute_positions != "sincos")

    def _with_prefix(self, patches: Tensor) -> Tensor:
        """The patches, and before them the tokens that have a position."""
        positioned = self._before_patches()[: self.num_positioned]
        return torch.cat([*self._expanded(positioned, patches), patches], dim=1) if positioned else patches

    def _with_unpositioned(self, tokens: Tensor) -> Tensor:
        """The same with the tokens that have none, which stand between the others and the patches."""
        if not (unpositioned := self._before_patches()[self.num_positioned :]):
            return tokens
        first, patches = tokens[:, : self.num_positioned], tokens[:, self.num_positioned :]
        return torch.cat([first, *self._expanded(unpositioned, tokens), patches], dim=1)

    def _before_patches(self) -> list[Tensor]:
        registers = [] if self.register_tokens is None else [self.register_tokens]
        return [*(getattr(self, name) for name in self.prefix_tokens), *registers]

    @staticmethod
    def _expanded(before: list[Tensor], like: Tensor) -> list[Tensor]:
        return [each.expand(like.shape[0], -1, -1) for each in before]

    def _mask(self, patches: Tensor, bool_masked_pos: Tensor) -> Tensor:
        if self.mask_token is None:
            raise ValueError(
                "bool_masked_pos needs a mask token; build the model, or a config that has the field, with "
                "use_mask_token=True."
            )
        if bool_masked_pos.shape != patches.shape[:2]:
            raise ValueError(
                f"bool_masked_pos has shape {tuple(bool_masked_pos.shape)}; one entry for each patch is needed, "
                f"{tuple(patches.shape[:2])}."
            )
        return torch.where(bool_masked_pos.bool().unsqueeze(-1), self.mask_token, patches)
