"""Models in Keras that put images beside texts: the summary of an image, projected into a space that both share.

CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020).
"""

from __future__ import annotations

from typing import Any

import keras
from jaxtyping import Float, Shaped
from tensorflow import Tensor

from vit_core import PretrainedConfig
from vit_tf.layers import Shape, linear
from vit_tf.modeling import VisionTransformerWithHead
from vit_tf.outputs import TFCLIPVisionModelOutput


@keras.saving.register_keras_serializable("trivit")
class TFVisionTransformerModelWithProjection(VisionTransformerWithHead):
    """A Vision Transformer whose pooler's output is projected.

    Args:
        config: its sizes and settings; the output is `projection_dim` wide.
        data_format: see `TFVisionTransformerModel`.
        **kwargs: see `TFVisionTransformerModel`.
    """

    task = "image-projection"
    output_class = TFCLIPVisionModelOutput
    main_output_name = "image_embeds"

    def __init__(self, config: PretrainedConfig, data_format: str = "channels_first", **kwargs: Any) -> None:
        super().__init__(config, data_format, **kwargs)
        self.main_output_shape = (None, config.projection_dim)
        self._hold_base(reads_pooler=True)
        self.visual_projection = linear(config, config.projection_dim, "visual_projection", self.dtype_policy, False)
        self.build(self.image_batch_shape)

    def build(self, input_shape: Shape) -> None:
        self.visual_projection.build((None, self.config.pooler_size))

    def call(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        training: bool = False,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
    ) -> TFCLIPVisionModelOutput | tuple[Tensor, ...]:
        """Run the model; see `TFVisionTransformerModel.call`."""
        outputs = self._encoded(
            pixel_values, head_mask, output_attentions, output_hidden_states, interpolate_pos_encoding, training
        )
        output = TFCLIPVisionModelOutput(
            self.visual_projection(outputs.pooler_output),
            outputs.last_hidden_state,
            outputs.hidden_states,
            outputs.attentions,
        )
        return self._returned(output, return_dict)


VisionTransformerModelWithProjection = TFVisionTransformerModelWithProjection
