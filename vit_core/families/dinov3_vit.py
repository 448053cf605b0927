"""DINOv3 (Siméoni et al. 2025): registers, rotary positions, and for some sizes a gated MLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from vit_core.architecture import MOST_REGISTERS, Architecture
from vit_core.checks import as_float, require_integer, require_number, require_quarters, require_switches
from vit_core.config import SizePair
from vit_core.families.family import Family
from vit_core.feature_maps import BackboneConfig

#: Fields that are either True or False.
SWITCHES = ("query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias", "use_gated_mlp")
#: Fields that move positions at random in training.
AUGMENTATIONS = ("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale")


class DINOv3ViTConfig(BackboneConfig):
    """The configuration of a DINOv3 (Siméoni et al. 2025, https://arxiv.org/abs/2508.10104).

    Args:
        patch_size: size of the patches in pixels, one number for a square or (height, width).
        hidden_size: see `PretrainedConfig`, as for the next four.
        intermediate_size: width of the hidden layer of the MLP.
        num_hidden_layers: number of transformer layers.
        num_attention_heads: attention heads of a layer; divides `hidden_size`.
        hidden_act: activation of the MLP, or of its gate.
        attention_dropout: dropout of attention probabilities in training.
        initializer_range: standard deviation of the truncated normal that initialises weights.
        layer_norm_eps: epsilon of every LayerNorm.
        rope_theta: the base of the rotary positions' frequencies.
        image_size: size of the images in pixels, likewise. Others are taken, too.
        num_channels: channels of the images.
        query_bias: whether the query projection has a bias.
        key_bias: whether the key projection has one.
        value_bias: whether the value projection has one.
        proj_bias: whether the projection after attention has one.
        mlp_bias: whether the layers of the MLP have one.
        layerscale_value: where the factors start by which layers scale what they add.
        drop_path_rate: how often each layer is skipped in training, in [0, 1).
        use_gated_mlp: whether the MLP is gated.
        num_register_tokens: how many tokens stand between class token and patches.
        pos_embed_shift: in training, both coordinates of all patches, which go from -1 to 1, are moved by up to this.
        pos_embed_jitter: likewise, each is multiplied by up to this, or divided by it.
        pos_embed_rescale: likewise, both together.
        **fields: those of a backbone (`vit_core.feature_maps.BackboneConfig`), whose last stage is normed in any case
            and whose tokens are those of the patches, and those of `PretrainedConfig`.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    model_type = "dinov3_vit"
    base_model_prefix = "dinov3_vit"
    norms_last_stage = True
    first_is_patch = True
    attribute_map: ClassVar[dict[str, str]] = {"attention_probs_dropout_prob": "attention_dropout"}

    def __init__(
        self,
        /,
        patch_size: SizePair = 16,
        hidden_size: int = 384,
        intermediate_size: int = 1536,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 6,
        hidden_act: str | Callable[..., Any] = "gelu",
        attention_dropout: float = 0.0,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-5,
        rope_theta: float = 100.0,
        image_size: SizePair = 224,
        num_channels: int = 3,
        query_bias: bool = True,
        key_bias: bool = False,
        value_bias: bool = True,
        proj_bias: bool = True,
        mlp_bias: bool = True,
        layerscale_value: float = 1.0,
        drop_path_rate: float = 0.0,
        use_gated_mlp: bool = False,
        num_register_tokens: int = 0,
        pos_embed_shift: float | None = None,
        pos_embed_jitter: float | None = None,
        pos_embed_rescale: float | None = 2.0,
        **fields: Any,
    ) -> None:
        self.rope_theta = as_float("rope_theta", rope_theta)
        self.query_bias = query_bias
        self.key_bias = key_bias
        self.value_bias = value_bias
        self.proj_bias = proj_bias
        self.mlp_bias = mlp_bias
        self.layerscale_value = as_float("layerscale_value", layerscale_value)
        self.drop_path_rate = as_float("drop_path_rate", drop_path_rate)
        self.use_gated_mlp = use_gated_mlp
        self.num_register_tokens = num_register_tokens
        self.pos_embed_shift = pos_embed_shift
        self.pos_embed_jitter = pos_embed_jitter
        self.pos_embed_rescale = pos_embed_rescale
        super().__init__(
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            intermediate_size,
            hidden_act,
            None,
            attention_dropout,
            initializer_range,
            layer_norm_eps,
            image_size,
            patch_size,
            num_channels,
            **fields,
        )

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        return Architecture(
            register_tokens=self.num_register_tokens,
            absolute_positions=None,
            resamples_unasked=True,
            mask_token=True,
            query_bias=self.query_bias,
            key_bias=self.key_bias,
            value_bias=self.value_bias,
            output_bias=self.proj_bias,
            mlp_bias=self.mlp_bias,
            gated_mlp=self.use_gated_mlp,
            rotary_positions="centres",
            layer_scale=self.layerscale_value,
            drop_path_rate=self.drop_path_rate,
            drop_path_growth="constant",
            pooler="class-token",
        )

    def validate(self) -> None:
        """See `PretrainedConfig.validate`."""
        super().validate()
        require_switches(self, SWITCHES)
        require_integer("num_register_tokens", self.num_register_tokens, 0, MOST_REGISTERS)
        require_number("rope_theta", self.rope_theta, 1.0, 1e12)
        require_number("layerscale_value", self.layerscale_value, 0.0, 1e6)
        require_number("drop_path_rate", self.drop_path_rate, 0.0, 1.0, upper_included=False)
        require_quarters(self)
        for name in AUGMENTATIONS:
            if (value := getattr(self, name)) is not None:
                require_number(name, value, 0.0 if name == "pos_embed_shift" else 1.0, 1e3)


FAMILY = Family(
    title="DINOv3",
    paper="https://arxiv.org/abs/2508.10104",
    config_class=DINOv3ViTConfig,
    models={"model": "DINOv3ViTModel", "backbone": "DINOv3ViTBackbone"},
    image_processor="DINOv3ViTImageProcessorFast",
)
