"""data2vec for images (Baevski et al. 2022): a BEiT that was taught by its own average."""

from __future__ import annotations

from dataclasses import replace

from vit_core.architecture import Architecture
from vit_core.families.beit import RelativePositionConfig
from vit_core.families.family import Family


class Data2VecVisionConfig(RelativePositionConfig):
    """The configuration of a data2vec for images (Baevski et al. 2022, https://arxiv.org/abs/2202.03555).

    Its arguments are those of `RelativePositionConfig`.
    """

    model_type = "data2vec-vision"
    base_model_prefix = "data2vec_vision"

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        return replace(super().architecture, has_pooler=False)


FAMILY = Family(
    title="data2vec",
    paper="https://arxiv.org/abs/2202.03555",
    config_class=Data2VecVisionConfig,
    models={"model": "Data2VecVisionModel", "image-classification": "Data2VecVisionForImageClassification"},
    image_processor="BeitImageProcessor",
)
