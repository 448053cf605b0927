"""MAE (He et al. 2021): a ViT that sees a quarter of the patches, and a small decoder that paints the rest."""

from __future__ import annotations

from typing import Any

from vit_core.architecture import Architecture
from vit_core.checks import require_integer, require_number, require_switches
from vit_core.config import LARGEST_LAYER_COUNT, LARGEST_SIZE, PretrainedConfig
from vit_core.families.family import Family


class ViTMAEConfig(PretrainedConfig):
    """The configuration of a masked autoencoder (He et al. 2021, https://arxiv.org/abs/2111.06377).

    Args:
        *sizes: see `PretrainedConfig`.
        qkv_bias: whether query, key and value projections have a bias.
        decoder_num_attention_heads: attention heads of a layer of the decoder; divides `decoder_hidden_size`.
        decoder_hidden_size: width of a token in the decoder.
        decoder_num_hidden_layers: number of transformer layers of the decoder.
        decoder_intermediate_size: width of the hidden layer of the decoder's MLP.
        mask_ratio: the share of patches that the encoder does not see, in [0, 1).
        norm_pix_loss: whether the loss compares with patches whose pixels have mean 0 and variance 1.
        **fields: see `PretrainedConfig`.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    model_type = "vit_mae"
    base_model_prefix = "vit"

    def __init__(
        self,
        /,
        *sizes: Any,
        qkv_bias: bool = True,
        decoder_num_attention_heads: int = 16,
        decoder_hidden_size: int = 512,
        decoder_num_hidden_layers: int = 8,
        decoder_intermediate_size: int = 2048,
        mask_ratio: float = 0.75,
        norm_pix_loss: bool = False,
        **fields: Any,
    ) -> None:
        self.qkv_bias = qkv_bias
        self.decoder_num_attention_heads = decoder_num_attention_heads
        self.decoder_hidden_size = decoder_hidden_size
        self.decoder_num_hidden_layers = decoder_num_hidden_layers
        self.decoder_intermediate_size = decoder_intermediate_size
        self.mask_ratio = mask_ratio
        self.norm_pix_loss = norm_pix_loss
        super().__init__(*sizes, **fields)

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        return Architecture(absolute_positions="sincos", embedding_dropout=False, pooler=None, has_pooler=False)

    @property
    def decoder_config(self) -> ViTMAEConfig:
        """A config whose layers are those of the decoder."""
        return self.replaced(
            hidden_size=self.decoder_hidden_size,
            num_hidden_layers=self.decoder_num_hidden_layers,
            num_attention_heads=self.decoder_num_attention_heads,
            intermediate_size=self.decoder_intermediate_size,
            pruned_heads={},
        )

    def validate(self) -> None:
        """See `PretrainedConfig.validate`."""
        super().validate()
        for name in ("decoder_num_attention_heads", "decoder_hidden_size", "decoder_intermediate_size"):
            require_integer(name, getattr(self, name), 1, LARGEST_SIZE)
        require_integer("decoder_num_hidden_layers", self.decoder_num_hidden_layers, 0, LARGEST_LAYER_COUNT)
        if self.decoder_hidden_size % self.decoder_num_attention_heads:
            raise ValueError(
                f"decoder_hidden_size is {self.decoder_hidden_size}, which decoder_num_attention_heads, "
                f"{self.decoder_num_attention_heads}, does not divide; choose a multiple."
            )
        for name in ("hidden_size", "decoder_hidden_size"):
            if getattr(self, name) % 4:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; the sines and cosines of two axes need a multiple of 4."
                )
        require_number("mask_ratio", self.mask_ratio, 0.0, 1.0, upper_included=False)
        require_switches(self, ["norm_pix_loss"])


FAMILY = Family(
    title="MAE",
    paper="https://arxiv.org/abs/2111.06377",
    config_class=ViTMAEConfig,
    models={"model": "ViTMAEModel", "pre-training": "ViTMAEForPreTraining"},
    encoder_is="vit",
)
