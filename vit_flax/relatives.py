"""The public models of ViT and its relatives, with the names of transformers 4 and, where it has them, its signatures.

What they compute is in `vit_flax.modeling`, `masked_image_modeling` and `masked_autoencoder`; what each is made of,
its config says (`vit_core.families`).
"""

from __future__ import annotations

from collections.abc import Mapping
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
from vit_flax.backbone import FlaxVisionTransformerBackbone, FlaxVisionTransformerBackboneModule
from vit_flax.image_projection import (
    FlaxVisionTransformerModelWithProjection,
    FlaxVisionTransformerModelWithProjectionModule,
)
from vit_flax.masked_autoencoder import (
    FlaxMaskedAutoencoderForPreTraining,
    FlaxMaskedAutoencoderForPreTrainingModule,
    FlaxMaskedAutoencoderModel,
    FlaxMaskedAutoencoderModule,
)
from vit_flax.masked_image_modeling import (
    FlaxVisionTransformerForMaskedImageModeling,
    FlaxVisionTransformerForMaskedImageModelingModule,
    FlaxVisionTransformerForMaskedTokenModeling,
    FlaxVisionTransformerForMaskedTokenModelingModule,
)
from vit_flax.modeling import (
    FlaxVisionTransformerForImageClassification,
    FlaxVisionTransformerForImageClassificationModule,
    FlaxVisionTransformerForImageClassificationWithTeacher,
    FlaxVisionTransformerForImageClassificationWithTeacherModule,
    FlaxVisionTransformerModel,
    FlaxVisionTransformerModule,
    FlaxVisionTransformerPreTrainedModel,
)
from vit_flax.pretrained import FlaxPreTrainedModel

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
    "FlaxBeitForImageClassification",
    "FlaxBeitForImageClassificationModule",
    "FlaxBeitForMaskedImageModeling",
    "FlaxBeitForMaskedImageModelingModule",
    "FlaxBeitModel",
    "FlaxBeitModule",
    "FlaxBeitPreTrainedModel",
    "FlaxCLIPForImageClassification",
    "FlaxCLIPForImageClassificationModule",
    "FlaxCLIPPreTrainedModel",
    "FlaxCLIPVisionModel",
    "FlaxCLIPVisionModelWithProjection",
    "FlaxCLIPVisionModelWithProjectionModule",
    "FlaxCLIPVisionModule",
    "FlaxDINOv3ViTBackbone",
    "FlaxDINOv3ViTBackboneModule",
    "FlaxDINOv3ViTModel",
    "FlaxDINOv3ViTModule",
    "FlaxDINOv3ViTPreTrainedModel",
    "FlaxData2VecVisionForImageClassification",
    "FlaxData2VecVisionForImageClassificationModule",
    "FlaxData2VecVisionModel",
    "FlaxData2VecVisionModule",
    "FlaxData2VecVisionPreTrainedModel",
    "FlaxDeiTForImageClassification",
    "FlaxDeiTForImageClassificationModule",
    "FlaxDeiTForImageClassificationWithTeacher",
    "FlaxDeiTForImageClassificationWithTeacherModule",
    "FlaxDeiTForMaskedImageModeling",
    "FlaxDeiTForMaskedImageModelingModule",
    "FlaxDeiTModel",
    "FlaxDeiTModule",
    "FlaxDeiTPreTrainedModel",
    "FlaxDinov2Backbone",
    "FlaxDinov2BackboneModule",
    "FlaxDinov2ForImageClassification",
    "FlaxDinov2ForImageClassificationModule",
    "FlaxDinov2Model",
    "FlaxDinov2Module",
    "FlaxDinov2PreTrainedModel",
    "FlaxDinov2WithRegistersBackbone",
    "FlaxDinov2WithRegistersBackboneModule",
    "FlaxDinov2WithRegistersForImageClassification",
    "FlaxDinov2WithRegistersForImageClassificationModule",
    "FlaxDinov2WithRegistersModel",
    "FlaxDinov2WithRegistersModule",
    "FlaxDinov2WithRegistersPreTrainedModel",
    "FlaxIJepaForImageClassification",
    "FlaxIJepaForImageClassificationModule",
    "FlaxIJepaModel",
    "FlaxIJepaModule",
    "FlaxIJepaPreTrainedModel",
    "FlaxSiglipForImageClassification",
    "FlaxSiglipForImageClassificationModule",
    "FlaxSiglipPreTrainedModel",
    "FlaxSiglipVisionModel",
    "FlaxSiglipVisionModule",
    "FlaxViTBackbone",
    "FlaxViTBackboneModule",
    "FlaxViTForImageClassification",
    "FlaxViTForImageClassificationModule",
    "FlaxViTForMaskedImageModeling",
    "FlaxViTForMaskedImageModelingModule",
    "FlaxViTMAEForPreTraining",
    "FlaxViTMAEForPreTrainingModule",
    "FlaxViTMAEModel",
    "FlaxViTMAEModule",
    "FlaxViTMAEPreTrainedModel",
    "FlaxViTMSNForImageClassification",
    "FlaxViTMSNForImageClassificationModule",
    "FlaxViTMSNModel",
    "FlaxViTMSNModule",
    "FlaxViTMSNPreTrainedModel",
    "FlaxViTModel",
    "FlaxViTModule",
    "FlaxViTPreTrainedModel",
    "FlaxVisionTransformerBackbone",
    "FlaxVisionTransformerBackboneModule",
    "FlaxVisionTransformerForImageClassification",
    "FlaxVisionTransformerForImageClassificationModule",
    "FlaxVisionTransformerForImageClassificationWithTeacher",
    "FlaxVisionTransformerForImageClassificationWithTeacherModule",
    "FlaxVisionTransformerForMaskedImageModeling",
    "FlaxVisionTransformerForMaskedImageModelingModule",
    "FlaxVisionTransformerForMaskedTokenModeling",
    "FlaxVisionTransformerForMaskedTokenModelingModule",
    "FlaxVisionTransformerModel",
    "FlaxVisionTransformerModule",
    "FlaxVisionTransformerPreTrainedModel",
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
    "VisionTransformerPreTrainedModel",
]

# ViT, and DINO's backbones with it: https://arxiv.org/abs/2010.11929


class FlaxViTPreTrainedModel(FlaxPreTrainedModel):
    """What the models of ViT share, and what models of one's own are built on; see `FlaxPreTrainedModel`."""

    config_class: type[PretrainedConfig] = ViTConfig
    base_model_prefix = ViTConfig.base_model_prefix


class FlaxViTModel(FlaxViTPreTrainedModel, FlaxVisionTransformerModel):
    """The Vision Transformer without a head; see `FlaxVisionTransformerModel`."""


class FlaxViTForMaskedImageModeling(FlaxViTPreTrainedModel, FlaxVisionTransformerForMaskedImageModeling):
    """The Vision Transformer with a decoder that reconstructs masked patches.

    See `FlaxVisionTransformerForMaskedImageModeling`.
    """


class FlaxViTForImageClassification(FlaxViTPreTrainedModel, FlaxVisionTransformerForImageClassification):
    """The Vision Transformer with a linear classifier; see `FlaxVisionTransformerForImageClassification`."""


class FlaxViTBackbone(FlaxViTPreTrainedModel, FlaxVisionTransformerBackbone):
    """ViT that returns feature maps; see `FlaxVisionTransformerBackbone`."""


# DeiT: https://arxiv.org/abs/2012.12877


class FlaxDeiTPreTrainedModel(FlaxPreTrainedModel):
    """What the models of DeiT share; see `FlaxPreTrainedModel`."""

    config_class: type[PretrainedConfig] = DeiTConfig
    base_model_prefix = DeiTConfig.base_model_prefix


class FlaxDeiTModel(FlaxDeiTPreTrainedModel, FlaxVisionTransformerModel):
    """DeiT without a head; see `FlaxVisionTransformerModel`."""


class FlaxDeiTForMaskedImageModeling(FlaxDeiTPreTrainedModel, FlaxVisionTransformerForMaskedImageModeling):
    """DeiT with a decoder that reconstructs masked patches; see `FlaxVisionTransformerForMaskedImageModeling`.

    As in transformers, the distillation token stands for the first patch and the last patch is not decoded.
    """


class FlaxDeiTForImageClassification(FlaxDeiTPreTrainedModel, FlaxVisionTransformerForImageClassification):
    """DeiT with a linear classifier; see `FlaxVisionTransformerForImageClassification`."""


class FlaxDeiTForImageClassificationWithTeacher(
    FlaxDeiTPreTrainedModel, FlaxVisionTransformerForImageClassificationWithTeacher
):
    """DeiT with a classifier on the class token and one on the distillation token.

    See `FlaxVisionTransformerForImageClassificationWithTeacher`.
    """


# MAE: https://arxiv.org/abs/2111.06377


class FlaxViTMAEPreTrainedModel(FlaxPreTrainedModel):
    """What the models of MAE share; see `FlaxPreTrainedModel`."""

    config_class: type[PretrainedConfig] = ViTMAEConfig
    base_model_prefix = ViTMAEConfig.base_model_prefix


class FlaxViTMAEModel(FlaxViTMAEPreTrainedModel, FlaxMaskedAutoencoderModel):
    """MAE without a head; see `FlaxMaskedAutoencoderModel`."""


class FlaxViTMAEForPreTraining(FlaxViTMAEPreTrainedModel, FlaxMaskedAutoencoderForPreTraining):
    """MAE with its decoder, which paints the patches that the encoder does not see.

    See `FlaxMaskedAutoencoderForPreTraining`.
    """


# BEiT: https://arxiv.org/abs/2106.08254. transformers' Flax models take the mask second here.


class FlaxBeitPreTrainedModel(FlaxPreTrainedModel):
    """What the models of BEiT share; see `FlaxPreTrainedModel`."""

    config_class: type[PretrainedConfig] = BeitConfig
    base_model_prefix = BeitConfig.base_model_prefix


class FlaxBeitModel(FlaxBeitPreTrainedModel, FlaxVisionTransformerModel):
    """BEiT without a head; see `FlaxVisionTransformerModel`."""

    def __call__(  # type: ignore[override]  # noqa: D102
        self,
        pixel_values: Any,
        bool_masked_pos: Any = None,
        params: Mapping[str, Any] | None = None,
        dropout_rng: Any = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **options: Any,
    ) -> Any:
        return super().__call__(
            pixel_values,
            params,
            dropout_rng,
            train,
            output_attentions,
            output_hidden_states,
            return_dict,
            bool_masked_pos=bool_masked_pos,
            **options,
        )


class FlaxBeitForMaskedImageModeling(FlaxBeitPreTrainedModel, FlaxVisionTransformerForMaskedTokenModeling):
    """BEiT with a head that predicts visual tokens; see `FlaxVisionTransformerForMaskedTokenModeling`."""


class FlaxBeitForImageClassification(FlaxBeitPreTrainedModel, FlaxVisionTransformerForImageClassification):
    """BEiT with a linear classifier; see `FlaxVisionTransformerForImageClassification`."""


# data2vec: https://arxiv.org/abs/2202.03555


class FlaxData2VecVisionPreTrainedModel(FlaxPreTrainedModel):
    """What the models of data2vec share; see `FlaxPreTrainedModel`."""

    config_class: type[PretrainedConfig] = Data2VecVisionConfig
    base_model_prefix = Data2VecVisionConfig.base_model_prefix


class FlaxData2VecVisionModel(FlaxData2VecVisionPreTrainedModel, FlaxVisionTransformerModel):
    """data2vec without a head; see `FlaxVisionTransformerModel`."""


class FlaxData2VecVisionForImageClassification(
    FlaxData2VecVisionPreTrainedModel, FlaxVisionTransformerForImageClassification
):
    """data2vec with a linear classifier; see `FlaxVisionTransformerForImageClassification`."""


# ViT-MSN: https://arxiv.org/abs/2204.07141


class FlaxViTMSNPreTrainedModel(FlaxPreTrainedModel):
    """What the models of ViT-MSN share; see `FlaxPreTrainedModel`."""

    config_class: type[PretrainedConfig] = ViTMSNConfig
    base_model_prefix = ViTMSNConfig.base_model_prefix


class FlaxViTMSNModel(FlaxViTMSNPreTrainedModel, FlaxVisionTransformerModel):
    """ViT-MSN without a head; see `FlaxVisionTransformerModel`."""


class FlaxViTMSNForImageClassification(FlaxViTMSNPreTrainedModel, FlaxVisionTransformerForImageClassification):
    """ViT-MSN with a linear classifier; see `FlaxVisionTransformerForImageClassification`."""


# I-JEPA: https://arxiv.org/abs/2301.08243


class FlaxIJepaPreTrainedModel(FlaxPreTrainedModel):
    """What the models of I-JEPA share; see `FlaxPreTrainedModel`."""

    config_class: type[PretrainedConfig] = IJepaConfig
    base_model_prefix = IJepaConfig.base_model_prefix


class FlaxIJepaModel(FlaxIJepaPreTrainedModel, FlaxVisionTransformerModel):
    """I-JEPA without a head; see `FlaxVisionTransformerModel`."""


class FlaxIJepaForImageClassification(FlaxIJepaPreTrainedModel, FlaxVisionTransformerForImageClassification):
    """I-JEPA with a linear classifier; see `FlaxVisionTransformerForImageClassification`."""


# DINOv2: https://arxiv.org/abs/2304.07193


class FlaxDinov2PreTrainedModel(FlaxPreTrainedModel):
    """What the models of DINOv2 share; see `FlaxPreTrainedModel`."""

    config_class: type[PretrainedConfig] = Dinov2Config
    base_model_prefix = Dinov2Config.base_model_prefix


class FlaxDinov2Model(FlaxDinov2PreTrainedModel, FlaxVisionTransformerModel):
    """DINOv2 without a head; see `FlaxVisionTransformerModel`."""


class FlaxDinov2ForImageClassification(FlaxDinov2PreTrainedModel, FlaxVisionTransformerForImageClassification):
    """DINOv2 with a linear classifier; see `FlaxVisionTransformerForImageClassification`."""


class FlaxDinov2Backbone(FlaxDinov2PreTrainedModel, FlaxVisionTransformerBackbone):
    """DINOv2 that returns feature maps; see `FlaxVisionTransformerBackbone`."""


# DINOv2 with registers: https://arxiv.org/abs/2309.16588


class FlaxDinov2WithRegistersPreTrainedModel(FlaxPreTrainedModel):
    """What the models of DINOv2 with registers share; see `FlaxPreTrainedModel`."""

    config_class: type[PretrainedConfig] = Dinov2WithRegistersConfig
    base_model_prefix = Dinov2WithRegistersConfig.base_model_prefix


class FlaxDinov2WithRegistersModel(FlaxDinov2WithRegistersPreTrainedModel, FlaxVisionTransformerModel):
    """DINOv2 with registers, without a head; see `FlaxVisionTransformerModel`."""


class FlaxDinov2WithRegistersForImageClassification(
    FlaxDinov2WithRegistersPreTrainedModel, FlaxVisionTransformerForImageClassification
):
    """DINOv2 with registers and a linear classifier; see `FlaxVisionTransformerForImageClassification`."""


class FlaxDinov2WithRegistersBackbone(FlaxDinov2WithRegistersPreTrainedModel, FlaxVisionTransformerBackbone):
    """DINOv2 with registers that returns feature maps; see `FlaxVisionTransformerBackbone`."""


# DINOv3: https://arxiv.org/abs/2508.10104


class FlaxDINOv3ViTPreTrainedModel(FlaxPreTrainedModel):
    """What the models of DINOv3 share; see `FlaxPreTrainedModel`."""

    config_class: type[PretrainedConfig] = DINOv3ViTConfig
    base_model_prefix = DINOv3ViTConfig.base_model_prefix


class FlaxDINOv3ViTModel(FlaxDINOv3ViTPreTrainedModel, FlaxVisionTransformerModel):
    """DINOv3 without a head; see `FlaxVisionTransformerModel`."""


class FlaxDINOv3ViTBackbone(FlaxDINOv3ViTPreTrainedModel, FlaxVisionTransformerBackbone):
    """DINOv3 that returns feature maps; see `FlaxVisionTransformerBackbone`."""


# SigLIP: https://arxiv.org/abs/2303.15343. A classifier's files describe the text tower, too.


class FlaxSiglipPreTrainedModel(FlaxPreTrainedModel):
    """What the models of SigLIP share; see `FlaxPreTrainedModel`."""

    config_class: type[PretrainedConfig] = SiglipVisionConfig
    base_model_prefix = SiglipVisionConfig.base_model_prefix


class FlaxSiglipVisionModel(FlaxSiglipPreTrainedModel, FlaxVisionTransformerModel):
    """SigLIP's image tower; see `FlaxVisionTransformerModel`."""


class FlaxSiglipForImageClassification(FlaxSiglipPreTrainedModel, FlaxVisionTransformerForImageClassification):
    """SigLIP's image tower with a linear classifier; see `FlaxVisionTransformerForImageClassification`."""

    config_class = SiglipConfig


# CLIP: https://arxiv.org/abs/2103.00020. A classifier's files describe the text tower, too.


class FlaxCLIPPreTrainedModel(FlaxPreTrainedModel):
    """What the models of CLIP share; see `FlaxPreTrainedModel`."""

    config_class: type[PretrainedConfig] = CLIPVisionConfig
    base_model_prefix = CLIPVisionConfig.base_model_prefix


class FlaxCLIPVisionModel(FlaxCLIPPreTrainedModel, FlaxVisionTransformerModel):
    """CLIP's image tower; see `FlaxVisionTransformerModel`."""


class FlaxCLIPVisionModelWithProjection(FlaxCLIPPreTrainedModel, FlaxVisionTransformerModelWithProjection):
    """CLIP's image tower with the projection that puts images beside texts.

    See `FlaxVisionTransformerModelWithProjection`.
    """


class FlaxCLIPForImageClassification(FlaxCLIPPreTrainedModel, FlaxVisionTransformerForImageClassification):
    """CLIP's image tower with a linear classifier; see `FlaxVisionTransformerForImageClassification`."""

    config_class = CLIPConfig


# Their modules

FlaxViTModule = FlaxVisionTransformerModule
FlaxViTForMaskedImageModelingModule = FlaxVisionTransformerForMaskedImageModelingModule
FlaxViTForImageClassificationModule = FlaxVisionTransformerForImageClassificationModule
FlaxViTBackboneModule = FlaxVisionTransformerBackboneModule
FlaxDeiTModule = FlaxVisionTransformerModule
FlaxDeiTForMaskedImageModelingModule = FlaxVisionTransformerForMaskedImageModelingModule
FlaxDeiTForImageClassificationModule = FlaxVisionTransformerForImageClassificationModule
FlaxDeiTForImageClassificationWithTeacherModule = FlaxVisionTransformerForImageClassificationWithTeacherModule
FlaxViTMAEModule = FlaxMaskedAutoencoderModule
FlaxViTMAEForPreTrainingModule = FlaxMaskedAutoencoderForPreTrainingModule
FlaxBeitModule = FlaxVisionTransformerModule
FlaxBeitForMaskedImageModelingModule = FlaxVisionTransformerForMaskedTokenModelingModule
FlaxBeitForImageClassificationModule = FlaxVisionTransformerForImageClassificationModule
FlaxData2VecVisionModule = FlaxVisionTransformerModule
FlaxData2VecVisionForImageClassificationModule = FlaxVisionTransformerForImageClassificationModule
FlaxViTMSNModule = FlaxVisionTransformerModule
FlaxViTMSNForImageClassificationModule = FlaxVisionTransformerForImageClassificationModule
FlaxIJepaModule = FlaxVisionTransformerModule
FlaxIJepaForImageClassificationModule = FlaxVisionTransformerForImageClassificationModule
FlaxDinov2Module = FlaxVisionTransformerModule
FlaxDinov2ForImageClassificationModule = FlaxVisionTransformerForImageClassificationModule
FlaxDinov2BackboneModule = FlaxVisionTransformerBackboneModule
FlaxDinov2WithRegistersModule = FlaxVisionTransformerModule
FlaxDinov2WithRegistersForImageClassificationModule = FlaxVisionTransformerForImageClassificationModule
FlaxDinov2WithRegistersBackboneModule = FlaxVisionTransformerBackboneModule
FlaxDINOv3ViTModule = FlaxVisionTransformerModule
FlaxDINOv3ViTBackboneModule = FlaxVisionTransformerBackboneModule
FlaxSiglipVisionModule = FlaxVisionTransformerModule
FlaxSiglipForImageClassificationModule = FlaxVisionTransformerForImageClassificationModule
FlaxCLIPVisionModule = FlaxVisionTransformerModule
FlaxCLIPVisionModelWithProjectionModule = FlaxVisionTransformerModelWithProjectionModule
FlaxCLIPForImageClassificationModule = FlaxVisionTransformerForImageClassificationModule

# Their names in checkpoints

ViTPreTrainedModel = FlaxViTPreTrainedModel
ViTModel = FlaxViTModel
ViTForMaskedImageModeling = FlaxViTForMaskedImageModeling
ViTForImageClassification = FlaxViTForImageClassification
ViTBackbone = FlaxViTBackbone
DeiTPreTrainedModel = FlaxDeiTPreTrainedModel
DeiTModel = FlaxDeiTModel
DeiTForMaskedImageModeling = FlaxDeiTForMaskedImageModeling
DeiTForImageClassification = FlaxDeiTForImageClassification
DeiTForImageClassificationWithTeacher = FlaxDeiTForImageClassificationWithTeacher
ViTMAEPreTrainedModel = FlaxViTMAEPreTrainedModel
ViTMAEModel = FlaxViTMAEModel
ViTMAEForPreTraining = FlaxViTMAEForPreTraining
BeitPreTrainedModel = FlaxBeitPreTrainedModel
BeitModel = FlaxBeitModel
BeitForMaskedImageModeling = FlaxBeitForMaskedImageModeling
BeitForImageClassification = FlaxBeitForImageClassification
Data2VecVisionPreTrainedModel = FlaxData2VecVisionPreTrainedModel
Data2VecVisionModel = FlaxData2VecVisionModel
Data2VecVisionForImageClassification = FlaxData2VecVisionForImageClassification
ViTMSNPreTrainedModel = FlaxViTMSNPreTrainedModel
ViTMSNModel = FlaxViTMSNModel
ViTMSNForImageClassification = FlaxViTMSNForImageClassification
IJepaPreTrainedModel = FlaxIJepaPreTrainedModel
IJepaModel = FlaxIJepaModel
IJepaForImageClassification = FlaxIJepaForImageClassification
Dinov2PreTrainedModel = FlaxDinov2PreTrainedModel
Dinov2Model = FlaxDinov2Model
Dinov2ForImageClassification = FlaxDinov2ForImageClassification
Dinov2Backbone = FlaxDinov2Backbone
Dinov2WithRegistersPreTrainedModel = FlaxDinov2WithRegistersPreTrainedModel
Dinov2WithRegistersModel = FlaxDinov2WithRegistersModel
Dinov2WithRegistersForImageClassification = FlaxDinov2WithRegistersForImageClassification
Dinov2WithRegistersBackbone = FlaxDinov2WithRegistersBackbone
DINOv3ViTPreTrainedModel = FlaxDINOv3ViTPreTrainedModel
DINOv3ViTModel = FlaxDINOv3ViTModel
DINOv3ViTBackbone = FlaxDINOv3ViTBackbone
SiglipPreTrainedModel = FlaxSiglipPreTrainedModel
SiglipVisionModel = FlaxSiglipVisionModel
SiglipForImageClassification = FlaxSiglipForImageClassification
CLIPPreTrainedModel = FlaxCLIPPreTrainedModel
CLIPVisionModel = FlaxCLIPVisionModel
CLIPVisionModelWithProjection = FlaxCLIPVisionModelWithProjection
CLIPForImageClassification = FlaxCLIPForImageClassification
VisionTransformerBackbone = FlaxVisionTransformerBackbone
VisionTransformerForImageClassification = FlaxVisionTransformerForImageClassification
VisionTransformerForImageClassificationWithTeacher = FlaxVisionTransformerForImageClassificationWithTeacher
VisionTransformerForMaskedImageModeling = FlaxVisionTransformerForMaskedImageModeling
VisionTransformerForMaskedTokenModeling = FlaxVisionTransformerForMaskedTokenModeling
VisionTransformerModel = FlaxVisionTransformerModel
VisionTransformerPreTrainedModel = FlaxVisionTransformerPreTrainedModel
