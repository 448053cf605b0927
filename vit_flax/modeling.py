"""Vision Transformer in Flax, from top to bottom as the image travels.

Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", https://arxiv.org/abs/2010.11929. Modules are nested and named
as transformers' Flax checkpoints name their parameters, which `vit_core.layouts` derives from the canonical names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Shaped

from vit_core.checks import check_head_mask
from vit_flax.activations import activation
from vit_flax.attention import attention, attention_with_probabilities
from vit_flax.checks import CHANNELS_LAST, check_bool_masked_pos, check_pixel_values
from vit_flax.initialization import normal
from vit_flax.layers import Part, PatchConvolution, given
from vit_flax.losses import classification_loss, masked_reconstruction_loss
from vit_flax.outputs import (
    FlaxBaseModelOutput,
    FlaxBaseModelOutputWithPooling,
    FlaxMaskedImageModelingOutput,
    FlaxSequenceClassifierOutput,
)
from vit_flax.position import resample_grid
from vit_flax.pretrained import FlaxViTPreTrainedModel
from vit_flax.rematerialization import Remat, rematerialized


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
    """Turns an image into tokens: the class token, then the patches, each with its position added."""

    _: KW_ONLY
    use_mask_token: bool = False

    def setup(self) -> None:
        config, hidden, token_axes = self.config, self.config.hidden_size, (None, None, "hidden")
        self.cls_token = self.parameter("cls_token", (1, 1, hidden), token_axes, normal(config.initializer_range))
        if self.use_mask_token:
            self.mask_token = self.parameter("mask_token", (1, 1, hidden), token_axes, nn.initializers.zeros)
        self.patch_embeddings = FlaxViTPatchEmbeddings(**self.shared)
        tokens = 1 + config.grid[0] * config.grid[1]
        self.position_embeddings = self.parameter(
            "position_embeddings", (1, tokens, hidden), token_axes, normal(config.initializer_range)
        )
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
        cls_tokens = jnp.broadcast_to(self.cls_token.astype(self.dtype), (patches.shape[0], 1, self.config.hidden_size))
        tokens = jnp.concatenate([cls_tokens, patches], axis=1)
        positions = self.position_embeddings
        if interpolate_pos_encoding:
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
        cls_position, patches = self.position_embeddings[:, :1], self.position_embeddings[0, 1:]
        patch_height, patch_width = self.config.patch_shape
        grid = (height // patch_height, width // patch_width)
        resampled = resample_grid(patches.reshape(*self.config.grid, -1), grid)
        return jnp.concatenate([cls_position, resampled.reshape(1, grid[0] * grid[1], patches.shape[-1])], axis=1)

    def _mask(self, patches: Array, bool_masked_pos: Array) -> Array:
        if not self.use_mask_token:
            raise ValueError("bool_masked_pos needs a mask token; build the model with use_mask_token=True.")
        check_bool_masked_pos(bool_masked_pos, *patches.shape[:2])
        return jnp.where(bool_masked_pos.astype(bool)[..., None], self.mask_token.astype(self.dtype), patches)


class FlaxViTSelfAttention(Part):
    """Multi-head self-attention (equations 5 to 7 of the paper), up to the output projection.

    Attributes:
        layer: the number of its layer, which tells the heads that are not pruned; all are kept unless given.
    """

    _: KW_ONLY
    layer: int | None = None

    def setup(self) -> None:
        config = self.config
        self.heads = config.kept_heads(self.layer)
        width = len(self.heads) * config.head_dim
        self.query = self.linear(width, ("hidden", "heads"), config.qkv_bias)
        self.key = self.linear(width, ("hidden", "heads"), config.qkv_bias)
        self.value = self.linear(width, ("hidden", "heads"), config.qkv_bias)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
        output_attentions: bool = False,
        *,
        head_mask: Shaped[Array, " heads"] | None = None,
        class_token_only: bool = False,
    ) -> tuple[Float[Array, "batch queries width"], *tuple[Float[Array, "batch heads queries tokens"], ...]]:
        """Return what each token gathered, and on request the attention; for the class token alone if it says so."""
        config, queried = self.config, hidden_states
        if class_token_only:
            queried = self.constrain(hidden_states[:, :1], "batch", "tokens", "hidden")
        query, key, value = (
            self._split(projected)
            for projected in (self.query(queried), self.key(hidden_states), self.value(hidden_states))
        )
        drops = config.attention_probs_dropout_prob > 0 and not deterministic
        if config.attn_implementation == "sdpa" and not (output_attentions or drops) and head_mask is None:
            return (self._joined(attention(query, key, value)),)

        def change(probabilities: Array) -> Array:
            probabilities = self.dropout(probabilities, deterministic)
            if head_mask is None:
                return probabilities
            return probabilities * head_mask[jnp.array(self.heads)].astype(probabilities.dtype)[:, None, None]

        context, probabilities = attention_with_probabilities(query, key, value, change)
        attentions = (probabilities.astype(self.dtype),) if output_attentions else ()
        return (self._joined(context), *attentions)

    def _split(self, projected: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens heads head_dim"]:
        *batch, width = projected.shape
        split = projected.reshape(*batch, width // self.config.head_dim, self.config.head_dim)
        return self.constrain(split, "batch", "tokens", "heads", None)

    def _joined(self, context: Float[Array, "batch tokens heads head_dim"]) -> Float[Array, "batch tokens width"]:
        return context.reshape(*context.shape[:2], context.shape[2] * context.shape[3])


class FlaxViTSelfOutput(Part):
    """The output projection of attention; the residual is added in FlaxViTLayer."""

    def setup(self) -> None:
        self.dense = self.linear(self.config.hidden_size, ("heads", "hidden"))
        self.dropout = nn.Dropout(self.config.hidden_dropout_prob)

    def __call__(
        self,
        hidden_states: Float[Array, "batch queries width"],
        input_tensor: Float[Array, "batch tokens hidden"] | None = None,  # for parts that scripts put here
        deterministic: bool = True,
    ) -> Float[Array, "batch queries hidden"]:
        return self.dropout(self.dense(hidden_states), deterministic)


class FlaxViTAttention(Part):
    """Self-attention with its output projection.

    Attributes:
        layer: see `FlaxViTSelfAttention`.
    """

    _: KW_ONLY
    layer: int | None = None

    def setup(self) -> None:
        self.attention = FlaxViTSelfAttention(**self.shared, layer=self.layer)
        self.output = FlaxViTSelfOutput(**self.shared)

    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
        output_attentions: bool = False,
        *,
        head_mask: Shaped[Array, " heads"] | None = None,
        class_token_only: bool = False,
    ) -> tuple[Float[Array, "batch queries hidden"], *tuple[Float[Array, "batch heads queries tokens"], ...]]:
        """Return the hidden states, and on request the attention."""
        options = given(head_mask=head_mask, class_token_only=class_token_only)
        context, *attentions = self.attention(hidden_states, deterministic, output_attentions, **options)
        return (self.output(context, hidden_states, deterministic=deterministic), *attentions)


class FlaxViTIntermediate(Part):
    """The first half of the MLP."""

    def setup(self) -> None:
        self.dense = self.linear(self.config.intermediate_size, ("hidden", "mlp"))
        self.activation = activation(self.config.hidden_act)

    def __call__(self, hidden_states: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch tokens mlp"]:
        return self.activation(self.constrain(self.dense(hidden_states), "batch", "tokens", "mlp"))


class FlaxViTOutput(Part):
    """The second half of the MLP, with the residual."""

    def setup(self) -> None:
        self.dense = self.linear(self.config.hidden_size, ("mlp", "hidden"))
        self.dropout = nn.Dropout(self.config.hidden_dropout_prob)

    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens mlp"],
        attention_output: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
    ) -> Float[Array, "batch tokens hidden"]:
        return self.dropout(self.dense(hidden_states), deterministic) + attention_output


class FlaxViTLayer(Part):
    """One transformer layer, with LayerNorm before each half (equations 2 and 3).

    Attributes:
        layer: its number; see `FlaxViTSelfAttention`.
    """

    _: KW_ONLY
    layer: int | None = None

    def setup(self) -> None:
        self.attention = FlaxViTAttention(**self.shared, layer=self.layer)
        self.intermediate = FlaxViTIntermediate(**self.shared)
        self.output = FlaxViTOutput(**self.shared)
        self.layernorm_before = self.layer_norm()
        self.layernorm_after = self.layer_norm()

    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
        output_attentions: bool = False,
        *,
        head_mask: Shaped[Array, " heads"] | None = None,
        class_token_only: bool = False,
    ) -> tuple[Float[Array, "batch queries hidden"], *tuple[Float[Array, "batch heads queries tokens"], ...]]:
        """Return the hidden states, and on request the attention; those of the class token alone if it says so."""
        options = given(head_mask=head_mask, class_token_only=class_token_only)
        attended, *attentions = self.attention(
            self.layernorm_before(hidden_states), deterministic, output_attentions, **options
        )
        if class_token_only:
            hidden_states = hidden_states[:, :1]
        hidden_states = self.constrain(attended + hidden_states, "batch", "tokens", "hidden")
        mlp = self.intermediate(self.layernorm_after(hidden_states))
        hidden_states = self.output(mlp, hidden_states, deterministic=deterministic)
        return (self.constrain(hidden_states, "batch", "tokens", "hidden"), *attentions)


class FlaxViTLayerCollection(Part):
    """The transformer layers, one after the other, each by its number."""

    _: KW_ONLY
    remat: Remat = False

    def setup(self) -> None:
        self.layers = [
            FlaxViTLayer(**self.shared, layer=index, name=str(index)) for index in range(self.config.num_hidden_layers)
        ]

    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        *,
        head_mask: Shaped[Array, "layers heads"] | None = None,
        class_token_only: bool = False,
    ) -> FlaxBaseModelOutput | tuple[Any, ...]:
        """Run the layers; see `FlaxViTEncoder`."""
        all_hidden_states, all_attentions = [hidden_states], []
        for index, layer in enumerate(self.layers):
            is_narrow = class_token_only and index == self.config.num_hidden_layers - 1

            def run(layer: Any, x: Array, mask: Array | None, is_narrow: bool = is_narrow) -> tuple[Array, ...]:
                options = given(head_mask=mask, class_token_only=is_narrow)
                return layer(x, deterministic, output_attentions, **options)

            run = rematerialized(run, self.remat, is_scanned=False)
            hidden_states, *attentions = run(layer, hidden_states, None if head_mask is None else head_mask[index])
            all_hidden_states.append(hidden_states)
            all_attentions.extend(attentions)
        output = FlaxBaseModelOutput(
            last_hidden_state=hidden_states,
            hidden_states=tuple(all_hidden_states) if output_hidden_states else None,
            attentions=tuple(all_attentions) or None,
        )
        return output if return_dict else output.to_tuple()


class FlaxViTEncoder(Part):
    """The transformer layers: one after the other, or one compiled layer with the parameters of all in stacks.

    Attributes:
        scan_layers: whether they are one compiled layer.
        remat: what the layers keep for the backward pass; see `vit_flax.rematerialization.rematerialized`.
    """

    _: KW_ONLY
    scan_layers: bool = False
    remat: Remat = False

    def setup(self) -> None:
        self.layer: Any = (
            FlaxViTLayer(**self.shared) if self._is_scanned else FlaxViTLayerCollection(**self.shared, remat=self.remat)
        )

    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        *,
        head_mask: Shaped[Array, "layers heads"] | None = None,
        class_token_only: bool = False,
    ) -> FlaxBaseModelOutput | tuple[Any, ...]:
        """Run the layers; on request with the hidden states before each and after the last, and the attention.

        With `class_token_only` the last layer computes the class token alone, unless layers are scanned.
        """
        if not self._is_scanned:
            options = given(head_mask=head_mask, class_token_only=class_token_only)
            return self.layer(
                hidden_states, deterministic, output_attentions, output_hidden_states, return_dict, **options
            )

        def run(layer: FlaxViTLayer, x: Array, mask: Array | None) -> tuple[Array, tuple[Array | None, list[Array]]]:
            x, *attentions = layer(x, deterministic, output_attentions, head_mask=mask)
            return x, (x if output_hidden_states else None, attentions)

        embeddings, count = hidden_states, self.config.num_hidden_layers
        scan = nn.scan(
            rematerialized(run, self.remat, is_scanned=True),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=count,
            metadata_params={nn.PARTITION_NAME: None},  # on a mesh, stacks are not split between layers
        )
        hidden_states, (all_hidden_states, all_attentions) = scan(self.layer, hidden_states, head_mask)
        output = FlaxBaseModelOutput(
            last_hidden_state=hidden_states,
            hidden_states=(embeddings, *all_hidden_states) if output_hidden_states else None,
            attentions=tuple(all_attentions[0]) if output_attentions else None,
        )
        return output if return_dict else output.to_tuple()

    @property
    def _is_scanned(self) -> bool:
        return self.scan_layers and self.config.num_hidden_layers > 0


class FlaxViTPooler(Part):
    """A summary of the image from the class token."""

    def setup(self) -> None:
        self.dense = self.linear(self.config.pooler_size, ("hidden", "pooled"))
        self.activation = activation(self.config.pooler_act)

    def __call__(self, hidden_states: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch pooled"]:
        return self.activation(self.dense(hidden_states[:, 0]))


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


class FlaxViTModule(Part):
    """The Vision Transformer without a head.

    Attributes:
        add_pooling_layer: whether to add the pooler.
        use_mask_token: whether to have a mask token, which `bool_masked_pos` needs.
        scan_layers: whether the layers are one compiled layer, with the parameters of all in stacks.
        remat: what the layers keep for the backward pass; see `vit_flax.rematerialization.rematerialized`.
    """

    add_pooling_layer: bool = True
    _: KW_ONLY
    use_mask_token: bool = False
    scan_layers: bool = False
    remat: Remat = False

    def setup(self) -> None:
        self.embeddings = FlaxViTEmbeddings(**self.shared, use_mask_token=self.use_mask_token)
        self.encoder = FlaxViTEncoder(**self.shared, scan_layers=self.scan_layers, remat=self.remat)
        self.layernorm = self.layer_norm()
        self.pooler = FlaxViTPooler(**self.shared) if self.add_pooling_layer else None

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
        class_token_only: bool = False,
    ) -> FlaxBaseModelOutputWithPooling | tuple[Any, ...]:
        """Run the model; see `FlaxViTModel.__call__`, but the channels of images come last here.

        With `class_token_only` the last layer computes the class token alone, which is all that the pooler and a
        classifier see; `last_hidden_state` is (batch, 1, hidden) then. Scanned layers compute all tokens.
        """
        self._require_rng(deterministic)
        hidden_states = self.embeddings(
            pixel_values,
            deterministic=deterministic,
            **given(bool_masked_pos=bool_masked_pos, interpolate_pos_encoding=interpolate_pos_encoding),
        )
        hidden_states = self.constrain(hidden_states, "batch", "tokens", "hidden")
        encoded: Any = self.encoder(
            hidden_states,
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            **given(head_mask=self._per_layer(head_mask), class_token_only=class_token_only),
        )
        last_hidden_state = self.layernorm(encoded[0])
        output = FlaxBaseModelOutputWithPooling(
            last_hidden_state=last_hidden_state,
            pooler_output=None if self.pooler is None else self.pooler(last_hidden_state),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return output if return_dict else output.to_tuple()

    def _per_layer(self, head_mask: Array | None) -> Array | None:
        """A head mask for each layer, (layers, heads)."""
        if head_mask is None:
            return None
        check_head_mask(head_mask, self.config)
        return jnp.broadcast_to(head_mask, (self.config.num_hidden_layers, self.config.num_attention_heads))

    def _require_rng(self, deterministic: bool) -> None:
        drops = self.config.hidden_dropout_prob or self.config.attention_probs_dropout_prob
        if drops and not deterministic and not self.has_rng("dropout"):
            raise ValueError(
                "dropout acts in training and needs random numbers; pass dropout_rng=jax.random.key(...), another one "
                "in each step (to a module: rngs={'dropout': ...})."
            )


class FlaxViTForMaskedImageModelingModule(Part):
    """The Vision Transformer with a decoder that reconstructs masked patches (SimMIM, https://arxiv.org/abs/2111.09886).

    Attributes:
        scan_layers: see `FlaxViTModule`.
        remat: see `FlaxViTModule`.
    """

    _: KW_ONLY
    scan_layers: bool = False
    remat: Remat = False

    def setup(self) -> None:
        self.vit = FlaxViTModule(
            **self.shared,
            add_pooling_layer=False,
            use_mask_token=True,
            scan_layers=self.scan_layers,
            remat=self.remat,
        )
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
        """Run the model; see `FlaxViTForMaskedImageModeling.__call__`, but the channels of images come last here."""
        config, stride = self.config, self.config.encoder_stride
        if bool_masked_pos is not None and config.patch_shape != (stride, stride):
            raise ValueError(
                f"patch_size is {config.patch_size} and encoder_stride {stride}; with bool_masked_pos they must be "
                f"equal, so that the reconstruction has the image's size."
            )
        outputs: Any = self.vit(
            pixel_values,
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **given(
                interpolate_pos_encoding=interpolate_pos_encoding, head_mask=head_mask, bool_masked_pos=bool_masked_pos
            ),
        )
        rows, columns = (size // patch for size, patch in zip(pixel_values.shape[1:3], config.patch_shape, strict=True))
        grid = outputs.last_hidden_state[:, 1:].reshape(pixel_values.shape[0], rows, columns, config.hidden_size)
        reconstruction = pixel_shuffle(self.decoder(grid), stride)
        loss = None
        if bool_masked_pos is not None:
            loss = masked_reconstruction_loss(pixel_values, reconstruction, bool_masked_pos, config.patch_shape)
        output = FlaxMaskedImageModelingOutput(loss, reconstruction, outputs.hidden_states, outputs.attentions)
        return self.returned(output, return_dict)


class FlaxViTForImageClassificationModule(Part):
    """The Vision Transformer with a linear classifier on the class token or on the pooler's output.

    Attributes:
        scan_layers: see `FlaxViTModule`.
        remat: see `FlaxViTModule`.
    """

    _: KW_ONLY
    scan_layers: bool = False
    remat: Remat = False

    def setup(self) -> None:
        config = self.config
        self.vit = FlaxViTModule(
            **self.shared,
            add_pooling_layer=config.classifier_uses_pooler,
            scan_layers=self.scan_layers,
            remat=self.remat,
        )
        if config.num_labels:  # without labels its input is passed on
            self.classifier = self.linear(config.num_labels, (self._summary_axis, "labels"))

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
        """Run the model; see `FlaxViTForImageClassification.__call__`, but the channels of images come last here."""
        config = self.config
        # Nobody sees the other tokens, unless what modules return on the way is captured.
        is_seen = output_attentions or output_hidden_states or self.is_mutable_collection("intermediates")
        class_token_only = type(self.vit) is FlaxViTModule and not is_seen
        outputs: Any = self.vit(
            pixel_values,
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **given(
                interpolate_pos_encoding=interpolate_pos_encoding,
                head_mask=head_mask,
                class_token_only=class_token_only,
            ),
        )
        summary = outputs.pooler_output if config.classifier_uses_pooler else outputs.last_hidden_state[:, 0]
        logits = self.constrain(summary, "batch", self._summary_axis)
        if config.num_labels:
            logits = self.classifier(logits)
        loss = None if labels is None else classification_loss(logits, jnp.asarray(labels), config)
        output = FlaxSequenceClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return self.returned(output, return_dict)

    @property
    def _summary_axis(self) -> str:
        """The name of the last axis of what the classifier reads."""
        return "pooled" if self.config.classifier_uses_pooler else "hidden"


class FlaxViTModel(FlaxViTPreTrainedModel):
    """The Vision Transformer without a head; see `FlaxViTPreTrainedModel` for its arguments."""

    task = "model"
    module_class = FlaxViTModule

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
            interpolate_pos_encoding: whether to resample the position embeddings, so that images may have any size.
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


class FlaxViTForMaskedImageModeling(FlaxViTPreTrainedModel):
    """The Vision Transformer with a decoder that reconstructs masked patches (SimMIM, https://arxiv.org/abs/2111.09886).

    See `FlaxViTPreTrainedModel` for its arguments. A patch is `encoder_stride` pixels high and wide.
    """

    task = "masked-image-modeling"
    module_class = FlaxViTForMaskedImageModelingModule

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
        """Run the model; see `FlaxViTModel.__call__`. With `bool_masked_pos` the output has a loss.

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


class FlaxViTForImageClassification(FlaxViTPreTrainedModel):
    """The Vision Transformer with a linear classifier on the class token or on the pooler's output.

    See `FlaxViTPreTrainedModel` for its arguments. It has `config.num_labels` classes; with 0 what the classifier would
    read stands for logits. With `config.classifier_uses_pooler` that is the pooler's output.
    """

    task = "image-classification"
    module_class = FlaxViTForImageClassificationModule

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
        """Run the model; see `FlaxViTModel.__call__`.

        Args:
            pixel_values: see `FlaxViTModel.__call__`.
            params: see `FlaxViTModel.__call__`.
            dropout_rng: see `FlaxViTModel.__call__`.
            train: see `FlaxViTModel.__call__`.
            output_attentions: see `FlaxViTModel.__call__`.
            output_hidden_states: see `FlaxViTModel.__call__`.
            return_dict: see `FlaxViTModel.__call__`.
            interpolate_pos_encoding: see `FlaxViTModel.__call__`.
            head_mask: see `FlaxViTModel.__call__`.
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


ViTModel = FlaxViTModel
ViTForMaskedImageModeling = FlaxViTForMaskedImageModeling
ViTForImageClassification = FlaxViTForImageClassification
