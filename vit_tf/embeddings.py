"""How an image becomes tokens in Keras: patches, tokens before them, positions.

Which of these there are, a config's `architecture` says (`vit_core.architecture`).
"""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Float, Shaped
from keras import layers, ops
from tensorflow import Tensor

from vit_core import PretrainedConfig
from vit_core.patches import grid_of
from vit_tf.checks import check_per_patch
from vit_tf.initialization import SinCos, Start
from vit_tf.layers import Grid, Shape
from vit_tf.norms import norm_of
from vit_tf.parts import Part
from vit_tf.position import is_same_grid, resample_grid


class ViTPatchEmbeddings(Part):
    """Cuts an image into patches and projects each to a token."""

    def __init__(self, config: PretrainedConfig, data_format: str = "channels_first", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.data_format = data_format
        self.image_size, self.patch_size, self.num_channels = (
            config.image_shape,
            config.patch_shape,
            config.num_channels,
        )
        self.num_patches = math.prod(config.grid)
        self.projection = layers.Conv2D(
            config.hidden_size,
            kernel_size=config.patch_shape,
            strides=config.patch_shape,
            data_format="channels_last",  # the only one that TensorFlow has on a CPU
            use_bias=config.architecture.patch_bias,
            kernel_initializer=Start(config),
            name="projection",
            dtype=self.dtype_policy,
        )
        has_norm = config.architecture.patch_norm
        self.layernorm = norm_of(config, "layernorm", self.dtype_policy) if has_norm else None

    def build(self, input_shape: Shape) -> None:
        self.projection.build((None, None, None, self.config.num_channels))
        if self.layernorm is not None:
            self.layernorm.build((None, None, None, self.config.hidden_size))

    def call(
        self, pixel_values: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch rows columns hidden"]:
        if self.data_format == "channels_first":
            pixel_values = ops.transpose(pixel_values, (0, 2, 3, 1))
        patches = self.projection(pixel_values)
        return patches if self.layernorm is None else self.layernorm(patches)

    def grid(self, pixel_values: Float[Tensor, "batch channels height width"]) -> tuple[int | Tensor, int | Tensor]:
        """Rows and columns of patches."""
        _, *sizes = ops.shape(pixel_values)
        height, width = sizes[1:] if self.data_format == "channels_first" else sizes[:2]
        return grid_of((height, width), self.config.patch_shape)


class ViTEmbeddings(Part):
    """Turns an image into tokens: those before the patches, if any, then the patches, with positions added to all of
    them or to some.
    """

    def __init__(
        self,
        config: PretrainedConfig,
        use_mask_token: bool = False,
        data_format: str = "channels_first",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.config = config
        architecture = config.architecture
        self.output_shape = tokens_shape(config)  # for `summary`
        registers = {"register_tokens": architecture.register_tokens} if architecture.register_tokens else {}
        #: How many of each there are.
        self.prefix_tokens = {**dict.fromkeys(architecture.prefix_tokens, 1), **registers}
        self.num_positioned = architecture.num_positioned_prefix_tokens
        #: Of the names above, how many stand for tokens with a position.
        self.last_positioned = len(self.prefix_tokens) if architecture.positioned == "all" else self.num_positioned
        self.resampling = architecture.position_resampling
        self.absolute_positions = architecture.absolute_positions
        self.resamples_unasked = architecture.resamples_unasked
        self.use_mask_token = use_mask_token if architecture.mask_token is None else architecture.mask_token
        self.patch_embeddings = ViTPatchEmbeddings(
            config, data_format, name="patch_embeddings", dtype=self.dtype_policy
        )
        self.layernorm = norm_of(config, "layernorm", self.dtype_policy) if architecture.embedding_norm else None
        dropout = config.hidden_dropout_prob if architecture.embedding_dropout else 0.0
        self.dropout = layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        hidden, start = self.config.hidden_size, Start(self.config)
        for name, count in self.prefix_tokens.items():
            setattr(self, name, self.add_weight(name=name, shape=(1, count, hidden), initializer=start))
        self.mask_token = None
        if self.use_mask_token:
            self.mask_token = self.add_weight(name="mask_token", shape=(1, 1, hidden), initializer="zeros")
        self.position_embeddings = None
        if self.absolute_positions is not None:
            is_fixed = self.absolute_positions == "sincos"
            self.position_embeddings = self.add_weight(
                name="position_embeddings",
                shape=(1, self.num_positioned + math.prod(self.config.grid), hidden),
                initializer=SinCos(self.config.grid, self.num_positioned) if is_fixed else start,
                trainable=not is_fixed,
            )
        self.patch_embeddings.build(input_shape)
        if self.layernorm is not None:
            self.layernorm.build((None, None, hidden))

    def call(
        self,
        pixel_values: Float[Tensor, "batch channels height width"],
        interpolate_pos_encoding: bool = False,
        bool_masked_pos: Shaped[Tensor, "batch patches"] | None = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        patches = self.patch_embeddings(pixel_values)
        batch, rows, columns, hidden = ops.shape(patches)
        patches = ops.reshape(patches, (-1, rows * columns, hidden))
        if bool_masked_pos is not None:
            patches = self._mask(patches, ops.convert_to_tensor(bool_masked_pos))
        before = [
            ops.broadcast_to(getattr(self, name), (batch, count, hidden)) for name, count in self.prefix_tokens.items()
        ]
        first, last = before[: self.last_positioned], before[self.last_positioned :]
        tokens = ops.concatenate([*first, patches], axis=1) if first else patches
        positions = self.positions((rows, columns), interpolate_pos_encoding)
        tokens = tokens if positions is None else tokens + positions
        if last:  # what has no position stands between what has one
            first = [tokens[:, : self.num_positioned]] if first else []
            tokens = ops.concatenate([*first, *last, tokens[:, self.num_positioned :]], axis=1)
        tokens = self.dropout(tokens)
        return tokens if self.layernorm is None else self.layernorm(tokens)

    def positions(self, grid: Grid, interpolate_pos_encoding: bool = False) -> Float[Tensor, "1 tokens hidden"] | None:
        """The position embeddings for a grid of patches; resampled if that is asked for, or done unasked; or None."""
        if self.position_embeddings is None:
            return None
        if interpolate_pos_encoding or (self.resamples_unasked and not is_same_grid(self.config.grid, grid)):
            return self._resampled_positions(grid)
        return self.position_embeddings

    def interpolate_pos_encoding(
        self, embeddings: Any, height: int | Tensor, width: int | Tensor
    ) -> Float[Tensor, "1 tokens hidden"]:
        """The position embeddings for images of another size in pixels.

        Args:
            embeddings: accepted for scripts that give them; the size says everything.
            height: of the images.
            width: of the images.
        """
        return self._resampled_positions(grid_of((height, width), self.config.patch_shape))

    def _resampled_positions(self, grid: Grid) -> Float[Tensor, "1 tokens hidden"]:
        """The position embeddings for another grid of patches, resampled as `vit_core.position` defines it."""
        before = self.num_positioned
        positions = ops.convert_to_tensor(self.position_embeddings)
        resampled = resample_grid(
            ops.reshape(positions[0, before:], (*self.config.grid, -1)), grid, resampling=self.resampling
        )
        patches = ops.reshape(resampled, (1, -1, self.config.hidden_size))
        return ops.concatenate([positions[:, :before], patches], axis=1) if before else patches

    def _mask(self, patches: Tensor, bool_masked_pos: Tensor) -> Tensor:
        if self.mask_token is None:
            raise ValueError(
                "bool_masked_pos needs a mask token; build the model, or a config that has the field, with "
                "use_mask_token=True."
            )
        check_per_patch("bool_masked_pos", bool_masked_pos, patches)
        return ops.where(ops.cast(bool_masked_pos, "bool")[..., None], self.mask_token, patches)


def tokens_shape(config: PretrainedConfig) -> Shape:
    """The shape of the tokens of a batch of images."""
    return None, config.architecture.num_prefix_tokens + math.prod(config.grid), config.hidden_size
