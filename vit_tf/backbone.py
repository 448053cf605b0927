"""Backbones in Keras: base models that return feature maps, for detection, segmentation and depth."""

from __future__ import annotations

from typing import Any

import keras
from jaxtyping import Float
from keras import ops
from tensorflow import Tensor

from vit_core import PretrainedConfig
from vit_core.feature_maps import LEFT_OUT, Backbone
from vit_core.parameters import Parameter, parameters
from vit_tf.intermediate_layers import as_map
from vit_tf.layers import Grid
from vit_tf.modeling import TFVisionTransformerModel
from vit_tf.outputs import TFBackboneOutput
from vit_tf.pretrained import PreTrainedModel


@keras.saving.register_keras_serializable("trivit")
class TFVisionTransformerBackbone(Backbone, TFVisionTransformerModel):
    """A Vision Transformer that returns feature maps of the stages that its config names.

    It has no pooler, and takes of a checkpoint what the base model is, whatever head stands beside.

    Args:
        config: its sizes and settings, with `out_features` or `out_indices`; the last stage unless given.
        data_format: see `TFVisionTransformerModel`. Feature maps have their channels first in any case.
        **kwargs: see `TFVisionTransformerModel`.
    """

    task = "backbone"
    output_class = TFBackboneOutput
    _keys_to_ignore_on_load_unexpected = LEFT_OUT

    def __init__(self, config: PretrainedConfig, data_format: str = "channels_first", **kwargs: Any) -> None:
        super().__init__(config, add_pooling_layer=False, data_format=data_format, **kwargs)
        self.main_output_name, self.main_output_shape = "feature_maps", None

    def parameter_table(self, config: PretrainedConfig | None = None) -> tuple[Parameter, ...]:
        """The rows of `vit_core.parameters` that describe this model, with its own config unless another is given."""
        return parameters(config or self.config, "backbone")

    def call(  # type: ignore[override]
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        training: bool = False,
    ) -> TFBackboneOutput | tuple[Tensor, ...]:
        """Run the model.

        Args:
            pixel_values: images, with the axes in the order of the model's `data_format`.
            output_hidden_states: whether to return every layer's hidden states; the config's setting unless given.
            output_attentions: whether to return attention maps; likewise.
            return_dict: whether to return an output object rather than a tuple; likewise.
            interpolate_pos_encoding: see `TFVisionTransformerModel.call`.
            training: whether dropout acts.

        Raises:
            ValueError: a shape does not fit the model; see `vit_tf.checks.require` for graphs.
        """
        config = self.config
        embedded = self.embeddings(
            ops.cast(pixel_values, self.compute_dtype), interpolate_pos_encoding=bool(interpolate_pos_encoding)
        )
        grid = self.embeddings.patch_embeddings.grid(pixel_values)
        encoded = self.encoder(
            embedded,
            output_attentions=config.output_attentions if output_attentions is None else output_attentions,
            output_hidden_states=True,
            grid=grid if self.knows_grid else None,
            training=training,
        )
        if output_hidden_states is None:
            output_hidden_states = config.output_hidden_states
        stages = [self._normed(encoded.hidden_states[stage], stage) for stage in self.out_indices]
        output = TFBackboneOutput(
            feature_maps=tuple(self._feature_map(tokens, grid) for tokens in stages),
            hidden_states=encoded.hidden_states if output_hidden_states else None,
            attentions=encoded.attentions,
            cls_tokens=tuple(tokens[:, 0] for tokens in stages) if config.return_class_token else None,
        )
        return self._returned(output, return_dict)

    def _normed(self, tokens: Tensor, stage: int) -> Tensor:
        """The tokens after a stage, normed where the config wants them so."""
        return self.layernorm(tokens) if self.config.norms(stage) else tokens

    def _feature_map(self, tokens: Tensor, grid: Grid) -> Tensor:
        """The tokens after a stage in the shape that the config wants."""
        tokens = tokens[:, self.config.first_mapped :]
        return as_map(tokens, grid) if self.config.reshape_hidden_states else tokens

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for `.keras` files."""
        return PreTrainedModel.get_config(self)


VisionTransformerBackbone = TFVisionTransformerBackbone
