"""SigLIP (Zhai et al. 2023) and SigLIP 2 of a fixed size: no class token; a trained query gathers the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from vit_core.architecture import Architecture
from vit_core.checks import require_switches
from vit_core.families.family import Family
from vit_core.families.vision_tower import VISION, TwoTowersConfig, VisionTowerConfig


class SiglipVisionConfig(VisionTowerConfig):
    """The configuration of SigLIP's image tower (Zhai et al. 2023, https://arxiv.org/abs/2303.15343).

    Args:
        *sizes: see `VisionTowerConfig`.
        vision_use_head: whether there is a pooler, which gathers the answer; a file says it where there is none.
        **fields: see `VisionTowerConfig`.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    model_type = "siglip_vision_model"
    type_of_both = "siglip"
    tower_fields: ClassVar[tuple[str, ...]] = (*VisionTowerConfig.tower_fields, "vision_use_head")

    def __init__(self, /, *sizes: Any, vision_use_head: bool = True, **fields: Any) -> None:
        self.vision_use_head = vision_use_head
        super().__init__(*sizes, **fields)

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        return Architecture(
            prefix_tokens=(),
            pooler="attention",
            has_pooler=self.vision_use_head,
            keeps_pooler=self.vision_use_head,
            classifier_reads="mean",
        )

    def validate(self) -> None:
        """See `PretrainedConfig.validate`."""
        super().validate()
        require_switches(self, ("vision_use_head",))

    def to_diff_dict(self) -> dict[str, Any]:
        """See `PretrainedConfig.to_diff_dict`."""
        return _unless_usual(super().to_diff_dict())


class SiglipConfig(TwoTowersConfig, SiglipVisionConfig):
    """The configuration of a SigLIP (https://arxiv.org/abs/2303.15343), of whose image tower Trivit has the models."""

    model_type = "siglip"
    tower_class = SiglipVisionConfig

    def to_diff_dict(self) -> dict[str, Any]:
        """See `PretrainedConfig.to_diff_dict`."""
        values = super().to_diff_dict()
        return {**values, VISION: _unless_usual(values[VISION])}


def _unless_usual(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a config without what the files of most models, which have a pooler, do not say."""
    return {name: value for name, value in values.items() if name != "vision_use_head" or not value}


FAMILY = Family(
    title="SigLIP",
    paper="https://arxiv.org/abs/2303.15343",
    config_class=SiglipVisionConfig,
    config_classes={"image-classification": SiglipConfig},
    models={"model": "SiglipVisionModel", "image-classification": "SiglipForImageClassification"},
    image_processor="SiglipImageProcessor",
)
