"""What the configs of CLIP and SigLIP have in common: their files may describe an image tower beside a text tower."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from vit_core.config import PretrainedConfig, SizePair

VISION, TEXT = "vision_config", "text_config"
#: Fields that no tensor tells. transformers 4 leaves out of what it says of a tower whatever is its default.
UNTOLD = ("num_attention_heads", "hidden_act", "layer_norm_eps")


class VisionTowerConfig(PretrainedConfig):
    """The configuration of the image tower of a model of images and texts.

    A file of both towers is read too: what it says of the text tower is left out, or kept by the class for such files.

    Args:
        hidden_size: see `PretrainedConfig`, as for all up to `num_channels`.
        intermediate_size: width of the hidden layer of the MLP.
        num_hidden_layers: number of transformer layers.
        num_attention_heads: attention heads of a layer; divides `hidden_size`.
        num_channels: channels of the images.
        image_size: size of the images in pixels, one number for a square or (height, width).
        patch_size: size of the patches in pixels, likewise.
        hidden_act: activation of the MLP.
        layer_norm_eps: epsilon of every LayerNorm.
        attention_dropout: dropout of attention probabilities in training.
        **fields: see `PretrainedConfig`.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    base_model_prefix = "vision_model"
    attribute_map: ClassVar[dict[str, str]] = {"attention_probs_dropout_prob": "attention_dropout"}
    #: The model type of files that describe both towers, and what they say of this one.
    type_of_both: ClassVar[str]
    tower_fields: ClassVar[tuple[str, ...]] = (
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels"),
        *("image_size", "patch_size", "hidden_act", "layer_norm_eps", "attention_dropout"),
    )

    def __init__(
        self,
        /,
        hidden_size: int = 768,
        intermediate_size: int = 3072,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        num_channels: int = 3,
        image_size: SizePair = 224,
        patch_size: SizePair = 16,
        hidden_act: str | Callable[..., Any] = "gelu_pytorch_tanh",
        layer_norm_eps: float = 1e-6,
        attention_dropout: float = 0.0,
        **fields: Any,
    ) -> None:
        super().__init__(
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            intermediate_size,
            hidden_act,
            None,
            attention_dropout,
            fields.pop("initializer_range", None),
            layer_norm_eps,
            image_size,
            patch_size,
            num_channels,
            **fields,
        )

    @classmethod
    def fields_in(cls, config_dict: Mapping[str, Any]) -> dict[str, Any]:
        """See `PretrainedConfig.fields_in`; those of an image tower may lie under "vision_config"."""
        return cls._of_both(config_dict) if config_dict.get("model_type") == cls.type_of_both else dict(config_dict)

    @classmethod
    def _of_both(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        defaults = {name: getattr(cls(), name) for name in UNTOLD}
        tower = {**defaults, **_as_dict(VISION, values.get(VISION) or {}), **values}  # what is said of both, too
        return {name: value for name, value in tower.items() if name in cls.tower_fields}


class TwoTowersConfig(VisionTowerConfig):
    """The configuration of a model of images and texts, of which Trivit has the image tower.

    The fields of the image tower are its own. A file has them under "vision_config", as transformers writes it; what it
    says of the text tower and of both is kept and written back.

    Attributes:
        tower_class: the class of the image tower's config.

    Args:
        text_config: the fields of the text tower, or its config.
        vision_config: those of the image tower, or its config, instead of giving them one by one.
        **fields: see the config of the image tower.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    tower_class: ClassVar[type[VisionTowerConfig]]

    def __init__(self, /, text_config: Any = None, vision_config: Any = None, **fields: Any) -> None:
        if text_config is not None:
            fields[TEXT] = _as_dict(TEXT, text_config)
        tower = {} if vision_config is None else self._of_both({VISION: _as_dict(VISION, vision_config)})
        super().__init__(**{**tower, **fields})

    @classmethod
    def _of_both(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return {**super()._of_both(values), **{name: value for name, value in values.items() if name != VISION}}

    @property
    def vision_config(self) -> VisionTowerConfig:
        """The image tower's config."""
        return self.tower_class(**{name: vars(self)[name] for name in self.tower_fields})

    def to_dict(self) -> dict[str, Any]:
        """Every field, those of the image tower under "vision_config"."""
        values = super().to_dict()
        tower = {name: values.pop(name) for name in self.tower_fields}
        return {**values, VISION: {**tower, "model_type": self.tower_class.model_type}}


def _as_dict(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, PretrainedConfig):
        return value.to_dict()
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is a {type(value).__name__}; give a config or its fields.")
    return dict(value)
