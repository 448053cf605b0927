"""I-JEPA (Assran et al. 2023): a ViT without a class token, which predicts features of what it does not see."""

from __future__ import annotations

from typing import Any

from vit_core.architecture import Architecture
from vit_core.config import PretrainedConfig
from vit_core.families.family import Family


class IJepaConfig(PretrainedConfig):
    """The configuration of an I-JEPA (Assran et al. 2023, https://arxiv.org/abs/2301.08243).

    Args:
        *sizes: see `PretrainedConfig`.
        qkv_bias: whether query, key and value projections have a bias.
        **fields: see `PretrainedConfig`.
    """

    model_type = "ijepa"
    base_model_prefix = "ijepa"

    def __init__(self, /, *sizes: Any, qkv_bias: bool = True, **fields: Any) -> None:
        self.qkv_bias = qkv_bias
        super().__init__(*sizes, **fields)

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        return Architecture(prefix_tokens=(), classifier_reads="mean", has_pooler=False)


FAMILY = Family(
    title="I-JEPA",
    paper="https://arxiv.org/abs/2301.08243",
    config_class=IJepaConfig,
    models={"model": "IJepaModel", "image-classification": "IJepaForImageClassification"},
)
