"""MSN (Assran et al. 2022): a plain ViT, trained by matching views of which one is masked."""

from __future__ import annotations

from typing import Any

from vit_core.architecture import Architecture
from vit_core.config import PretrainedConfig
from vit_core.families.family import Family


class ViTMSNConfig(PretrainedConfig):
    """The configuration of a masked siamese network (Assran et al. 2022, https://arxiv.org/abs/2204.07141).

    Args:
        *sizes: see `PretrainedConfig`.
        layer_norm_eps: epsilon of every LayerNorm.
        qkv_bias: whether query, key and value projections have a bias.
        **fields: see `PretrainedConfig`.
    """

    model_type = "vit_msn"
    base_model_prefix = "vit"

    def __init__(self, /, *sizes: Any, layer_norm_eps: float = 1e-6, qkv_bias: bool = True, **fields: Any) -> None:
        self.qkv_bias = qkv_bias
        super().__init__(*sizes, **{"layer_norm_eps": layer_norm_eps, **fields})

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        return Architecture(pooler=None, has_pooler=False)


FAMILY = Family(
    title="ViT-MSN",
    paper="https://arxiv.org/abs/2204.07141",
    config_class=ViTMSNConfig,
    models={"model": "ViTMSNModel", "image-classification": "ViTMSNForImageClassification"},
    encoder_is="vit",
)
