"""The public models of ViT and its relatives, with the names and signatures of transformers 4.

What they compute is in `vit_torch.modeling`, `masked_image_modeling`, `masked_autoencoder` and `image_projection`; what
each is made of, its config says (`vit_core.families`).
"""

from __future__ import annotations

from typing import Any

from vit_core import (
    BeitConfig,
    CLIPConfig,
    CLIPVisionConfig,
    Data2VecVisionConfig,
    DeiTConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ViTConfig,
    IJepaConfig,
    PretrainedConfig,
    SiglipConfig,
    SiglipVisionConfig,
    ViTConfig,
    ViTMAEConfig,
    ViTMSNConfig,
)
from vit_torch.backbone import VisionTransformerBackbone
from vit_torch.image_projection import VisionTransformerModelWithProjection
from vit_torch.masked_autoencoder import MaskedAutoencoderForPreTraining, MaskedAutoencoderModel
from vit_torch.masked_image_modeling import (
    VisionTransformerForMaskedImageModeling,
    VisionTransformerForMaskedTokenModeling,
)
from vit_torch.modeling import (
    VisionTransformerForImageClassification,
    VisionTransformerForImageClassificationWithTeacher,
    VisionTransformerModel,
    VisionTransformerPreTrainedModel,
)
from vit_torch.pretrained import PreTrainedModel

__all__ = [
    "BeitForImageClassification",
    "BeitForMaskedImageModeling",
    "BeitModel",
    "BeitPreTrainedModel",
    "CLIPForImageClassification",
    "CLIPPreTrainedModel",
    "CLIPVisionModel",
    "CLIPVisionModelWithProjection",
    "DINOv3ViTBackbone",
    "DINOv3ViTModel",
    "DINOv3ViTPreTrainedModel",
    "Data2VecVisionForImageClassification",
    "Data2VecVisionModel",
    "Data2VecVisionPreTrainedModel",
    "DeiTForImageClassification",
    "DeiTForImageClassificationWithTeacher",
    "DeiTForMaskedImageModeling",
    "DeiTModel",
    "DeiTPreTrainedModel",
    "Dinov2Backbone",
    "Dinov2ForImageClassification",
    "Dinov2Model",
    "Dinov2PreTrainedModel",
    "Dinov2WithRegistersBackbone",
    "Dinov2WithRegistersForImageClassification",
    "Dinov2WithRegistersModel",
    "Dinov2WithRegistersPreTrainedModel",
    "IJepaForImageClassification",
    "IJepaModel",
    "IJepaPreTrainedModel",
    "SiglipForImageClassification",
    "SiglipPreTrainedModel",
    "SiglipVisionModel",
    "ViTBackbone",
    "ViTForImageClassification",
    "ViTForMaskedImageModeling",
    "ViTMAEForPreTraining",
    "ViTMAEModel",
    "ViTMAEPreTrainedModel",
    "ViTMSNForImageClassification",
    "ViTMSNModel",
    "ViTMSNPreTrainedModel",
    "ViTModel",
    "ViTPreTrainedModel",
    "VisionTransformerBackbone",
    "VisionTransformerForImageClassification",
    "VisionTransformerForImageClassificationWithTeacher",
    "VisionTransformerForMaskedImageModeling",
    "VisionTransformerForMaskedTokenModeling",
    "VisionTransformerModel",
    "VisionTransformerModelWithProjection",
    "VisionTransformerPreTrainedModel",
]

# ViT, and DINO's backbones with it: https://arxiv.org/abs/2010.11929


class ViTPreTrainedModel(PreTrainedModel):
    """What the models of ViT share, and what models of one's own are built on; see `PreTrainedModel`."""

    config_class: type[PretrainedConfig] = ViTConfig
    base_model_prefix = ViTConfig.base_model_prefix


class ViTModel(ViTPreTrainedModel, VisionTransformerModel):
    """The Vision Transformer without a head.

    Args:
        config: its sizes and settings.
        add_pooling_layer: whether to add the pooler; it is unless told otherwise.
        use_mask_token: whether to have a mask token, which `bool_masked_pos` needs.
    """


class ViTForMaskedImageModeling(ViTPreTrainedModel, VisionTransformerForMaskedImageModeling):
    """The Vision Transformer with a decoder that reconstructs masked patches (SimMIM, https://arxiv.org/abs/2111.09886).

    Args:
        config: its sizes and settings; a patch is `encoder_stride` pixels high and wide.
    """

    base_model_class = ViTModel


class ViTForImageClassification(ViTPreTrainedModel, VisionTransformerForImageClassification):
    """The Vision Transformer with a linear classifier on the class token or on the pooler's output.

    Args:
        config: its sizes and settings; `num_labels` classes, and with 0 what the classifier would read instead of
            logits. With `classifier_uses_pooler` that is the pooler's output.
    """

    base_model_class = ViTModel


class ViTBackbone(ViTPreTrainedModel, VisionTransformerBackbone):
    """ViT that returns feature maps; see `VisionTransformerBackbone`."""


# DeiT: https://arxiv.org/abs/2012.12877. transformers has the last two arguments in another order here.


class DeiTPreTrainedModel(PreTrainedModel):
    """What the models of DeiT share; see `PreTrainedModel`."""

    config_class: type[PretrainedConfig] = DeiTConfig
    base_model_prefix = DeiTConfig.base_model_prefix


class DeiTModel(DeiTPreTrainedModel, VisionTransformerModel):
    """DeiT without a head; see `VisionTransformerModel`."""

    def forward(  # type: ignore[override]  # noqa: D102
        self,
        pixel_values: Any = None,
        bool_masked_pos: Any = None,
        head_mask: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        with_pooler: bool = True,
        prefix_only: bool = False,
    ) -> Any:
        return super().forward(
            pixel_values,
            bool_masked_pos,
            head_mask,
            output_attentions,
            output_hidden_states,
            interpolate_pos_encoding,
            return_dict,
            with_pooler,
            prefix_only,
        )


class DeiTForMaskedImageModeling(DeiTPreTrainedModel, VisionTransformerForMaskedImageModeling):
    """DeiT with a decoder that reconstructs masked patches; see `VisionTransformerForMaskedImageModeling`.

    As in transformers, the distillation token stands for the first patch and the last patch is not decoded.
    """

    base_model_class = DeiTModel

    def forward(  # type: ignore[override]  # noqa: D102
        self,
        pixel_values: Any = None,
        bool_masked_pos: Any = None,
        head_mask: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
    ) -> Any:
        return super().forward(
            pixel_values,
            bool_masked_pos,
            head_mask,
            output_attentions,
            output_hidden_states,
            interpolate_pos_encoding,
            return_dict,
        )


class DeiTForImageClassification(DeiTPreTrainedModel, VisionTransformerForImageClassification):
    """DeiT with a linear classifier on the class token; see `VisionTransformerForImageClassification`."""

    base_model_class = DeiTModel

    def forward(  # type: ignore[override]  # noqa: D102
        self,
        pixel_values: Any = None,
        head_mask: Any = None,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
    ) -> Any:
        return super().forward(
            pixel_values,
            head_mask,
            labels,
            output_attentions,
            output_hidden_states,
            interpolate_pos_encoding,
            return_dict,
        )


class DeiTForImageClassificationWithTeacher(DeiTPreTrainedModel, VisionTransformerForImageClassificationWithTeacher):
    """DeiT with two classifiers; see `VisionTransformerForImageClassificationWithTeacher`."""

    base_model_class = DeiTModel

    def forward(  # type: ignore[override]  # noqa: D102
        self,
        pixel_values: Any = None,
        head_mask: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
    ) -> Any:
        return super().forward(
            pixel_values, head_mask, output_attentions, output_hidden_states, interpolate_pos_encoding, return_dict
        )


# MAE: https://arxiv.org/abs/2111.06377


class ViTMAEPreTrainedModel(PreTrainedModel):
    """What the models of MAE share; see `PreTrainedModel`."""

    config_class: type[PretrainedConfig] = ViTMAEConfig
    base_model_prefix = ViTMAEConfig.base_model_prefix


class ViTMAEModel(ViTMAEPreTrainedModel, MaskedAutoencoderModel):
    """MAE's encoder, which sees a share of the patches; see `MaskedAutoencoderModel`."""


class ViTMAEForPreTraining(ViTMAEPreTrainedModel, MaskedAutoencoderForPreTraining):
    """MAE with its decoder; see `MaskedAutoencoderForPreTraining`."""

    base_model_class = ViTMAEModel


# BEiT: https://arxiv.org/abs/2106.08254


class BeitPreTrainedModel(PreTrainedModel):
    """What the models of BEiT share; see `PreTrainedModel`."""

    config_class: type[PretrainedConfig] = BeitConfig
    base_model_prefix = BeitConfig.base_model_prefix


class BeitModel(BeitPreTrainedModel, VisionTransformerModel):
    """BEiT without a head; see `VisionTransformerModel`."""


class BeitForMaskedImageModeling(BeitPreTrainedModel, VisionTransformerForMaskedTokenModeling):
    """BEiT with a head that predicts visual tokens; see `VisionTransformerForMaskedTokenModeling`."""

    base_model_class = BeitModel


class BeitForImageClassification(BeitPreTrainedModel, VisionTransformerForImageClassification):
    """BEiT with a linear classifier; see `VisionTransformerForImageClassification`."""

    base_model_class = BeitModel


# data2vec: https://arxiv.org/abs/2202.03555


class Data2VecVisionPreTrainedModel(PreTrainedModel):
    """What the models of data2vec share; see `PreTrainedModel`."""

    config_class: type[PretrainedConfig] = Data2VecVisionConfig
    base_model_prefix = Data2VecVisionConfig.base_model_prefix


class Data2VecVisionModel(Data2VecVisionPreTrainedModel, VisionTransformerModel):
    """data2vec without a head and, unless told otherwise, without a pooler; see `VisionTransformerModel`."""


class Data2VecVisionForImageClassification(Data2VecVisionPreTrainedModel, VisionTransformerForImageClassification):
    """data2vec with a linear classifier; see `VisionTransformerForImageClassification`."""

    base_model_class = Data2VecVisionModel


# ViT-MSN: https://arxiv.org/abs/2204.07141


class ViTMSNPreTrainedModel(PreTrainedModel):
    """What the models of ViT-MSN share; see `PreTrainedModel`."""

    config_class: type[PretrainedConfig] = ViTMSNConfig
    base_model_prefix = ViTMSNConfig.base_model_prefix


class ViTMSNModel(ViTMSNPreTrainedModel, VisionTransformerModel):
    """ViT-MSN without a head; see `VisionTransformerModel`. It has no pooler."""

    def __init__(
        self, config: PretrainedConfig, use_mask_token: bool = False, add_pooling_layer: bool | None = None
    ) -> None:
        super().__init__(config, add_pooling_layer, use_mask_token)


class ViTMSNForImageClassification(ViTMSNPreTrainedModel, VisionTransformerForImageClassification):
    """ViT-MSN with a linear classifier on the class token; see `VisionTransformerForImageClassification`."""

    base_model_class = ViTMSNModel


# I-JEPA: https://arxiv.org/abs/2301.08243


class IJepaPreTrainedModel(PreTrainedModel):
    """What the models of I-JEPA share; see `PreTrainedModel`."""

    config_class: type[PretrainedConfig] = IJepaConfig
    base_model_prefix = IJepaConfig.base_model_prefix


class IJepaModel(IJepaPreTrainedModel, VisionTransformerModel):
    """I-JEPA without a head and, unless told otherwise, without a pooler; see `VisionTransformerModel`."""


class IJepaForImageClassification(IJepaPreTrainedModel, VisionTransformerForImageClassification):
    """I-JEPA with a linear classifier on the mean of the patches; see `VisionTransformerForImageClassification`."""

    base_model_class = IJepaModel


# DINOv2: https://arxiv.org/abs/2304.07193, and with registers: https://arxiv.org/abs/2309.16588


class Dinov2PreTrainedModel(PreTrainedModel):
    """What the models of DINOv2 share; see `PreTrainedModel`."""

    config_class: type[PretrainedConfig] = Dinov2Config
    base_model_prefix = Dinov2Config.base_model_prefix


class Dinov2Model(Dinov2PreTrainedModel, VisionTransformerModel):
    """DINOv2 without a head; see `VisionTransformerModel`."""


class Dinov2ForImageClassification(Dinov2PreTrainedModel, VisionTransformerForImageClassification):
    """DINOv2 with a linear classifier on the class token and the mean of the patches, side by side.

    See `VisionTransformerForImageClassification`.
    """

    base_model_class = Dinov2Model


class Dinov2Backbone(Dinov2PreTrainedModel, VisionTransformerBackbone):
    """DINOv2 that returns feature maps; see `VisionTransformerBackbone`."""


class Dinov2WithRegistersPreTrainedModel(PreTrainedModel):
    """What the models of DINOv2 with registers share; see `PreTrainedModel`."""

    config_class: type[PretrainedConfig] = Dinov2WithRegistersConfig
    base_model_prefix = Dinov2WithRegistersConfig.base_model_prefix


class Dinov2WithRegistersModel(Dinov2WithRegistersPreTrainedModel, VisionTransformerModel):
    """DINOv2 with registers and without a head; see `VisionTransformerModel`."""


class Dinov2WithRegistersForImageClassification(
    Dinov2WithRegistersPreTrainedModel, VisionTransformerForImageClassification
):
    """DINOv2 with registers and a linear classifier on the class token and the mean of the patches, side by side.

    See `VisionTransformerForImageClassification`.
    """

    base_model_class = Dinov2WithRegistersModel


class Dinov2WithRegistersBackbone(Dinov2WithRegistersPreTrainedModel, VisionTransformerBackbone):
    """DINOv2 with registers that returns feature maps; see `VisionTransformerBackbone`."""


# DINOv3: https://arxiv.org/abs/2508.10104


class DINOv3ViTPreTrainedModel(PreTrainedModel):
    """What the models of DINOv3 share; see `PreTrainedModel`."""

    config_class: type[PretrainedConfig] = DINOv3ViTConfig
    base_model_prefix = DINOv3ViTConfig.base_model_prefix


class DINOv3ViTModel(DINOv3ViTPreTrainedModel, VisionTransformerModel):
    """DINOv3 without a head; see `VisionTransformerModel`."""


class DINOv3ViTBackbone(DINOv3ViTPreTrainedModel, VisionTransformerBackbone):
    """DINOv3 that returns feature maps; see `VisionTransformerBackbone`."""


# The image towers of SigLIP, https://arxiv.org/abs/2303.15343, and CLIP, https://arxiv.org/abs/2103.00020. transformers
# has the arguments in an order of their own here.


class VisionTowerModel(VisionTransformerModel):
    """The image tower of a model of images and texts; see `VisionTransformerModel`."""

    @property
    def vision_model(self) -> VisionTowerModel:
        """The model itself, which in transformers is one part of a model that has no other."""
        return self

    def forward(  # type: ignore[override]
        self,
        pixel_values: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        return_dict: bool | None = None,
        head_mask: Any = None,
        bool_masked_pos: Any = None,
        with_pooler: bool = True,
        prefix_only: bool = False,
    ) -> Any:
        return super().forward(
            pixel_values,
            bool_masked_pos,
            head_mask,
            output_attentions,
            output_hidden_states,
            interpolate_pos_encoding,
            return_dict,
            with_pooler,
            prefix_only,
        )


class VisionTowerForImageClassification(VisionTransformerForImageClassification):
    """An image tower with a linear classifier; see `VisionTransformerForImageClassification`."""

    def forward(  # type: ignore[override]
        self,
        pixel_values: Any = None,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        return_dict: bool | None = None,
        head_mask: Any = None,
    ) -> Any:
        return super().forward(
            pixel_values,
            head_mask,
            labels,
            output_attentions,
            output_hidden_states,
            interpolate_pos_encoding,
            return_dict,
        )


class SiglipPreTrainedModel(PreTrainedModel):
    """What the models of SigLIP share; see `PreTrainedModel`."""

    config_class: type[PretrainedConfig] = SiglipVisionConfig
    base_model_prefix = SiglipVisionConfig.base_model_prefix


class SiglipVisionModel(SiglipPreTrainedModel, VisionTowerModel):
    """SigLIP's image tower without a head; see `VisionTransformerModel`."""


class SiglipForImageClassification(SiglipPreTrainedModel, VisionTowerForImageClassification):
    """SigLIP's image tower with a linear classifier on the mean of the patches.

    See `VisionTransformerForImageClassification`.
    """

    config_class = SiglipConfig
    base_model_class = SiglipVisionModel


class CLIPPreTrainedModel(PreTrainedModel):
    """What the models of CLIP share; see `PreTrainedModel`."""

    config_class: type[PretrainedConfig] = CLIPVisionConfig
    base_model_prefix = CLIPVisionConfig.base_model_prefix


class CLIPVisionModel(CLIPPreTrainedModel, VisionTowerModel):
    """CLIP's image tower without a head; see `VisionTransformerModel`. Its tokens are not normed, its summary is."""


class CLIPVisionModelWithProjection(CLIPPreTrainedModel, VisionTransformerModelWithProjection):
    """CLIP's image tower with the projection to where texts are; see `VisionTransformerModelWithProjection`."""

    base_model_class = CLIPVisionModel


class CLIPForImageClassification(CLIPPreTrainedModel, VisionTowerForImageClassification):
    """CLIP's image tower with a linear classifier on the mean of the patches.

    See `VisionTransformerForImageClassification`.
    """

    config_class = CLIPConfig
    base_model_class = CLIPVisionModel
