"""Models in Flax that put images beside texts: the summary of an image, projected into a space that both share.

CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jax import Array
from jaxtyping import Float, Shaped

from vit_flax.modeling import FlaxVisionTransformerPreTrainedModel, VisionTransformerWithHead
from vit_flax.outputs import FlaxCLIPVisionModelOutput
from vit_flax.parts import given


class FlaxVisionTransformerModelWithProjectionModule(VisionTransformerWithHead):
    """A Vision Transformer whose pooler's output is projected.

    Its fields are those of `VisionTransformerWithHead`.
    """

    def setup(self) -> None:
        self.add_base_model(reads_pooler=True)
        self.visual_projection = self.linear(self.config.projection_dim, ("hidden", "projection"), use_bias=False)

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
    ) -> FlaxCLIPVisionModelOutput | tuple[Any, ...]:
        """Run the model; see `FlaxVisionTransformerModelWithProjection.__call__`, but with channels last."""
        outputs: Any = self.base_model(
            pixel_values,
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **given(interpolate_pos_encoding=interpolate_pos_encoding, head_mask=head_mask),
        )
        output = FlaxCLIPVisionModelOutput(
            image_embeds=self.visual_projection(self.constrain(outputs.pooler_output, "batch", "hidden")),
            last_hidden_state=outputs.last_hidden_state,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
        return self.returned(output, return_dict)


class FlaxVisionTransformerModelWithProjection(FlaxVisionTransformerPreTrainedModel):
    """A Vision Transformer whose pooler's output is projected, to `config.projection_dim` numbers.

    See `FlaxPreTrainedModel` for its arguments.
    """

    task = "image-projection"
    module_class = FlaxVisionTransformerModelWithProjectionModule

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
    ) -> FlaxCLIPVisionModelOutput | tuple[Any, ...]:
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
