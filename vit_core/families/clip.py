"""CLIP (Radford et al. 2021): normed before the first layer, and put beside texts by a projection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from vit_core.architecture import Architecture
from vit_core.checks import require_integer
from vit_core.config import LARGEST_SIZE, SizePair
from vit_core.families.family import Family
from vit_core.families.vision_tower import TwoTowersConfig, VisionTowerConfig


class CLIPVisionConfig(VisionTowerConfig):
    """The configuration of CLIP's image tower (Radford et al. 2021, https://arxiv.org/abs/2103.00020).

    Args:
        hidden_size: see `VisionTowerConfig`.
        intermediate_size: width of the hidden layer of the MLP.
        projection_dim: width of what the projection gives.
        num_hidden_layers: number of transformer layers.
        num_attention_heads: attention heads of a layer; divides `hidden_size`.
        num_channels: channels of the images.
        image_size: size of the images in pixels, one number for a square or (height, width).
        patch_size: size of the patches in pixels, likewise.
        hidden_act: activation of the MLP.
        layer_norm_eps: epsilon of every LayerNorm.
        attention_dropout: dropout of attention probabilities in training.
        initializer_range: standard deviation of the truncated normal that initialises weights.
        **fields: see `PretrainedConfig`.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    model_type = "clip_vision_model"
    type_of_both = "clip"
    tower_fields: ClassVar[tuple[str, ...]] = (
        *VisionTowerConfig.tower_fields,
        *("projection_dim", "initializer_range"),
    )

    def __init__(
        self,
        /,
        hidden_size: int = 768,
        intermediate_size: int = 3072,
        projection_dim: int = 512,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        num_channels: int = 3,
        image_size: SizePair = 224,
        patch_size: SizePair = 32,
        hidden_act: str | Callable[..., Any] = "quick_gelu",
        layer_norm_eps: float = 1e-5,
        attention_dropout: float = 0.0,
        initializer_range: float = 0.02,
        **fields: Any,
    ) -> None:
        self.projection_dim = projection_dim
        super().__init__(
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            num_channels,
            image_size,
            patch_size,
            hidden_act,
            layer_norm_eps,
            attention_dropout,
            initializer_range=initializer_range,
            **fields,
        )

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        return Architecture(
            patch_bias=False,
            embedding_norm=True,
            final_norm=False,
            pooler="class-norm",
            keeps_pooler=True,
            classifier_reads="mean",
        )

    def validate(self) -> None:
        """See `PretrainedConfig.validate`."""
        super().validate()
        require_integer("projection_dim", self.projection_dim, 1, LARGEST_SIZE)


class CLIPConfig(TwoTowersConfig, CLIPVisionConfig):
    """The configuration of a CLIP (https://arxiv.org/abs/2103.00020), of whose image tower Trivit has the models."""

    model_type = "clip"
    tower_class = CLIPVisionConfig

    def to_dict(self) -> dict[str, Any]:
        """Every field; the width of the projection is one of both towers, too."""
        return {**super().to_dict(), "projection_dim": self.projection_dim}


FAMILY = Family(
    title="CLIP",
    paper="https://arxiv.org/abs/2103.00020",
    config_class=CLIPVisionConfig,
    config_classes={"image-classification": CLIPConfig},
    models={
        "model": "CLIPVisionModel",
        "image-projection": "CLIPVisionModelWithProjection",
        "image-classification": "CLIPForImageClassification",
    },
    image_processor="CLIPImageProcessor",
)
