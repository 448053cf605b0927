"""DINOv2 (Oquab et al. 2023), with and without registers: scaled layers, and a head that reads class token and mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vit_core.architecture import MOST_REGISTERS, Architecture, Resampling, choices
from vit_core.checks import as_float, require_choice, require_integer, require_number, require_switches
from vit_core.config import SizePair
from vit_core.families.family import Family
from vit_core.feature_maps import BackboneConfig

#: Fields that are either True or False.
SWITCHES = ("use_swiglu_ffn", "use_mask_token")


class BaseDinov2Config(BackboneConfig):
    """What the configs of DINOv2 with and without registers have in common.

    Args:
        hidden_size: see `PretrainedConfig`, as for all up to `num_channels` but `mlp_ratio`.
        num_hidden_layers: number of transformer layers.
        num_attention_heads: attention heads of a layer; divides `hidden_size`.
        mlp_ratio: width of the hidden layer of the MLP, in widths of a token.
        hidden_act: activation of the MLP; a gated MLP has SiLU.
        hidden_dropout_prob: dropout of embeddings and attention output in training.
        attention_probs_dropout_prob: dropout of attention probabilities in training.
        initializer_range: standard deviation of the truncated normal that initialises weights.
        layer_norm_eps: epsilon of every LayerNorm.
        image_size: size of the images in pixels, one number for a square or (height, width). Others are taken, too.
        patch_size: size of the patches in pixels, likewise.
        num_channels: channels of the images.
        qkv_bias: whether query, key and value projections have a bias.
        layerscale_value: where the factors start by which layers scale what they add.
        drop_path_rate: how often each layer is skipped in training, in [0, 1).
        use_swiglu_ffn: whether the MLP is gated; its width is two thirds then, rounded up to a multiple of 8.
        apply_layernorm: whether a backbone's feature maps are normed.
        reshape_hidden_states: whether they are maps, (batch, hidden, rows, columns), and not tokens.
        use_mask_token: whether there is a mask token, which `bool_masked_pos` needs.
        **fields: `out_features` or `out_indices` of a backbone; `position_resampling`, of Trivit's own ("offset" for
            the files that DINOv2's authors published; see `vit_core.architecture.Resampling`); and those of
            `PretrainedConfig`.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    position_resampling: Resampling = "bicubic"

    def __init__(
        self,
        /,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        mlp_ratio: float = 4,
        hidden_act: str | Callable[..., Any] = "gelu",
        hidden_dropout_prob: float = 0.0,
        attention_probs_dropout_prob: float = 0.0,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-6,
        image_size: SizePair = 224,
        patch_size: SizePair = 14,
        num_channels: int = 3,
        qkv_bias: bool = True,
        layerscale_value: float = 1.0,
        drop_path_rate: float = 0.0,
        use_swiglu_ffn: bool = False,
        apply_layernorm: bool = True,
        reshape_hidden_states: bool = True,
        use_mask_token: bool = True,
        **fields: Any,
    ) -> None:
        # A file that says 4.0 of it is refused by transformers 5.
        self.mlp_ratio = int(mlp_ratio) if isinstance(mlp_ratio, float) and mlp_ratio.is_integer() else mlp_ratio
        self.qkv_bias = qkv_bias
        self.layerscale_value = as_float("layerscale_value", layerscale_value)
        self.drop_path_rate = as_float("drop_path_rate", drop_path_rate)
        self.use_swiglu_ffn = use_swiglu_ffn
        self.apply_layernorm = apply_layernorm
        self.reshape_hidden_states = reshape_hidden_states
        self.use_mask_token = use_mask_token
        if "intermediate_size" in fields:
            raise ValueError("intermediate_size follows from hidden_size and mlp_ratio here; give mlp_ratio instead.")
        super().__init__(
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            None,
            hidden_act,
            hidden_dropout_prob,
            attention_probs_dropout_prob,
            initializer_range,
            layer_norm_eps,
            image_size,
            patch_size,
            num_channels,
            **fields,
        )

    @property
    def intermediate_size(self) -> int:  # type: ignore[override]
        """Width of the hidden layer of the MLP."""
        width = int(self.hidden_size * self.mlp_ratio)
        return (width * 2 // 3 + 7) // 8 * 8 if self.use_swiglu_ffn else width

    @property
    def mlp_act(self) -> str | Callable[..., Any]:
        """Activation of the MLP, or of its gate."""
        return "silu" if self.use_swiglu_ffn else self.hidden_act

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        return Architecture(
            position_resampling=self.position_resampling,
            resamples_unasked=True,
            mask_token=self.use_mask_token,
            gated_mlp=self.use_swiglu_ffn,
            mlp_dropout=False,
            layer_scale=self.layerscale_value,
            drop_path_rate=self.drop_path_rate,
            drop_path_growth="constant",
            pooler="class-token",
            classifier_reads="class-and-mean",
        )

    def validate(self) -> None:
        """See `PretrainedConfig.validate`."""
        require_number("mlp_ratio", self.mlp_ratio, 0.01, 1e3)
        super().validate()
        require_switches(self, SWITCHES)
        require_choice("position_resampling", self.position_resampling, choices("position_resampling"))
        require_number("layerscale_value", self.layerscale_value, 0.0, 1e6)
        require_number("drop_path_rate", self.drop_path_rate, 0.0, 1.0, upper_included=False)


class Dinov2Config(BaseDinov2Config):
    """The configuration of a DINOv2 (Oquab et al. 2023, https://arxiv.org/abs/2304.07193).

    Its arguments are those of `BaseDinov2Config`.
    """

    model_type = "dinov2"
    base_model_prefix = "dinov2"


class Dinov2WithRegistersConfig(BaseDinov2Config):
    """The configuration of a DINOv2 with register tokens (Darcet et al. 2023, https://arxiv.org/abs/2309.16588).

    Args:
        *sizes: see `BaseDinov2Config`.
        patch_size: size of the patches in pixels, one number for a square or (height, width).
        num_register_tokens: how many tokens stand between class token and patches.
        **fields: see `BaseDinov2Config`. There is always a mask token.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    model_type = "dinov2_with_registers"
    base_model_prefix = "dinov2_with_registers"
    position_resampling = "antialiased"
    use_mask_token = True

    def __init__(self, /, *sizes: Any, patch_size: SizePair = 16, num_register_tokens: int = 4, **fields: Any) -> None:
        self.num_register_tokens = num_register_tokens
        super().__init__(*sizes, **{"patch_size": patch_size, **fields})

    @property
    def architecture(self) -> Architecture:
        """What the model is made of; positions are resampled with antialiasing, as transformers does it here."""
        return replace(
            super().architecture,
            register_tokens=self.num_register_tokens,
            positioned="class-token",
        )

    def validate(self) -> None:
        """See `PretrainedConfig.validate`."""
        super().validate()
        require_integer("num_register_tokens", self.num_register_tokens, 0, MOST_REGISTERS)


DINOV2 = Family(
    title="DINOv2",
    paper="https://arxiv.org/abs/2304.07193",
    config_class=Dinov2Config,
    models={
        "model": "Dinov2Model",
        "image-classification": "Dinov2ForImageClassification",
        "backbone": "Dinov2Backbone",
    },
    image_processor="BitImageProcessor",
)
DINOV2_WITH_REGISTERS = Family(
    title="DINOv2 with registers",
    paper="https://arxiv.org/abs/2309.16588",
    config_class=Dinov2WithRegistersConfig,
    models={
        "model": "Dinov2WithRegistersModel",
        "image-classification": "Dinov2WithRegistersForImageClassification",
        "backbone": "Dinov2WithRegistersBackbone",
    },
    image_processor="BitImageProcessor",
)
