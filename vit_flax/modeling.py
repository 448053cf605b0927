"""Vision Transformers in Flax, from top to bottom as the image travels: from embeddings to models with a head.

What a model is made of, its config's `architecture` says (`vit_core.architecture`): an option is chosen in `setup`, and
no class here knows a type of model. The layers are in `vit_flax.layers`, the classes that scripts know by name
(FlaxViTModel, FlaxDeiTModel, ...) in `vit_flax.relatives`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Shaped

from vit_core import PretrainedConfig, VisionTransformerConfig
from vit_core.architecture import Pooler, RelativePositions, Summary
from vit_core.checks import check_head_mask
from vit_core.position import sincos_positions
from vit_flax.activations import activation
from vit_flax.checks import CHANNELS_LAST, check_per_patch, check_pixel_values
from vit_flax.initialization import normal
from vit_flax.layers import (
    FlaxViTAttention,
    FlaxViTIntermediate,
    FlaxViTLayer,
    FlaxViTLayerCollection,
    FlaxViTOutput,
    FlaxViTSelfAttention,
    FlaxViTSelfOutput,
    LayerStack,
    RelativePositionBias,
)
from vit_flax.losses import classification_loss, masked_reconstruction_loss, masked_token_loss
from vit_flax.outputs import (
    FlaxBaseModelOutput,
    FlaxBaseModelOutputWithPooling,
    FlaxDeiTForImageClassificationWithTeacherOutput,
    FlaxMaskedImageModelingOutput,
    FlaxMaskedLMOutput,
    FlaxSequenceClassifierOutput,
)
from vit_flax.parts import Part, PatchConvolution, given
from vit_flax.position import resample_grid
from vit_flax.pretrained import FlaxPreTrainedModel
from vit_flax.rematerialization import Remat

__all__ = [
    "FlaxViTAttention",
    "FlaxViTEmbeddings",
    "FlaxViTEncoder",
    "FlaxViTIntermediate",
    "FlaxViTLayer",
    "FlaxViTLayerCollection",
    "FlaxViTOutput",
    "FlaxViTPatchEmbeddings",
    "FlaxViTPooler",
    "FlaxViTSelfAttention",
    "FlaxViTSelfOutput",
    "FlaxVisionTransformerForImageClassification",
    "FlaxVisionTransformerForImageClassificationModule",
    "FlaxVisionTransformerForImageClassificationWithTeacher",
    "FlaxVisionTransformerForImageClassificationWithTeacherModule",
    "FlaxVisionTransformerForMaskedImageModeling",
    "FlaxVisionTransformerForMaskedImageModelingModule",
    "FlaxVisionTransformerForMaskedTokenModeling",
    "FlaxVisionTransformerForMaskedTokenModelingModule",
    "FlaxVisionTransformerModel",
    "FlaxVisionTransformerModule",
    "FlaxVisionTransformerPreTrainedModel",
]


class FlaxViTPatchEmbeddings(Part):
    """Cuts an image into patches and projects each to a token."""

    def setup(self) -> None:
        config = self.config
        self.num_patches = config.grid[0] * config.grid[1]
        self.projection = PatchConvolution(
            **self.shared, features=config.hidden_size, patch_shape=config.patch_shape, axes=(None, "hidden")
        )

    def __call__(
        self, pixel_values: Float[Array, "batch height width channels"], interpolate_pos_encoding: bool = False
    ) -> Float[Array, "batch patches hidden"]:
        check_pixel_values(pixel_values, self.config, CHANNELS_LAST, interpolate_pos_encoding)
        patches = self.projection(pixel_values)
        batch, rows, columns, hidden = patches.shape
        return patches.reshape(batch, rows * columns, hidden)


class FlaxViTEmbeddings(Part):
    """Turns an image into tokens: those before the patches, such as a class token, then the patches; with positions.

    Positions that are fixed, the sines and cosines of masked autoencoders, are parameters whose gradient is zero. Leave
    them out of weight decay, as `mask` of `optax.adamw` does.
    """

    _: KW_ONLY
    use_mask_token: bool = False

    def setup(self) -> None:
        config, architecture, start = self.config, self.config.architecture, normal(self.config.initializer_range)
        for name in architecture.prefix_tokens:
            setattr(self, name, self._token(name, start))
        self.has_mask_token = self.use_mask_token if architecture.mask_token is None else architecture.mask_token
        if self.has_mask_token:
            self.mask_token = self._token("mask_token", nn.initializers.zeros)
        self.patch_embeddings = FlaxViTPatchEmbeddings(**self.shared)
        self.position_embeddings = POSITIONS[architecture.absolute_positions](self)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def __call__(
        self,
        pixel_values: Float[Array, "batch height width channels"],
        deterministic: bool = True,
        *,
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> Float[Array, "batch tokens hidden"]:
        patches = self.patch_embeddings(pixel_values, interpolate_pos_encoding)
        if bool_masked_pos is not None:
            patches = self._mask(patches, bool_masked_pos)
        tokens = self._with_prefix(patches)
        positions = self.position_embeddings
        if positions is None:
            return self.dropout(tokens, deterministic)
        if interpolates(self.config, pixel_values, interpolate_pos_encoding):
            positions = self.interpolate_pos_encoding(tokens, *pixel_values.shape[1:3])
        return self.dropout(tokens + positions.astype(self.dtype), deterministic)

    def interpolate_pos_encoding(
        self, embeddings: Float[Array, "batch tokens hidden"], height: int, width: int
    ) -> Float[Array, "1 tokens hidden"]:
        """The position embeddings for images of another size, resampled as `vit_core.position` defines it.

        Args:
            embeddings: the tokens that the positions are for; the sizes alone decide here.
            height: of the images, in pixels.
            width: likewise.
        """
        before = self.config.architecture.num_prefix_tokens
        positions: Any = self.position_embeddings
        of_prefix, patches = positions[:, :before], positions[0, before:]
        grid = grid_of(self.config, height, width)
        resampled = resample_grid(patches.reshape(*self.config.grid, -1), grid)
        return jnp.concatenate([of_prefix, resampled.reshape(1, grid[0] * grid[1], patches.shape[-1])], axis=1)

    @nn.nowrap
    def _token(self, name: str, start: Any) -> Array:
        return self.parameter(name, (1, 1, self.config.hidden_size), (None, None, "hidden"), start)

    @nn.nowrap
    def positions(self, start: Any) -> Array:
        """A position for each token."""
        config = self.config
        tokens = config.architecture.num_prefix_tokens + config.grid[0] * config.grid[1]
        shape = (1, tokens, config.hidden_size)
        return self.parameter("position_embeddings", shape, (None, None, "hidden"), start)

    def _with_prefix(self, patches: Array) -> Array:
        names = self.config.architecture.prefix_tokens
        if not names:
            return patches
        one_an_image = (patches.shape[0], 1, patches.shape[2])
        prefix = [jnp.broadcast_to(getattr(self, name).astype(self.dtype), one_an_image) for name in names]
        return jnp.concatenate([*prefix, patches], axis=1)

    def _mask(self, patches: Array, bool_masked_pos: Array) -> Array:
        if not self.has_mask_token:
            raise ValueError("bool_masked_pos needs a mask token; build the model with use_mask_token=True.")
        check_per_patch("bool_masked_pos", bool_masked_pos, *patches.shape[:2])
        return jnp.where(bool_masked_pos.astype(bool)[..., None], self.mask_token.astype(self.dtype), patches)


def fixed_positions(grid: tuple[int, int], prefix_tokens: int) -> Callable[..., Array]:
    """How fixed positions start; see `vit_core.position.sincos_positions`."""
    return lambda key, shape, dtype: jnp.asarray(sincos_positions(grid, shape[-1], prefix_tokens), dtype)


def _fixed(embeddings: FlaxViTEmbeddings) -> Array:
    config = embeddings.config
    start = fixed_positions(config.grid, config.architecture.num_prefix_tokens)
    return jax.lax.stop_gradient(embeddings.positions(start))


#: The positions that embeddings add to their tokens.
POSITIONS: dict[str | None, Callable[[FlaxViTEmbeddings], Array | None]] = {
    None: lambda embeddings: None,
    "learned": lambda embeddings: embeddings.positions(normal(embeddings.config.initializer_range)),
    "sincos": _fixed,
}


def grid_of(config: PretrainedConfig, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of patches in an image."""
    patch_height, patch_width = config.patch_shape
    return height // patch_height, width // patch_width


def interpolates(config: PretrainedConfig, pixel_values: Array, interpolate_pos_encoding: bool) -> bool:
    """Whether positions are resampled: where it is asked for, or unasked for images of another size.

    Args:
        config: the model's.
        pixel_values: (batch, height, width, channels).
        interpolate_pos_encoding: whether it is asked for.
    """
    is_other = config.architecture.resamples_unasked and tuple(pixel_values.shape[1:3]) != config.image_shape
    return bool(interpolate_pos_encoding or is_other)


class FlaxViTEncoder(LayerStack):
    """The transformer layers: one after the other, or one compiled layer with the parameters of all in stacks."""

    def setup(self) -> None:
        if self.config.architecture.relative_positions == "shared":
            self.relative_position_bias = RelativePositionBias(**self.shared)
        self.layer: Any = self.stack(self.config)

    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        *,
        head_mask: Shaped[Array, "layers heads"] | None = None,
        prefix_only: bool = False,
        grid: tuple[int, int] | None = None,
    ) -> FlaxBaseModelOutput | tuple[Any, ...]:
        """Run the layers; see `LayerStack.run`.

        Args:
            hidden_states: the embedded tokens.
            deterministic: whether dropout and drop path are off.
            output_attentions: whether to return attention maps.
            output_hidden_states: whether to return hidden states.
            return_dict: whether to return an output object rather than a tuple.
            head_mask: factors for the heads of each layer.
            prefix_only: see `LayerStack.run`.
            grid: rows and columns of patches, where relative positions are resampled.
        """
        output = self.run(
            self.layer,
            hidden_states,
            deterministic,
            output_attentions,
            output_hidden_states,
            head_mask=head_mask,
            prefix_only=prefix_only,
            **RELATIVE[self.config.architecture.relative_positions](self, grid),
        )
        return output if return_dict else output.to_tuple()


#: What the layers of an encoder are handed by name to place tokens relative to each other.
RELATIVE: dict[RelativePositions | None, Callable[[Any, tuple[int, int] | None], dict[str, Any]]] = {
    None: lambda encoder, grid: {},
    "layers": lambda encoder, grid: {"grid": grid},
    "shared": lambda encoder, grid: {"relative_position_bias": encoder.relative_position_bias(grid)},
}


class FlaxViTPooler(Part):
    """A summary of the image from the class token."""

    def setup(self) -> None:
        self.dense = self.linear(self.config.pooler_size, ("hidden", "pooled"))
        self.activation = activation(self.config.pooler_act)

    def __call__(self, hidden_states: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch pooled"]:
        return self.activation(self.dense(hidden_states[:, 0]))


class MeanNormPooler(Part):
    """A summary of the image: the mean of the patches, normed."""

    def setup(self) -> None:
        self.layernorm = self.layer_norm()

    def __call__(self, hidden_states: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch hidden"]:
        return self.layernorm(hidden_states[:, self.config.architecture.num_prefix_tokens :].mean(1))


class ClassTokenPooler(Part):
    """A summary of the image: the class token as it is."""

    def __call__(self, hidden_states: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch hidden"]:
        return hidden_states[:, 0]


POOLERS: dict[Pooler, type[Part]] = {
    "dense": FlaxViTPooler,
    "mean-norm": MeanNormPooler,
    "class-token": ClassTokenPooler,
}

#: What a classifier reads of a base model's output, which has so many tokens before the patches.
SUMMARIES: dict[Summary, Callable[[Any, int], Array]] = {
    "class-token": lambda outputs, num_prefix_tokens: outputs.last_hidden_state[:, 0],
    "pooler": lambda outputs, num_prefix_tokens: outputs.pooler_output,
    "mean": lambda outputs, num_prefix_tokens: outputs.last_hidden_state[:, num_prefix_tokens:].mean(1),
}


class FlaxViTDecoder(Part):
    """Turns each token into the pixels of its patch."""

    @nn.compact  # its layer is called by a number, as an item of torch.nn.Sequential is
    def __call__(self, grid: Float[Array, "batch rows columns hidden"]) -> Float[Array, "batch rows columns pixels"]:
        pixels = self.config.encoder_stride**2 * self.config.num_channels
        return PatchConvolution(**self.shared, features=pixels, axes=("hidden", "pixels"), name="0")(grid)


def pixel_shuffle(
    grid: Float[Array, "batch rows columns pixels"], factor: int
) -> Float[Array, "batch channels height width"]:
    """Lay the channels of each place out as a patch of pixels, as torch.nn.PixelShuffle does (Shi et al. 2016,
    https://arxiv.org/abs/1609.05158).
    """
    batch, rows, columns, pixels = grid.shape
    channels = pixels // factor**2
    patches = grid.reshape(batch, rows, columns, channels, factor, factor).transpose(0, 3, 1, 4, 2, 5)
    return patches.reshape(batch, channels, rows * factor, columns * factor)


class FlaxVisionTransformerModule(Part):
    """A Vision Transformer without a head.

    Attributes:
        add_pooling_layer: whether to add the pooler; as its architecture has it unless given.
        use_mask_token: whether to have a mask token, which `bool_masked_pos` needs, where its architecture leaves that
            open.
        scan_layers: whether the layers are one compiled layer, with the parameters of all in stacks.
        remat: what the layers keep for the backward pass; see `vit_flax.rematerialization.rematerialized`.
    """

    add_pooling_layer: bool | None = None
    _: KW_ONLY
    use_mask_token: bool = False
    scan_layers: bool = False
    remat: Remat = False

    def setup(self) -> None:
        architecture = self.config.architecture
        self.embeddings = FlaxViTEmbeddings(**self.shared, use_mask_token=self.use_mask_token)
        self.encoder = FlaxViTEncoder(**self.shared, scan_layers=self.scan_layers, remat=self.remat)
        self.layernorm = self.layer_norm() if architecture.final_norm else as_it_is
        has_pooler = architecture.has_pooler if self.add_pooling_layer is None else self.add_pooling_layer
        self.pooler = POOLERS[architecture.pooler](**self.shared) if has_pooler and architecture.pooler else None

    def __call__(
        self,
        pixel_values: Float[Array, "batch height width channels"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        *,
        interpolate_pos_encoding: bool = False,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
        prefix_only: bool = False,
    ) -> FlaxBaseModelOutputWithPooling | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerModel.__call__`, but the channels of images come last here.

        With `prefix_only` the last layer computes the tokens before the patches alone, which are all that some poolers
        and classifiers see; `last_hidden_state` is (batch, prefix tokens, hidden) then. Scanned layers compute all
        tokens.
        """
        self._require_rng(deterministic)
        hidden_states = self.embeddings(
            pixel_values,
            deterministic=deterministic,
            **given(bool_masked_pos=bool_masked_pos, interpolate_pos_encoding=interpolate_pos_encoding),
        )
        encoded = self._encoded(
            hidden_states,
            deterministic,
            output_attentions,
            output_hidden_states,
            head_mask=head_mask,
            prefix_only=prefix_only,
            grid=self._resampled_grid(pixel_values, interpolate_pos_encoding),
        )
        last_hidden_state = self.layernorm(encoded[0])
        output = FlaxBaseModelOutputWithPooling(
            last_hidden_state=last_hidden_state,
            pooler_output=None if self.pooler is None else self.pooler(last_hidden_state),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return output if return_dict else output.to_tuple()

    def _encoded(
        self,
        hidden_states: Array,
        deterministic: bool,
        output_attentions: bool,
        output_hidden_states: bool,
        head_mask: Array | None = None,
        **options: Any,
    ) -> Any:
        """What the encoder makes of embedded tokens."""
        return self.encoder(
            self.constrain(hidden_states, "batch", "tokens", "hidden"),
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            **given(head_mask=self._per_layer(head_mask), **options),
        )

    def _resampled_grid(self, pixel_values: Array, interpolate_pos_encoding: bool) -> tuple[int, int] | None:
        """The grid for which an encoder with relative positions has to resample them, if it has to."""
        has_relative = self.config.architecture.relative_positions is not None
        if has_relative and interpolates(self.config, pixel_values, interpolate_pos_encoding):
            return grid_of(self.config, *pixel_values.shape[1:3])
        return None

    def _per_layer(self, head_mask: Array | None) -> Array | None:
        """A head mask for each layer, (layers, heads)."""
        if head_mask is None:
            return None
        check_head_mask(head_mask, self.config)
        return jnp.broadcast_to(head_mask, (self.config.num_hidden_layers, self.config.num_attention_heads))

    def _require_rng(self, deterministic: bool) -> None:
        config = self.config
        drop_path_rate = config.architecture.drop_path_rates(config.num_hidden_layers)[-1:]  # of the last layer
        drops = config.hidden_dropout_prob or config.attention_probs_dropout_prob or any(drop_path_rate)
        if drops and not deterministic and not self.has_rng("dropout"):
            raise ValueError(
                "dropout acts in training and needs random numbers; pass dropout_rng=jax.random.key(...), another one "
                "in each step (to a module: rngs={'dropout': ...})."
            )


def as_it_is(hidden_states: Array) -> Array:
    """What stands for the last LayerNorm of a model without one."""
    return hidden_states


class VisionTransformerWithHead(Part):
    """What models with a head share: the base model, under the name that its family has for it.

    Attributes:
        scan_layers: see `FlaxVisionTransformerModule`.
        remat: see `FlaxVisionTransformerModule`.
    """

    base_module_class: ClassVar[type[Part]] = FlaxVisionTransformerModule

    _: KW_ONLY
    scan_layers: bool = False
    remat: Remat = False

    @nn.nowrap
    def add_base_model(self, **options: Any) -> None:
        """Make the base model; the options are its fields."""
        base_model: Any = self.base_module_class
        options |= {"scan_layers": self.scan_layers, "remat": self.remat}
        setattr(self, self.config.base_model_prefix, base_model(**self.shared, **options))

    @property
    def base_model(self) -> Any:
        """The model without its head."""
        return getattr(self, self.config.base_model_prefix)

    @nn.nowrap
    def sees_prefix_only(self, output_attentions: bool, output_hidden_states: bool) -> bool:
        """Whether nobody sees the patches after the last layer.

        What modules return on the way may be captured, and a base model of a script's own knows nothing of it.
        """
        is_seen = output_attentions or output_hidden_states or self.is_mutable_collection("intermediates")
        return type(self.base_model) is FlaxVisionTransformerModule and not is_seen

    @nn.nowrap
    def patches_of(self, outputs: Any, grid: tuple[int, int]) -> Float[Array, "batch patches hidden"]:
        """The tokens that stand for the patches in masked image modeling."""
        first = self.config.architecture.first_masked
        return outputs.last_hidden_state[:, first : first + grid[0] * grid[1]]


class FlaxVisionTransformerForMaskedImageModelingModule(VisionTransformerWithHead):
    """A Vision Transformer with a decoder that reconstructs masked patches (SimMIM, https://arxiv.org/abs/2111.09886).

    Its fields are those of `VisionTransformerWithHead`.
    """

    def setup(self) -> None:
        self.add_base_model(add_pooling_layer=False, use_mask_token=True)
        self.decoder = FlaxViTDecoder(**self.shared)

    def __call__(
        self,
        pixel_values: Float[Array, "batch height width channels"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
        *,
        interpolate_pos_encoding: bool = False,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
    ) -> FlaxMaskedImageModelingOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerForMaskedImageModeling.__call__`, but with channels last."""
        config, stride = self.config, self.config.encoder_stride
        if bool_masked_pos is not None and config.patch_shape != (stride, stride):
            raise ValueError(
                f"patch_size is {config.patch_size} and encoder_stride {stride}; with bool_masked_pos they must be "
                f"equal, so that the reconstruction has the image's size."
            )
        outputs: Any = self.base_model(
            pixel_values,
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **given(
                interpolate_pos_encoding=interpolate_pos_encoding, head_mask=head_mask, bool_masked_pos=bool_masked_pos
            ),
        )
        rows, columns = grid_of(config, *pixel_values.shape[1:3])
        patches = self.patches_of(outputs, (rows, columns))
        tokens = patches.reshape(pixel_values.shape[0], rows, columns, config.hidden_size)
        reconstruction = pixel_shuffle(self.decoder(tokens), stride)
        loss = None
        if bool_masked_pos is not None:
            loss = masked_reconstruction_loss(pixel_values, reconstruction, bool_masked_pos, config.patch_shape)
        output = FlaxMaskedImageModelingOutput(loss, reconstruction, outputs.hidden_states, outputs.attentions)
        return self.returned(output, return_dict)


class FlaxVisionTransformerForMaskedTokenModelingModule(VisionTransformerWithHead):
    """A Vision Transformer that predicts visual tokens of masked patches (BEiT, https://arxiv.org/abs/2106.08254).

    Its fields are those of `VisionTransformerWithHead`.
    """

    def setup(self) -> None:
        self.add_base_model(add_pooling_layer=False, use_mask_token=True)
        self.layernorm = self.layer_norm()
        self.lm_head = self.linear(self.config.vocab_size, ("hidden", "vocabulary"))

    def __call__(
        self,
        pixel_values: Float[Array, "batch height width channels"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
        *,
        interpolate_pos_encoding: bool = False,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
        labels: Shaped[Array, " masked"] | None = None,
    ) -> FlaxMaskedLMOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerForMaskedTokenModeling.__call__`, but with channels last."""
        if labels is not None and bool_masked_pos is None:
            raise ValueError("labels are the visual tokens of masked patches; pass bool_masked_pos with them.")
        outputs: Any = self.base_model(
            pixel_values,
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **given(
                interpolate_pos_encoding=interpolate_pos_encoding, head_mask=head_mask, bool_masked_pos=bool_masked_pos
            ),
        )
        patches = self.patches_of(outputs, grid_of(self.config, *pixel_values.shape[1:3]))
        logits = self.lm_head(self.layernorm(patches))
        loss = None
        if labels is not None:
            loss = masked_token_loss(logits, jnp.asarray(labels), jnp.asarray(bool_masked_pos))
        return self.returned(FlaxMaskedLMOutput(loss, logits, outputs.hidden_states, outputs.attentions), return_dict)


class FlaxVisionTransformerForImageClassificationModule(VisionTransformerWithHead):
    """A Vision Transformer with a linear classifier on the summary of the image that its architecture names.

    Its fields are those of `VisionTransformerWithHead`.
    """

    def setup(self) -> None:
        config, architecture = self.config, self.config.architecture
        self.add_base_model(add_pooling_layer=architecture.classifier_reads == "pooler")
        self.summary = SUMMARIES[architecture.classifier_reads]
        reads_dense = architecture.classifier_reads == "pooler" and architecture.pooler == "dense"
        self.summary_axis = "pooled" if reads_dense else "hidden"
        if config.num_labels:  # without labels its input is passed on
            self.classifier = self.linear(config.num_labels, (self.summary_axis, "labels"))

    def __call__(
        self,
        pixel_values: Float[Array, "batch height width channels"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
        *,
        interpolate_pos_encoding: bool = False,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
        labels: Shaped[Array, "*shape"] | None = None,
    ) -> FlaxSequenceClassifierOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerForImageClassification.__call__`, but with channels last."""
        config, architecture = self.config, self.config.architecture
        sees_prefix_only = self.sees_prefix_only(output_attentions, output_hidden_states)
        outputs: Any = self.base_model(
            pixel_values,
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **given(
                interpolate_pos_encoding=interpolate_pos_encoding,
                head_mask=head_mask,
                prefix_only=architecture.summary_is_prefix and sees_prefix_only,
            ),
        )
        summary = self.summary(outputs, architecture.num_prefix_tokens)
        logits = self.constrain(summary, "batch", self.summary_axis)
        if config.num_labels:
            logits = self.classifier(logits)
        loss = None if labels is None else classification_loss(logits, jnp.asarray(labels), config)
        output = FlaxSequenceClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return self.returned(output, return_dict)


class FlaxVisionTransformerForImageClassificationWithTeacherModule(VisionTransformerWithHead):
    """A Vision Transformer with one classifier on the class token and one on the distillation token.

    Its fields are those of `VisionTransformerWithHead`.
    """

    def setup(self) -> None:
        prefix_tokens = self.config.architecture.prefix_tokens
        if not {"cls_token", "distillation_token"} <= set(prefix_tokens):
            raise ValueError(
                f"prefix_tokens are {prefix_tokens!r}; a model with a teacher needs 'cls_token' and "
                f"'distillation_token'."
            )
        self.places = tuple(prefix_tokens.index(name) for name in ("cls_token", "distillation_token"))
        self.add_base_model(add_pooling_layer=False)
        self.cls_classifier, self.distillation_classifier = self._classifier(), self._classifier()

    def __call__(
        self,
        pixel_values: Float[Array, "batch height width channels"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
        *,
        interpolate_pos_encoding: bool = False,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
    ) -> FlaxDeiTForImageClassificationWithTeacherOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerForImageClassificationWithTeacher.__call__`, with channels last."""
        outputs: Any = self.base_model(
            pixel_values,
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **given(
                interpolate_pos_encoding=interpolate_pos_encoding,
                head_mask=head_mask,
                prefix_only=self.sees_prefix_only(output_attentions, output_hidden_states),
            ),
        )
        class_token, distillation_token = (
            self.constrain(outputs.last_hidden_state[:, place], "batch", "hidden") for place in self.places
        )
        cls_logits = self.cls_classifier(class_token)
        distillation_logits = self.distillation_classifier(distillation_token)
        output = FlaxDeiTForImageClassificationWithTeacherOutput(
            logits=(cls_logits + distillation_logits) / 2,
            cls_logits=cls_logits,
            distillation_logits=distillation_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
        return self.returned(output, return_dict)

    @nn.nowrap
    def _classifier(self) -> Any:
        """A classifier; without labels its input is passed on."""
        count = self.config.num_labels
        return self.linear(count, ("hidden", "labels")) if count else as_it_is


class FlaxVisionTransformerPreTrainedModel(FlaxPreTrainedModel):
    """What the models of a `VisionTransformerConfig` share; see `FlaxPreTrainedModel`."""

    config_class: type[PretrainedConfig] = VisionTransformerConfig
    base_model_prefix = VisionTransformerConfig.base_model_prefix


class FlaxVisionTransformerModel(FlaxVisionTransformerPreTrainedModel):
    """A Vision Transformer without a head; see `FlaxPreTrainedModel` for its arguments."""

    task = "model"
    module_class = FlaxVisionTransformerModule

    def __call__(  # type: ignore[override]  # what the module takes is named here
        self,
        pixel_values: Float[Array, "batch channels height width"],
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
    ) -> FlaxBaseModelOutputWithPooling | tuple[Any, ...]:
        """Run the model.

        Args:
            pixel_values: images, (batch, channels, height, width).
            params: parameters to use instead of the model's, for functions that JAX transforms.
            dropout_rng: a key for dropout, which training with dropout needs.
            train: whether dropout acts.
            output_attentions: whether to return attention maps; the config's setting unless given.
            output_hidden_states: whether to return every layer's hidden states; likewise.
            return_dict: whether to return an output object rather than a tuple; likewise.
            interpolate_pos_encoding: whether to resample positions, so that images may have any size. Models whose
                architecture `resamples_unasked` do so anyway where the size is another.
            head_mask: (heads,) or (layers, heads), factors for attention heads: 1 keeps a head, 0 silences it. Heads
                count as before pruning.
            bool_masked_pos: (batch, patches), true or 1 where the mask token replaces the patch.

        Raises:
            TypeError: images or parameters are no arrays.
            ValueError: a shape does not fit the model, or the mesh; or `dropout_rng` is missing.
        """
        return super().__call__(
            pixel_values,
            params,
            dropout_rng,
            train,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            interpolate_pos_encoding=interpolate_pos_encoding,
            head_mask=head_mask,
            bool_masked_pos=bool_masked_pos,
        )


class FlaxVisionTransformerForMaskedImageModeling(FlaxVisionTransformerPreTrainedModel):
    """A Vision Transformer with a decoder that reconstructs masked patches (SimMIM, https://arxiv.org/abs/2111.09886).

    See `FlaxPreTrainedModel` for its arguments. A patch is `encoder_stride` pixels high and wide.
    """

    task = "masked-image-modeling"
    module_class = FlaxVisionTransformerForMaskedImageModelingModule

    def __call__(  # type: ignore[override]  # what the module takes is named here
        self,
        pixel_values: Float[Array, "batch channels height width"],
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
    ) -> FlaxMaskedImageModelingOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerModel.__call__`. With `bool_masked_pos` the output has a loss.

        Raises:
            TypeError: images or parameters are no arrays.
            ValueError: a shape does not fit the model, or the mesh; `dropout_rng` is missing; or there is a mask and
                patches are not `encoder_stride` pixels high and wide.
        """
        return super().__call__(
            pixel_values,
            params,
            dropout_rng,
            train,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            interpolate_pos_encoding=interpolate_pos_encoding,
            head_mask=head_mask,
            bool_masked_pos=bool_masked_pos,
        )


class FlaxVisionTransformerForImageClassification(FlaxVisionTransformerPreTrainedModel):
    """A Vision Transformer with a linear classifier on the summary of the image that its architecture names.

    See `FlaxPreTrainedModel` for its arguments. It has `config.num_labels` classes; with 0 what the classifier would
    read stands for logits.
    """

    task = "image-classification"
    module_class = FlaxVisionTransformerForImageClassificationModule

    def __call__(  # type: ignore[override]  # what the module takes is named here
        self,
        pixel_values: Float[Array, "batch channels height width"],
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
        labels: Shaped[Array, "*shape"] | None = None,
    ) -> FlaxSequenceClassifierOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerModel.__call__`.

        Args:
            pixel_values: see `FlaxVisionTransformerModel.__call__`.
            params: see `FlaxVisionTransformerModel.__call__`.
            dropout_rng: see `FlaxVisionTransformerModel.__call__`.
            train: see `FlaxVisionTransformerModel.__call__`.
            output_attentions: see `FlaxVisionTransformerModel.__call__`.
            output_hidden_states: see `FlaxVisionTransformerModel.__call__`.
            return_dict: see `FlaxVisionTransformerModel.__call__`.
            interpolate_pos_encoding: see `FlaxVisionTransformerModel.__call__`.
            head_mask: see `FlaxVisionTransformerModel.__call__`.
            labels: what `vit_flax.losses.classification_loss` takes; with them the output has a loss.

        Raises:
            TypeError: images or parameters are no arrays.
            ValueError: a shape does not fit the model, or the mesh; `dropout_rng` is missing; or a label is out of
                range, which under jit makes the loss NaN instead.
        """
        return super().__call__(
            pixel_values,
            params,
            dropout_rng,
            train,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            interpolate_pos_encoding=interpolate_pos_encoding,
            head_mask=head_mask,
            labels=labels,
        )


class FlaxVisionTransformerForImageClassificationWithTeacher(FlaxVisionTransformerPreTrainedModel):
    """A Vision Transformer with one classifier on the class token and one on the distillation token.

    The first learns from labels and the second from a teacher (Touvron et al. 2020, https://arxiv.org/abs/2012.12877,
    section 4), with `vit_flax.distillation.distillation_loss`; the answer is the mean of both. See
    `FlaxPreTrainedModel` for its arguments; its architecture has both tokens.
    """

    task = "image-classification-with-teacher"
    module_class = FlaxVisionTransformerForImageClassificationWithTeacherModule

    def __call__(  # type: ignore[override]  # what the module takes is named here
        self,
        pixel_values: Float[Array, "batch channels height width"],
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
    ) -> FlaxDeiTForImageClassificationWithTeacherOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerModel.__call__`.

        Raises:
            TypeError: images or parameters are no arrays.
            ValueError: a shape does not fit the model, or the mesh; or `dropout_rng` is missing.
        """
        return super().__call__(
            pixel_values,
            params,
            dropout_rng,
            train,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            interpolate_pos_encoding=interpolate_pos_encoding,
            head_mask=head_mask,
        )


class FlaxVisionTransformerForMaskedTokenModeling(FlaxVisionTransformerPreTrainedModel):
    """A Vision Transformer that predicts visual tokens of masked patches (BEiT, https://arxiv.org/abs/2106.08254).

    See `FlaxPreTrainedModel` for its arguments. There are `config.vocab_size` visual tokens.
    """

    task = "masked-token-modeling"
    module_class = FlaxVisionTransformerForMaskedTokenModelingModule

    def __call__(  # type: ignore[override]  # what the module takes is named here
        self,
        pixel_values: Float[Array, "batch channels height width"],
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        head_mask: Shaped[Array, "*layers heads"] | None = None,
        labels: Shaped[Array, " masked"] | None = None,
    ) -> FlaxMaskedLMOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerModel.__call__`.

        Args:
            pixel_values: see `FlaxVisionTransformerModel.__call__`.
            bool_masked_pos: (batch, patches), true or 1 where the mask token replaces the patch.
            params: see `FlaxVisionTransformerModel.__call__`.
            dropout_rng: see `FlaxVisionTransformerModel.__call__`.
            train: see `FlaxVisionTransformerModel.__call__`.
            output_attentions: see `FlaxVisionTransformerModel.__call__`.
            output_hidden_states: see `FlaxVisionTransformerModel.__call__`.
            return_dict: see `FlaxVisionTransformerModel.__call__`.
            interpolate_pos_encoding: see `FlaxVisionTransformerModel.__call__`.
            head_mask: see `FlaxVisionTransformerModel.__call__`.
            labels: the visual tokens of the masked patches of all images, one after the other; see
                `vit_flax.losses.masked_token_loss`. With them the output has a loss.

        Raises:
            TypeError: images or parameters are no arrays.
            ValueError: a shape does not fit the model, or the mesh; `dropout_rng` is missing; or labels are given
                without a mask or do not fit it, which under jit makes the loss NaN instead.
        """
        return super().__call__(
            pixel_values,
            params,
            dropout_rng,
            train,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            interpolate_pos_encoding=interpolate_pos_encoding,
            head_mask=head_mask,
            bool_masked_pos=bool_masked_pos,
            labels=labels,
        )


def __getattr__(name: str) -> Any:
    """The models of ViT, which scripts import from here too; they are in `vit_flax.relatives`."""
    if name.removeprefix("Flax").startswith(("ViTModel", "ViTModule", "ViTFor")):
        from vit_flax import relatives

        return getattr(relatives, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
