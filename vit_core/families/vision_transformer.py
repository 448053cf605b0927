"""Any combination of options, for models that no published class can say."""

from __future__ import annotations

from typing import Any

from vit_core.architecture import Architecture, choices, option_names
from vit_core.checks import require_choice, require_integer, require_number, require_quarters, shown
from vit_core.config import LARGEST_SIZE, SizePair
from vit_core.families.family import Family
from vit_core.feature_maps import BackboneConfig
from vit_core.rotary import rotary_reference


class VisionTransformerConfig(BackboneConfig):
    """The configuration of a Vision Transformer of any make, Trivit's own; other packages refuse its `model_type`.

    Args:
        *sizes: see `PretrainedConfig`.
        qkv_bias: whether query, key and value projections have a bias.
        encoder_stride: pixels to a patch's side in the decoder of masked image modeling.
        vocab_size: how many visual tokens there are, which masked token modeling predicts.
        rope_theta: the base of the rotary positions' frequencies.
        rotary_grid: rows and columns of patches to which rotary positions of "indices" and "mixed" stretch any other
            grid, one number for a square; those of `image_size` unless given, and kept where that is set anew.
        pooler_attention_heads: heads of a pooler that attends; `num_attention_heads` unless given.
        pooler_intermediate_size: width of its MLP; `intermediate_size` unless given.
        **fields: the options of `vit_core.architecture.Architecture` by name, and see `PretrainedConfig`.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    model_type = "vision_transformer"
    base_model_prefix = "vit"

    def __init__(
        self,
        /,
        *sizes: Any,
        qkv_bias: bool = True,
        encoder_stride: int = 16,
        vocab_size: int = 8192,
        rope_theta: float = 100.0,
        rotary_grid: SizePair | None = None,
        pooler_attention_heads: int | None = None,
        pooler_intermediate_size: int | None = None,
        **fields: Any,
    ) -> None:
        self.qkv_bias = qkv_bias
        self.encoder_stride = encoder_stride
        self.vocab_size = vocab_size
        self.rope_theta = rope_theta
        self.rotary_grid = rotary_grid
        self.pooler_attention_heads = pooler_attention_heads
        self.pooler_intermediate_size = pooler_intermediate_size
        options = Architecture()
        for name in option_names():
            setattr(self, name, fields.pop(name, getattr(options, name)))
        super().__init__(*sizes, **fields)
        if self.rotary_grid is None and self.rotary_positions in ("indices", "mixed") and self.rotary_stretch:
            self.rotary_grid = self.grid  # of training, whatever size is set later

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        return Architecture(**{name: getattr(self, name) for name in option_names()})

    @property
    def pooler_heads(self) -> int:
        """How many heads a pooler has that attends."""
        return self.pooler_attention_heads or self.num_attention_heads

    @property
    def pooler_mlp_size(self) -> int:
        """Width of its MLP."""
        return self.pooler_intermediate_size or self.intermediate_size

    def validate(self) -> None:
        """See `PretrainedConfig.validate`."""
        super().validate()
        for name in ("encoder_stride", "vocab_size"):
            require_integer(name, getattr(self, name), 1, LARGEST_SIZE)
        for name in option_names():
            value = getattr(self, name)
            if (known := choices(name)) and value is not None:
                require_choice(name, value, known)
        self.architecture.validate()
        for name in ("pooler_attention_heads", "pooler_intermediate_size"):
            if (size := getattr(self, name)) is not None:
                require_integer(name, size, 1, LARGEST_SIZE)
        if self.hidden_size % self.pooler_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}, which pooler_attention_heads, {self.pooler_heads}, does not "
                f"divide; choose a divisor."
            )
        require_number("rope_theta", self.rope_theta, 1.0, 1e12)
        if len(reference := rotary_reference(self)) != 2:
            raise ValueError(f"rotary_grid is {shown(reference)}; give one number or (rows, columns).")
        for length in reference:
            require_integer("rotary_grid", length, 1, LARGEST_SIZE)
        require_quarters(self)


FAMILY = Family(
    title="Vision Transformer",
    paper="https://arxiv.org/abs/2010.11929",
    config_class=VisionTransformerConfig,
    models={
        "model": "VisionTransformerModel",
        "image-classification": "VisionTransformerForImageClassification",
        "masked-image-modeling": "VisionTransformerForMaskedImageModeling",
        "masked-token-modeling": "VisionTransformerForMaskedTokenModeling",
        "backbone": "VisionTransformerBackbone",
    },
)
