"""DeiT (Touvron et al. 2020): a ViT with a distillation token, which learns from a teacher."""

from __future__ import annotations

from typing import Any

from vit_core.architecture import Architecture
from vit_core.checks import require_integer
from vit_core.config import LARGEST_SIZE, PretrainedConfig
from vit_core.families.family import Family


class DeiTConfig(PretrainedConfig):
    """The configuration of a DeiT (Touvron et al. 2020, https://arxiv.org/abs/2012.12877).

    Args:
        *sizes: see `PretrainedConfig`.
        qkv_bias: whether query, key and value projections have a bias.
        encoder_stride: pixels to a patch's side in the decoder of masked image modeling.
        **fields: see `PretrainedConfig`.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    model_type = "deit"
    base_model_prefix = "deit"

    def __init__(self, /, *sizes: Any, qkv_bias: bool = True, encoder_stride: int = 16, **fields: Any) -> None:
        self.qkv_bias = qkv_bias
        self.encoder_stride = encoder_stride
        super().__init__(*sizes, **fields)

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        return Architecture(prefix_tokens=("cls_token", "distillation_token"), masked_from=1)

    def validate(self) -> None:
        """See `PretrainedConfig.validate`."""
        super().validate()
        require_integer("encoder_stride", self.encoder_stride, 1, LARGEST_SIZE)


FAMILY = Family(
    title="DeiT",
    paper="https://arxiv.org/abs/2012.12877",
    config_class=DeiTConfig,
    models={
        "model": "DeiTModel",
        "image-classification": "DeiTForImageClassification",
        "image-classification-with-teacher": "DeiTForImageClassificationWithTeacher",
        "masked-image-modeling": "DeiTForMaskedImageModeling",
    },
    image_processor="DeiTImageProcessor",
)
