"""BEiT (Bao et al. 2021): relative positions, scaled layers, and visual tokens to predict."""

from __future__ import annotations

from typing import Any

from vit_core.architecture import Architecture
from vit_core.checks import as_float, require_integer, require_number, require_switches
from vit_core.config import LARGEST_SIZE, PretrainedConfig
from vit_core.families.family import Family

#: Fields that are either True or False.
SWITCHES = (
    "use_mask_token",
    "use_absolute_position_embeddings",
    "use_relative_position_bias",
    "use_shared_relative_position_bias",
    "use_mean_pooling",
)


def _as_float(name: str, value: Any) -> Any:
    return as_float(name, value) if type(value) is int else value


class RelativePositionConfig(PretrainedConfig):
    """What the configs of BEiT and of models built like it have in common.

    Args:
        *sizes: see `PretrainedConfig`.
        use_mask_token: whether the model has a mask token, which `bool_masked_pos` needs.
        use_absolute_position_embeddings: whether positions are added to the tokens.
        use_relative_position_bias: whether each layer has a table of relative positions.
        use_shared_relative_position_bias: whether all layers have one together.
        layer_scale_init_value: where the factors start by which layers scale what they add; 0 for none.
        drop_path_rate: how often the last layer is skipped in training, in [0, 1).
        use_mean_pooling: whether the pooler takes the mean of the patches, and not the class token.
        **fields: see `PretrainedConfig`.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    def __init__(
        self,
        /,
        *sizes: Any,
        use_mask_token: bool = False,
        use_absolute_position_embeddings: bool = False,
        use_relative_position_bias: bool = False,
        use_shared_relative_position_bias: bool = False,
        layer_scale_init_value: float = 0.1,
        drop_path_rate: float = 0.1,
        use_mean_pooling: bool = True,
        **fields: Any,
    ) -> None:
        self.use_mask_token = use_mask_token
        self.use_absolute_position_embeddings = use_absolute_position_embeddings
        self.use_relative_position_bias = use_relative_position_bias
        self.use_shared_relative_position_bias = use_shared_relative_position_bias
        # Whole numbers as floats, since transformers 5 refuses a file with others.
        self.layer_scale_init_value = _as_float("layer_scale_init_value", layer_scale_init_value)
        self.drop_path_rate = _as_float("drop_path_rate", drop_path_rate)
        self.use_mean_pooling = use_mean_pooling
        super().__init__(*sizes, **fields)

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        tables = {"layers": self.use_relative_position_bias, "shared": self.use_shared_relative_position_bias}
        return Architecture(
            absolute_positions="learned" if self.use_absolute_position_embeddings else None,
            resamples_unasked=True,
            mask_token=self.use_mask_token,
            key_bias=False,
            relative_positions=next((where for where, is_there in tables.items() if is_there), None),  # type: ignore
            layer_scale=self.layer_scale_init_value or None,
            drop_path_rate=self.drop_path_rate,
            final_norm=not self.use_mean_pooling,
            pooler="mean-norm" if self.use_mean_pooling else "class-token",
            classifier_reads="pooler",
        )

    def validate(self) -> None:
        """See `PretrainedConfig.validate`."""
        super().validate()
        require_switches(self, SWITCHES)
        if self.use_relative_position_bias and self.use_shared_relative_position_bias:
            raise ValueError(
                "use_relative_position_bias and use_shared_relative_position_bias are both True; no published model "
                "adds two tables of relative positions, so choose one."
            )
        require_number("layer_scale_init_value", self.layer_scale_init_value, 0.0, 1e6)
        require_number("drop_path_rate", self.drop_path_rate, 0.0, 1.0, upper_included=False)


class BeitConfig(RelativePositionConfig):
    """The configuration of a BEiT (Bao et al. 2021, https://arxiv.org/abs/2106.08254).

    Args:
        vocab_size: how many visual tokens there are, which masked image modeling predicts.
        *sizes: see `PretrainedConfig`.
        **fields: see `RelativePositionConfig` and `PretrainedConfig`. Those that transformers has for semantic
            segmentation are kept and written back; Trivit has no such model.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    model_type = "beit"
    base_model_prefix = "beit"

    def __init__(self, /, vocab_size: int = 8192, *sizes: Any, **fields: Any) -> None:
        self.vocab_size = vocab_size
        super().__init__(*sizes, **fields)

    def validate(self) -> None:
        """See `PretrainedConfig.validate`."""
        super().validate()
        require_integer("vocab_size", self.vocab_size, 1, LARGEST_SIZE)


FAMILY = Family(
    title="BEiT",
    paper="https://arxiv.org/abs/2106.08254",
    config_class=BeitConfig,
    models={
        "model": "BeitModel",
        "image-classification": "BeitForImageClassification",
        "masked-token-modeling": "BeitForMaskedImageModeling",
    },
    image_processor="BeitImageProcessor",
)
