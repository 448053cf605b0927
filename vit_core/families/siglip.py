"""SigLIP (Zhai et al. 2023) and SigLIP 2 of a fixed size: no class token; a trained query gathers the answer."""

from __future__ import annotations

from vit_core.architecture import Architecture
from vit_core.families.family import Family
from vit_core.families.vision_tower import TwoTowersConfig, VisionTowerConfig


class SiglipVisionConfig(VisionTowerConfig):
    """The configuration of SigLIP's image tower (Zhai et al. 2023, https://arxiv.org/abs/2303.15343)."""

    model_type = "siglip_vision_model"
    type_of_both = "siglip"

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        return Architecture(prefix_tokens=(), pooler="attention", keeps_pooler=True, classifier_reads="mean")


class SiglipConfig(TwoTowersConfig, SiglipVisionConfig):
    """The configuration of a SigLIP (https://arxiv.org/abs/2303.15343), of whose image tower Trivit has the models."""

    model_type = "siglip"
    tower_class = SiglipVisionConfig


FAMILY = Family(
    title="SigLIP",
    paper="https://arxiv.org/abs/2303.15343",
    config_class=SiglipVisionConfig,
    config_classes={"image-classification": SiglipConfig},
    models={"model": "SiglipVisionModel", "image-classification": "SiglipForImageClassification"},
    image_processor="SiglipImageProcessor",
)
