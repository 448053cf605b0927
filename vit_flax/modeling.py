"""Vision Transformer in Flax, from top to bottom as the image travels.

Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", https://arxiv.org/abs/2010.11929. Modules are nested and named
as transformers' Flax checkpoints name their parameters, which `vit_core.layouts` derives from the canonical names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Shaped

from vit_core.checks import check_head_mask
from vit_flax.attention import attention, attention_with_probabilities
from vit_flax.checks import CHANNELS_LAST, check_bool_masked_pos, check_pixel_values
from vit_flax.initialization import normal
from vit_flax.layers import Part, PatchConvolution
from vit_flax.losses import classification_loss, masked_reconstruction_loss
from vit_flax.outputs import (
    FlaxBaseModelOutputWithPooling,
    FlaxMaskedImageModelingOutput,
    FlaxSequenceClassifierOutput,
)
from vit_flax.position import resample_grid
from vit_flax.pretrained import FlaxViTPreTrainedModel
from vit_flax.rematerialization import Remat, rematerialized


def gelu(x: Array) -> Array:
    """GELU (Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415), in float32 at least.

    `jax.nn.gelu` computes the same by erfc, which takes twice the time on a CPU.
    """
    exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (0.5 * exact * (1 + jax.lax.erf(exact * 0.5**0.5))).astype(x.dtype)


def quick_gelu(x: Array) -> Array:
    """GELU approximated by a sigmoid (same paper, section 2)."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "silu": jax.nn.silu,
    "quick_gelu": quick_gelu,
    "tanh": jnp.tanh,
}


def activation(name_or_function: str | Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The activation of a config, which names it or holds it."""
    return ACTIVATIONS[name_or_function] if isinstance(name_or_function, str) else name_or_function


class ViTPatchEmbeddings(Part):
    """Cuts an image into patches and projects each to a token."""

    @nn.compact
    def __call__(
        self, pixel_values: Float[Array, "batch height width channels"], interpolate_pos_encoding: bool = False
    ) -> Float[Array, "batch rows columns hidden"]:
        config = self.config
        check_pixel_values(pixel_values, config, CHANNELS_LAST, interpolate_pos_encoding)
        projection = PatchConvolution(
            **self.shared,
            features=config.hidden_size,
            patch_shape=config.patch_shape,
            axes=(None, "hidden"),
            name="projection",
        )
        return projection(pixel_values)


class ViTEmbeddings(Part):
    """Turns an image into tokens: the class token, then the patches, each with its position added."""

    use_mask_token: bool = False

    @nn.compact
    def __call__(
        self,
        pixel_values: Float[Array, "batch height width channels"],
        bool_masked_pos: Shaped[Array, "batch patches"] | None = None,
        deterministic: bool = True,
        interpolate_pos_encoding: bool = False,
    ) -> Float[Array, "batch tokens hidden"]:
        config, hidden, token_axes = self.config, self.config.hidden_size, (None, None, "hidden")
        cls_token = self.parameter("cls_token", (1, 1, hidden), token_axes, normal(config.initializer_range))
        mask_token = None
        if self.use_mask_token:
            mask_token = self.parameter("mask_token", (1, 1, hidden), token_axes, nn.initializers.zeros)
        tokens = 1 + config.grid[0] * config.grid[1]
        positions = self.parameter(
            "position_embeddings", (1, tokens, hidden), token_axes, normal(config.initializer_range)
        )

        patches = ViTPatchEmbeddings(**self.shared, name="patch_embeddings")(pixel_values, interpolate_pos_encoding)
        batch, *grid, _ = patches.shape
        patches = patches.reshape(batch, grid[0] * grid[1], hidden)
        if bool_masked_pos is not None:
            if mask_token is None:
                raise ValueError("bool_masked_pos needs a mask token; build the model with use_mask_token=True.")
            check_bool_masked_pos(bool_masked_pos, *patches.shape[:2])
            is_masked = bool_masked_pos.astype(bool)[..., None]
            patches = jnp.where(is_masked, mask_token.astype(self.dtype), patches)
        cls_tokens = jnp.broadcast_to(cls_token.astype(self.dtype), (batch, 1, hidden))
        hidden_states = jnp.concatenate([cls_tokens, patches], axis=1)
        if interpolate_pos_encoding:
            positions = self.interpolate_pos_encoding(positions, (grid[0], grid[1]))
        hidden_states = hidden_states + positions.astype(self.dtype)
        return nn.Dropout(config.hidden_dropout_prob)(hidden_states, deterministic)

    @nn.nowrap
    def interpolate_pos_encoding(
        self, positions: Float[Array, "1 old_tokens hidden"], grid: tuple[int, int]
    ) -> Float[Array, "1 tokens hidden"]:
        """The position embeddings for another grid of patches, resampled as `vit_core.position` defines it."""
        resampled = resample_grid(positions[0, 1:].reshape(*self.config.grid, -1), grid)
        return jnp.concatenate([positions[:, :1], resampled.reshape(1, -1, positions.shape[-1])], axis=1)


class ViTSelfAttention(Part):
    """Multi-head self-attention (equations 5 to 7 of the paper), up to the output projection."""

    layer: int = 0
    class_token_only: bool = False

    @nn.compact
    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        head_mask: Shaped[Array, " heads"] | None = None,
        deterministic: bool = True,
        output_attentions: bool = False,
    ) -> tuple[Float[Array, "batch queries width"], Float[Array, "batch heads queries tokens"] | None]:
        config, heads = self.config, self.config.kept_heads(self.layer)
        width = len(heads) * config.head_dim
        queried = hidden_states
        if self.class_token_only:
            queried = self.constrain(hidden_states[:, :1], "batch", "tokens", "hidden")
        query, key, value = (
            self._split(self.linear(name, width, ("hidden", "heads"), config.qkv_bias)(tokens))
            for name, tokens in (("query", queried), ("key", hidden_states), ("value", hidden_states))
        )
        dropout = nn.Dropout(config.attention_probs_dropout_prob)
        drops = config.attention_probs_dropout_prob > 0 and not deterministic
        if config.attn_implementation == "sdpa" and not (output_attentions or drops) and head_mask is None:
            context, probabilities = attention(query, key, value), None
        else:

            def change(probabilities: Array) -> Array:
                probabilities = dropout(probabilities, deterministic)
                if head_mask is None:
                    return probabilities
                return probabilities * head_mask[jnp.array(heads)].astype(probabilities.dtype)[:, None, None]

            context, probabilities = attention_with_probabilities(query, key, value, change)
            probabilities = probabilities.astype(self.dtype)
        return context.reshape(*context.shape[:2], width), probabilities if output_attentions else None

    @nn.nowrap
    def _split(self, projected: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens heads head_dim"]:
        *batch, width = projected.shape
        split = projected.reshape(*batch, width // self.config.head_dim, self.config.head_dim)
        return self.constrain(split, "batch", "tokens", "heads", None)


class ViTSelfOutput(Part):
    """The output projection of attention; the residual is added in ViTLayer."""

    @nn.compact
    def __call__(
        self, context: Float[Array, "batch queries width"], deterministic: bool = True
    ) -> Float[Array, "batch queries hidden"]:
        hidden_states = self.linear("dense", self.config.hidden_size, ("heads", "hidden"))(context)
        return nn.Dropout(self.config.hidden_dropout_prob)(hidden_states, deterministic)


class ViTAttention(Part):
    """Self-attention with its output projection."""

    layer: int = 0
    class_token_only: bool = False

    @nn.compact
    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        head_mask: Shaped[Array, " heads"] | None = None,
        deterministic: bool = True,
        output_attentions: bool = False,
    ) -> tuple[Float[Array, "batch queries hidden"], Float[Array, "batch heads queries tokens"] | None]:
        attention = ViTSelfAttention(
            **self.shared, layer=self.layer, class_token_only=self.class_token_only, name="attention"
        )
        context, probabilities = attention(hidden_states, head_mask, deterministic, output_attentions)
        return ViTSelfOutput(**self.shared, name="output")(context, deterministic), probabilities


class ViTIntermediate(Part):
    """The first half of the MLP."""

    @nn.compact
    def __call__(self, hidden_states: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch tokens mlp"]:
        hidden_states = self.linear("dense", self.config.intermediate_size, ("hidden", "mlp"))(hidden_states)
        hidden_states = self.constrain(hidden_states, "batch", "tokens", "mlp")
        return activation(self.config.hidden_act)(hidden_states)


class ViTOutput(Part):
    """The second half of the MLP; the residual is added in ViTLayer."""

    @nn.compact
    def __call__(
        self, hidden_states: Float[Array, "batch tokens mlp"], deterministic: bool = True
    ) -> Float[Array, "batch tokens hidden"]:
        hidden_states = self.linear("dense", self.config.hidden_size, ("mlp", "hidden"))(hidden_states)
        return nn.Dropout(self.config.hidden_dropout_prob)(hidden_states, deterministic)


class ViTLayer(Part):
    """One transformer layer, with LayerNorm before each half (equations 2 and 3).

    Attributes:
        layer: its number.
        class_token_only: whether to compute the class token alone.
    """

    layer: int = 0
    class_token_only: bool = False

    @nn.compact
    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        head_mask: Shaped[Array, " heads"] | None = None,
        deterministic: bool = True,
        output_attentions: bool = False,
    ) -> tuple[Float[Array, "batch queries hidden"], Float[Array, "batch heads queries tokens"] | None]:
        attention = ViTAttention(
            **self.shared, layer=self.layer, class_token_only=self.class_token_only, name="attention"
        )
        attended, probabilities = attention(
            self.layer_norm("layernorm_before")(hidden_states), head_mask, deterministic, output_attentions
        )
        if self.class_token_only:
            hidden_states = hidden_states[:, :1]
        hidden_states = self.constrain(attended + hidden_states, "batch", "tokens", "hidden")
        intermediate = ViTIntermediate(**self.shared, name="intermediate")
        output = ViTOutput(**self.shared, name="output")
        mlp = output(intermediate(self.layer_norm("layernorm_after")(hidden_states)), deterministic)
        return self.constrain(mlp + hidden_states, "batch", "tokens", "hidden"), probabilities


class ViTLayerCollection(Part):
    """The transformer layers, one after the other, each by its number."""

    remat: Remat = False
    class_token_only: bool = False

    @nn.compact
    def __call__(
        self, run: Callable[..., Any], hidden_states: Array, head_mask: Array | None
    ) -> tuple[Array, list[tuple[Array | None, Array | None]]]:
        run = rematerialized(run, self.remat, is_scanned=False)
        extras = []
        for index in range(self.config.num_hidden_layers):
            is_narrow = self.class_token_only and index == self.config.num_hidden_layers - 1
            layer = ViTLayer(**self.shared, layer=index, class_token_only=is_narrow, name=str(index))
            hidden_states, extra = run(layer, hidden_states, None if head_mask is None else head_mask[index])
            extras.append(extra)
        return hidden_states, extras


class ViTEncoder(Part):
    """The transformer layers: one after the other, or one compiled layer with the parameters of all in stacks."""

    scan_layers: bool = False
    remat: Remat = False
    class_token_only: bool = False

    @nn.compact
    def __call__(
        self,
        hidden_states: Float[Array, "batch tokens hidden"],
        head_mask: Shaped[Array, "layers heads"] | None = None,
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> tuple[
        Float[Array, "batch _ hidden"],
        tuple[Float[Array, "batch _ hidden"], ...] | None,
        tuple[Float[Array, "batch _ _ tokens"], ...] | None,
    ]:
        """Return the last hidden states; on request those before each layer and after the last; and the attention."""

        def run(layer: ViTLayer, x: Array, layer_mask: Array | None) -> tuple[Array, tuple[Array | None, Array | None]]:
            x, probabilities = layer(x, layer_mask, deterministic, output_attentions)
            return x, (x if output_hidden_states else None, probabilities)

        embeddings, count = hidden_states, self.config.num_hidden_layers
        if self.scan_layers and count:
            scan = nn.scan(
                rematerialized(run, self.remat, is_scanned=True),
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                length=count,
                metadata_params={nn.PARTITION_NAME: None},  # on a mesh, stacks are not split between layers
            )
            hidden_states, stacks = scan(ViTLayer(**self.shared, name="layer"), hidden_states, head_mask)
            extras = [jax.tree.map(itemgetter(index), stacks) for index in range(count)]
        else:
            layers = ViTLayerCollection(
                **self.shared, remat=self.remat, class_token_only=self.class_token_only, name="layer"
            )
            hidden_states, extras = layers(run, hidden_states, head_mask)
        return (
            hidden_states,
            (embeddings, *(states for states, _ in extras)) if output_hidden_states else None,
            tuple(probabilities for _, probabilities in extras) or None if output_attentions else None,
        )


class ViTPooler(Part):
    """A summary of the image from the class token."""

    @nn.compact
    def __call__(self, hidden_states: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch pooled"]:
        pooled = self.linear("dense", self.config.pooler_size, ("hidden", "pooled"))(hidden_states[:, 0])
        return activation(self.config.pooler_act)(pooled)


class ViTDecoder(Part):
    """Turns each token into the pixels of its patch."""

    @nn.compact
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
        class_token_only: whether the last layer computes the class token alone, which is all that the pooler and a
            classifier see; `last_hidden_state` is (batch, 1, hidden) then. Scanned layers compute all tokens.
    """

    add_pooling_layer: bool = True
    use_mask_token: bool = False
    scan_layers: bool = False
    remat: Remat = False
    class_token_only: bool = False

    @nn.compact
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
    ) -> FlaxBaseModelOutputWithPooling | tuple[Any, ...]:
        """Run the model; see `FlaxViTModel.__call__`, but the channels of images come last here."""
        config = self.config
        self._require_rng(deterministic)
        if head_mask is not None:
            check_head_mask(head_mask, config)
            head_mask = jnp.broadcast_to(head_mask, (config.num_hidden_layers, config.num_attention_heads))
        hidden_states = ViTEmbeddings(**self.shared, use_mask_token=self.use_mask_token, name="embeddings")(
            pixel_values, bool_masked_pos, deterministic, interpolate_pos_encoding
        )
        hidden_states = self.constrain(hidden_states, "batch", "tokens", "hidden")
        encoder = ViTEncoder(
            **self.shared,
            scan_layers=self.scan_layers,
            remat=self.remat,
            class_token_only=self.class_token_only,
            name="encoder",
        )
        hidden_states, all_hidden_states, all_attentions = encoder(
            hidden_states, head_mask, deterministic, output_attentions, output_hidden_states
        )
        last_hidden_state = self.layer_norm("layernorm")(hidden_states)
        pooler = ViTPooler(**self.shared, name="pooler") if self.add_pooling_layer else None
        output = FlaxBaseModelOutputWithPooling(
            last_hidden_state=last_hidden_state,
            pooler_output=None if pooler is None else pooler(last_hidden_state),
            hidden_states=all_hidden_states,
            attentions=all_attentions,
        )
        return output if return_dict else output.to_tuple()

    @nn.nowrap
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

    scan_layers: bool = False
    remat: Remat = False

    @nn.compact
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
    ) -> FlaxMaskedImageModelingOutput | tuple[Any, ...]:
        """Run the model; see `FlaxViTForMaskedImageModeling.__call__`, but the channels of images come last here."""
        config, stride = self.config, self.config.encoder_stride
        if bool_masked_pos is not None and config.patch_shape != (stride, stride):
            raise ValueError(
                f"patch_size is {config.patch_size} and encoder_stride {stride}; with bool_masked_pos they must be "
                f"equal, so that the reconstruction has the image's size."
            )
        vit = FlaxViTModule(
            **self.shared,
            add_pooling_layer=False,
            use_mask_token=True,
            scan_layers=self.scan_layers,
            remat=self.remat,
            name="vit",
        )
        outputs: Any = vit(
            pixel_values,
            deterministic,
            output_attentions,
            output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            head_mask=head_mask,
            bool_masked_pos=bool_masked_pos,
        )
        rows, columns = (size // patch for size, patch in zip(pixel_values.shape[1:3], config.patch_shape, strict=True))
        grid = outputs.last_hidden_state[:, 1:].reshape(len(pixel_values), rows, columns, config.hidden_size)
        reconstruction = pixel_shuffle(ViTDecoder(**self.shared, name="decoder")(grid), stride)
        loss = None
        if bool_masked_pos is not None:
            loss = masked_reconstruction_loss(pixel_values, reconstruction, bool_masked_pos, config.patch_shape)
        output = FlaxMaskedImageModelingOutput(loss, reconstruction, outputs.hidden_states, outputs.attentions)
        return output if return_dict else output.to_tuple()


class FlaxViTForImageClassificationModule(Part):
    """The Vision Transformer with a linear classifier on the class token or on the pooler's output.

    Attributes:
        scan_layers: see `FlaxViTModule`.
        remat: see `FlaxViTModule`.
    """

    scan_layers: bool = False
    remat: Remat = False

    @nn.compact
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
        labels: Shaped[Array, "*shape"] | None = None,
    ) -> FlaxSequenceClassifierOutput | tuple[Any, ...]:
        """Run the model; see `FlaxViTForImageClassification.__call__`, but the channels of images come last here."""
        config = self.config
        vit = FlaxViTModule(
            **self.shared,
            add_pooling_layer=config.classifier_uses_pooler,
            scan_layers=self.scan_layers,
            remat=self.remat,
            # Nobody sees the other tokens then.
            class_token_only=not (output_attentions or output_hidden_states),
            name="vit",
        )
        outputs: Any = vit(
            pixel_values,
            deterministic,
            output_attentions,
            output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            head_mask=head_mask,
        )
        summary, width = outputs.last_hidden_state[:, 0], "hidden"
        if config.classifier_uses_pooler:
            summary, width = outputs.pooler_output, "pooled"
        logits = self.constrain(summary, "batch", width)
        if config.num_labels:  # without labels this is passed on
            logits = self.linear("classifier", config.num_labels, (width, "labels"))(logits)
        loss = None if labels is None else classification_loss(logits, jnp.asarray(labels), config)
        output = FlaxSequenceClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return output if return_dict else output.to_tuple()


class FlaxViTModel(FlaxViTPreTrainedModel):
    """The Vision Transformer without a head; see `FlaxViTPreTrainedModel` for its arguments."""

    task = "model"
    module_class = FlaxViTModule

    def __call__(
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
        return self._run(
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

    def __call__(
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
        return self._run(
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

    def __call__(
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
        return self._run(
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
