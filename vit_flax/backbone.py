"""Backbones in Flax: base models that return feature maps, for detection, segmentation and depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, field
from typing import Any

from jax import Array
from jaxtyping import Float

from vit_core.feature_maps import LEFT_OUT, Backbone
from vit_core.patches import grid_of
from vit_flax.intermediate_layers import IntermediateLayers, as_map
from vit_flax.modeling import FlaxVisionTransformerModule, FlaxVisionTransformerPreTrainedModel
from vit_flax.outputs import FlaxBackboneOutput
from vit_flax.parts import given


class FlaxVisionTransformerBackboneModule(FlaxVisionTransformerModule):
    """A Vision Transformer that returns feature maps of the stages that its config names.

    Its fields are those of `FlaxVisionTransformerModule` without its parts, a pooler and a mask token.
    """

    add_pooling_layer: bool | None = field(default=False, init=False)
    _: KW_ONLY
    use_mask_token: bool = field(default=False, init=False)

    def __call__(  # type: ignore[override]
        self,
        pixel_values: Float[Array, "batch height width channels"],
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        *,
        interpolate_pos_encoding: bool = False,
    ) -> FlaxBackboneOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerBackbone.__call__`, but the channels of images come last here."""
        self._require_rng(deterministic)
        embedded = self.embeddings(
            pixel_values, deterministic=deterministic, **given(interpolate_pos_encoding=interpolate_pos_encoding)
        )
        encoded = self._encoded(
            embedded,
            deterministic,
            output_attentions,
            True,
            grid=self._resampled_grid(pixel_values, interpolate_pos_encoding),
        )
        config, grid = self.config, grid_of(pixel_values.shape[1:3], self.config.patch_shape)
        stages = [self._normed(encoded.hidden_states[stage], stage) for stage in config.out_indices]
        output = FlaxBackboneOutput(
            feature_maps=tuple(self._feature_map(tokens, grid) for tokens in stages),
            hidden_states=encoded.hidden_states if output_hidden_states else None,
            attentions=encoded.attentions,
            cls_tokens=tuple(tokens[:, 0] for tokens in stages) if config.return_class_token else None,
        )
        return output if return_dict else output.to_tuple()

    def _normed(self, tokens: Float[Array, "batch tokens hidden"], stage: int) -> Array:
        """The tokens after a stage, normed where the config wants them so."""
        return self.layernorm(tokens) if self.config.norms(stage) or self.is_initializing() else tokens

    def _feature_map(self, tokens: Float[Array, "batch tokens hidden"], grid: tuple[int, int]) -> Array:
        """The tokens after a stage in the shape that the config wants."""
        tokens = tokens[:, self.config.first_mapped :]
        return as_map(tokens, grid) if self.config.reshape_hidden_states else tokens


class FlaxVisionTransformerBackbone(Backbone, FlaxVisionTransformerPreTrainedModel, IntermediateLayers):
    """A Vision Transformer that returns feature maps of the stages that its config names.

    It has no pooler, and takes of a checkpoint what the base model is, whatever head stands beside. See
    `FlaxPreTrainedModel` for its arguments; its config has `out_features` or `out_indices`, or means the last stage.
    """

    task = "backbone"
    module_class = FlaxVisionTransformerBackboneModule
    _keys_to_ignore_on_load_unexpected = LEFT_OUT

    def __call__(  # type: ignore[override]  # what the module takes is named here
        self,
        pixel_values: Float[Array, "batch channels height width"],
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
    ) -> FlaxBackboneOutput | tuple[Any, ...]:
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
        )
