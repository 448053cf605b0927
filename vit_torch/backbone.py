"""Backbones in PyTorch: base models that return feature maps, for detection, segmentation and depth."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from vit_core import PretrainedConfig
from vit_core.feature_maps import LEFT_OUT, Backbone
from vit_core.parameters import Parameter, parameters
from vit_torch.intermediate_layers import as_map
from vit_torch.modeling import VisionTransformerModel
from vit_torch.outputs import BackboneOutput


class VisionTransformerBackbone(Backbone, VisionTransformerModel):
    """A Vision Transformer that returns feature maps of the stages that its config names.

    It has no pooler, and takes of a checkpoint what the base model is, whatever head stands beside.

    Args:
        config: its sizes and settings, with `out_features` or `out_indices`; the last stage unless given.
    """

    task = "backbone"
    _keys_to_ignore_on_load_unexpected = LEFT_OUT

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config, add_pooling_layer=False)

    def parameter_table(self, config: PretrainedConfig | None = None) -> tuple[Parameter, ...]:
        """The rows of `vit_core.parameters` that describe this model, in the order of its `state_dict`."""
        return parameters(config or self.config, "backbone")

    def forward(  # type: ignore[override]
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
    ) -> BackboneOutput | tuple[Tensor, ...]:
        """Run the model.

        Args:
            pixel_values: images, (batch, channels, height, width).
            output_hidden_states: whether to return every layer's hidden states; the config's setting unless given.
            output_attentions: whether to return attention maps; likewise.
            return_dict: whether to return an output object rather than a tuple; likewise.
            interpolate_pos_encoding: see `VisionTransformerModel.forward`.

        Raises:
            ValueError: a shape does not fit the model.
        """
        pixel_values, interpolate = self._images(pixel_values), bool(interpolate_pos_encoding)
        embedded = self.embeddings(pixel_values, None, interpolate)
        encoded = self._encoded(embedded, pixel_values, None, output_attentions, True, interpolate)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        hidden_states = encoded.hidden_states or ()
        grid = self.embeddings.patch_embeddings.grid(*pixel_values.shape[-2:])
        stages = [self._normed(hidden_states[stage], stage) for stage in self.out_indices]
        output = BackboneOutput(
            feature_maps=tuple(self._feature_map(tokens, grid) for tokens in stages),
            hidden_states=hidden_states if output_hidden_states else None,
            attentions=encoded.attentions,
            cls_tokens=tuple(tokens[:, 0] for tokens in stages) if self.config.return_class_token else None,
        )
        return self._returned(output, return_dict)

    def _normed(self, tokens: Tensor, stage: int) -> Tensor:
        """The tokens after a stage, normed where the config wants them so."""
        return self.layernorm(tokens) if self.config.norms(stage) else tokens

    def _feature_map(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """The tokens after a stage in the shape that the config wants."""
        tokens = tokens[:, self.config.first_mapped :]
        return as_map(tokens, grid) if self.config.reshape_hidden_states else tokens
