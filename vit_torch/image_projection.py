"""Models in PyTorch that put images beside texts: the summary of an image, projected into a space that both share.

CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020).
"""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from vit_core import PretrainedConfig
from vit_torch.filling import own_parts
from vit_torch.modeling import VisionTransformerWithHead
from vit_torch.outputs import CLIPVisionModelOutput


class VisionTransformerModelWithProjection(VisionTransformerWithHead):
    """A Vision Transformer whose pooler's output is projected.

    Args:
        config: its sizes and settings; the projection is `projection_dim` wide.
    """

    task = "image-projection"

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.add_base_model(add_pooling_layer=True)
        with own_parts():
            self.visual_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)
        self.post_init()

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        return_dict: bool | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
    ) -> CLIPVisionModelOutput | tuple[Tensor, ...]:
        """Run the model; see `VisionTransformerModel.forward`.

        Raises:
            ValueError: a shape does not fit the model.
        """
        outputs = self.base_model(
            pixel_values,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
        )
        output = CLIPVisionModelOutput(
            image_embeds=self.visual_projection(outputs.pooler_output),
            last_hidden_state=outputs.last_hidden_state,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
        return self._returned(output, return_dict)
