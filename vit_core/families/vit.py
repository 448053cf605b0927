"""ViT (Dosovitskiy et al. 2020), and with it DINO, whose published backbones are plain ViTs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vit_core.architecture import Architecture, Resampling, choices
from vit_core.checks import require_choice, require_integer
from vit_core.config import LARGEST_SIZE, SizePair
from vit_core.families.family import Family
from vit_core.feature_maps import BackboneConfig


class ViTConfig(BackboneConfig):
    """The configuration of a Vision Transformer (Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929).

    Args:
        hidden_size: see `PretrainedConfig`, as for all up to `num_channels`.
        num_hidden_layers: number of transformer layers.
        num_attention_heads: attention heads of a layer; divides `hidden_size`.
        intermediate_size: width of the hidden layer of the MLP.
        hidden_act: activation of the MLP.
        hidden_dropout_prob: dropout of embeddings, attention output and MLP output in training.
        attention_probs_dropout_prob: dropout of attention probabilities in training.
        initializer_range: standard deviation of the truncated normal that initialises weights.
        layer_norm_eps: epsilon of every LayerNorm.
        image_size: size of the images in pixels, one number for a square or (height, width).
        patch_size: size of the patches in pixels, likewise.
        num_channels: channels of the images.
        qkv_bias: whether query, key and value projections have a bias.
        encoder_stride: pixels to a patch's side in the decoder of masked image modeling.
        **kwargs: `position_resampling`, of Trivit's own ("offset" for DINO's models; see
            `vit_core.architecture.Resampling`), and see `PretrainedConfig`.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    model_type = "vit"
    base_model_prefix = "vit"
    position_resampling: Resampling = "bicubic"

    def __init__(
        self,
        /,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        hidden_act: str | Callable[..., Any] = "gelu",
        hidden_dropout_prob: float = 0.0,
        attention_probs_dropout_prob: float = 0.0,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-12,
        image_size: SizePair = 224,
        patch_size: SizePair = 16,
        num_channels: int = 3,
        qkv_bias: bool = True,
        encoder_stride: int = 16,
        **kwargs: Any,
    ) -> None:
        self.qkv_bias = qkv_bias
        self.encoder_stride = encoder_stride
        super().__init__(
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            intermediate_size,
            hidden_act,
            hidden_dropout_prob,
            attention_probs_dropout_prob,
            initializer_range,
            layer_norm_eps,
            image_size,
            patch_size,
            num_channels,
            **kwargs,
        )

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        return Architecture(
            classifier_reads="pooler" if self.classifier_uses_pooler else "class-token",
            position_resampling=self.position_resampling,
        )

    def validate(self) -> None:
        """See `PretrainedConfig.validate`."""
        super().validate()
        require_integer("encoder_stride", self.encoder_stride, 1, LARGEST_SIZE)
        require_choice("position_resampling", self.position_resampling, choices("position_resampling"))


FAMILY = Family(
    title="ViT",
    paper="https://arxiv.org/abs/2010.11929",
    config_class=ViTConfig,
    models={
        "model": "ViTModel",
        "image-classification": "ViTForImageClassification",
        "masked-image-modeling": "ViTForMaskedImageModeling",
        "backbone": "ViTBackbone",
    },
)
