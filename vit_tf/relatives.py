"""The published models: each a config and a name for what `vit_tf.modeling` and `vit_tf.masked_autoencoder` build.

Their signatures are those of transformers 4.47's TensorFlow models, as far as it has them. Each has its name without
"TF" as well, which is what checkpoints say.
"""

from __future__ import annotations

from typing import Any

import keras

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
from vit_tf.backbone import TFVisionTransformerBackbone
from vit_tf.image_projection import TFVisionTransformerModelWithProjection
from vit_tf.masked_autoencoder import MaskedAutoencoderForPreTraining, MaskedAutoencoderModel
from vit_tf.masked_image_modeling import (
    TFVisionTransformerForMaskedImageModeling,
    TFVisionTransformerForMaskedTokenModeling,
)
from vit_tf.modeling import (
    TFVisionTransformerForImageClassification,
    TFVisionTransformerForImageClassificationWithTeacher,
    TFVisionTransformerModel,
)
from vit_tf.pretrained import PreTrainedModel

registered = keras.saving.register_keras_serializable("trivit")


class MaskSecond(TFVisionTransformerModel):
    """A base model whose `call` takes the mask before the head mask, as all but ViT's do."""

    def call(  # type: ignore[override]
        self,
        pixel_values: Any = None,
        bool_masked_pos: Any = None,
        head_mask: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        training: bool = False,
        prefix_only: bool = False,
        pools: bool = True,
    ) -> Any:
        """See `vit_tf.modeling.TFVisionTransformerModel.call`."""
        return super().call(
            pixel_values,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=return_dict,
            training=training,
            bool_masked_pos=bool_masked_pos,
            prefix_only=prefix_only,
            pools=pools,
        )


class MaskLast(TFVisionTransformerModel):
    """A base model whose `call` takes what is returned first, as those of image towers do."""

    def call(  # type: ignore[override]
        self,
        pixel_values: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        training: bool = False,
        head_mask: Any = None,
        bool_masked_pos: Any = None,
        prefix_only: bool = False,
        pools: bool = True,
    ) -> Any:
        """See `vit_tf.modeling.TFVisionTransformerModel.call`."""
        return super().call(
            pixel_values,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=return_dict,
            training=training,
            bool_masked_pos=bool_masked_pos,
            prefix_only=prefix_only,
            pools=pools,
        )


class LabelsSecond(TFVisionTransformerForImageClassification):
    """A classifier whose `call` takes the labels after the images."""

    def call(  # type: ignore[override]
        self,
        pixel_values: Any = None,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        training: bool = False,
        head_mask: Any = None,
    ) -> Any:
        """See `vit_tf.modeling.TFVisionTransformerForImageClassification.call`."""
        return super().call(
            pixel_values,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=return_dict,
            labels=labels,
            training=training,
        )


class LabelsThird(TFVisionTransformerForImageClassification):
    """A classifier whose `call` takes the labels after the head mask."""

    def call(  # type: ignore[override]
        self,
        pixel_values: Any = None,
        head_mask: Any = None,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool | None = None,
        training: bool = False,
    ) -> Any:
        """See `vit_tf.modeling.TFVisionTransformerForImageClassification.call`."""
        return super().call(
            pixel_values,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=return_dict,
            labels=labels,
            training=training,
        )


class TFViTPreTrainedModel(PreTrainedModel):
    """What the models of ViT share (https://arxiv.org/abs/2010.11929)."""

    config_class = ViTConfig
    base_model_prefix = ViTConfig.base_model_prefix


@registered
class TFViTModel(TFViTPreTrainedModel, TFVisionTransformerModel):
    """ViT without a head; see `TFVisionTransformerModel`."""


@registered
class TFViTForMaskedImageModeling(TFViTPreTrainedModel, TFVisionTransformerForMaskedImageModeling):
    """ViT with a decoder that reconstructs masked patches; see `TFVisionTransformerForMaskedImageModeling`."""

    base_model_class = TFViTModel


@registered
class TFViTForImageClassification(TFViTPreTrainedModel, TFVisionTransformerForImageClassification):
    """ViT with a linear classifier; see `TFVisionTransformerForImageClassification`."""

    base_model_class = TFViTModel


@registered
class TFViTBackbone(TFViTPreTrainedModel, TFVisionTransformerBackbone):
    """ViT that returns feature maps; see `TFVisionTransformerBackbone`."""


class TFDeiTPreTrainedModel(PreTrainedModel):
    """What the models of DeiT share (https://arxiv.org/abs/2012.12877)."""

    config_class = DeiTConfig
    base_model_prefix = DeiTConfig.base_model_prefix


@registered
class TFDeiTModel(TFDeiTPreTrainedModel, MaskSecond):
    """DeiT without a head; see `TFVisionTransformerModel`."""


@registered
class TFDeiTForMaskedImageModeling(TFDeiTPreTrainedModel, TFVisionTransformerForMaskedImageModeling):
    """DeiT with a decoder that reconstructs masked patches; see `TFVisionTransformerForMaskedImageModeling`."""

    base_model_class = TFDeiTModel


@registered
class TFDeiTForImageClassification(TFDeiTPreTrainedModel, LabelsThird):
    """DeiT with a linear classifier; see `TFVisionTransformerForImageClassification`."""

    base_model_class = TFDeiTModel


@registered
class TFDeiTForImageClassificationWithTeacher(
    TFDeiTPreTrainedModel, TFVisionTransformerForImageClassificationWithTeacher
):
    """DeiT with a classifier on the class token and one on the distillation token.

    See `TFVisionTransformerForImageClassificationWithTeacher`.
    """

    base_model_class = TFDeiTModel


class TFViTMAEPreTrainedModel(PreTrainedModel):
    """What the models of MAE share (https://arxiv.org/abs/2111.06377)."""

    config_class = ViTMAEConfig
    base_model_prefix = ViTMAEConfig.base_model_prefix


@registered
class TFViTMAEModel(TFViTMAEPreTrainedModel, MaskedAutoencoderModel):
    """MAE without a head; see `MaskedAutoencoderModel`."""


@registered
class TFViTMAEForPreTraining(TFViTMAEPreTrainedModel, MaskedAutoencoderForPreTraining):
    """MAE with its decoder; see `MaskedAutoencoderForPreTraining`."""

    base_model_class = TFViTMAEModel


class TFBeitPreTrainedModel(PreTrainedModel):
    """What the models of BEiT share (https://arxiv.org/abs/2106.08254)."""

    config_class = BeitConfig
    base_model_prefix = BeitConfig.base_model_prefix


@registered
class TFBeitModel(TFBeitPreTrainedModel, MaskSecond):
    """BEiT without a head; see `TFVisionTransformerModel`."""


@registered
class TFBeitForMaskedImageModeling(TFBeitPreTrainedModel, TFVisionTransformerForMaskedTokenModeling):
    """BEiT that tells the visual tokens of masked patches; see `TFVisionTransformerForMaskedTokenModeling`."""

    base_model_class = TFBeitModel


@registered
class TFBeitForImageClassification(TFBeitPreTrainedModel, LabelsThird):
    """BEiT with a linear classifier; see `TFVisionTransformerForImageClassification`."""

    base_model_class = TFBeitModel


class TFData2VecVisionPreTrainedModel(PreTrainedModel):
    """What the models of data2vec share (https://arxiv.org/abs/2202.03555)."""

    config_class = Data2VecVisionConfig
    base_model_prefix = Data2VecVisionConfig.base_model_prefix


@registered
class TFData2VecVisionModel(TFData2VecVisionPreTrainedModel, MaskSecond):
    """data2vec without a head; see `TFVisionTransformerModel`."""


@registered
class TFData2VecVisionForImageClassification(TFData2VecVisionPreTrainedModel, LabelsThird):
    """data2vec with a linear classifier; see `TFVisionTransformerForImageClassification`."""

    base_model_class = TFData2VecVisionModel


class TFViTMSNPreTrainedModel(PreTrainedModel):
    """What the models of ViT-MSN share (https://arxiv.org/abs/2204.07141)."""

    config_class = ViTMSNConfig
    base_model_prefix = ViTMSNConfig.base_model_prefix


@registered
class TFViTMSNModel(TFViTMSNPreTrainedModel, MaskSecond):
    """ViT-MSN without a head; see `TFVisionTransformerModel`."""

    def __init__(self, config: PretrainedConfig, use_mask_token: bool = False, **kwargs: Any) -> None:
        super().__init__(config, use_mask_token=use_mask_token, **kwargs)


@registered
class TFViTMSNForImageClassification(TFViTMSNPreTrainedModel, LabelsThird):
    """ViT-MSN with a linear classifier; see `TFVisionTransformerForImageClassification`."""

    base_model_class = TFViTMSNModel


class TFIJepaPreTrainedModel(PreTrainedModel):
    """What the models of I-JEPA share (https://arxiv.org/abs/2301.08243)."""

    config_class = IJepaConfig
    base_model_prefix = IJepaConfig.base_model_prefix


@registered
class TFIJepaModel(TFIJepaPreTrainedModel, MaskSecond):
    """I-JEPA without a head; see `TFVisionTransformerModel`."""


@registered
class TFIJepaForImageClassification(TFIJepaPreTrainedModel, LabelsThird):
    """I-JEPA with a linear classifier; see `TFVisionTransformerForImageClassification`."""

    base_model_class = TFIJepaModel


class TFDinov2PreTrainedModel(PreTrainedModel):
    """What the models of DINOv2 share (https://arxiv.org/abs/2304.07193)."""

    config_class = Dinov2Config
    base_model_prefix = Dinov2Config.base_model_prefix


@registered
class TFDinov2Model(TFDinov2PreTrainedModel, MaskSecond):
    """DINOv2 without a head; see `TFVisionTransformerModel`."""


@registered
class TFDinov2ForImageClassification(TFDinov2PreTrainedModel, LabelsThird):
    """DINOv2 with a linear classifier; see `TFVisionTransformerForImageClassification`."""

    base_model_class = TFDinov2Model


@registered
class TFDinov2Backbone(TFDinov2PreTrainedModel, TFVisionTransformerBackbone):
    """DINOv2 that returns feature maps; see `TFVisionTransformerBackbone`."""


class TFDinov2WithRegistersPreTrainedModel(PreTrainedModel):
    """What the models of DINOv2 with registers share (https://arxiv.org/abs/2309.16588)."""

    config_class = Dinov2WithRegistersConfig
    base_model_prefix = Dinov2WithRegistersConfig.base_model_prefix


@registered
class TFDinov2WithRegistersModel(TFDinov2WithRegistersPreTrainedModel, MaskSecond):
    """DINOv2 with registers and without a head; see `TFVisionTransformerModel`."""


@registered
class TFDinov2WithRegistersForImageClassification(TFDinov2WithRegistersPreTrainedModel, LabelsThird):
    """DINOv2 with registers and a linear classifier; see `TFVisionTransformerForImageClassification`."""

    base_model_class = TFDinov2WithRegistersModel


@registered
class TFDinov2WithRegistersBackbone(TFDinov2WithRegistersPreTrainedModel, TFVisionTransformerBackbone):
    """DINOv2 with registers that returns feature maps; see `TFVisionTransformerBackbone`."""


class TFDINOv3ViTPreTrainedModel(PreTrainedModel):
    """What the models of DINOv3 share (https://arxiv.org/abs/2508.10104)."""

    config_class = DINOv3ViTConfig
    base_model_prefix = DINOv3ViTConfig.base_model_prefix


@registered
class TFDINOv3ViTModel(TFDINOv3ViTPreTrainedModel, MaskSecond):
    """DINOv3 without a head; see `TFVisionTransformerModel`."""


@registered
class TFDINOv3ViTBackbone(TFDINOv3ViTPreTrainedModel, TFVisionTransformerBackbone):
    """DINOv3 that returns feature maps; see `TFVisionTransformerBackbone`."""


class TFSiglipPreTrainedModel(PreTrainedModel):
    """What the models of SigLIP's image tower share (https://arxiv.org/abs/2303.15343)."""

    config_class: type[PretrainedConfig] = SiglipVisionConfig
    base_model_prefix = SiglipVisionConfig.base_model_prefix


@registered
class TFSiglipVisionModel(TFSiglipPreTrainedModel, MaskLast):
    """SigLIP's image tower without a head; see `TFVisionTransformerModel`."""


@registered
class TFSiglipForImageClassification(TFSiglipPreTrainedModel, LabelsSecond):
    """SigLIP's image tower with a linear classifier; see `TFVisionTransformerForImageClassification`."""

    config_class = SiglipConfig
    base_model_class = TFSiglipVisionModel


class TFCLIPPreTrainedModel(PreTrainedModel):
    """What the models of CLIP's image tower share (https://arxiv.org/abs/2103.00020)."""

    config_class: type[PretrainedConfig] = CLIPVisionConfig
    base_model_prefix = CLIPVisionConfig.base_model_prefix


@registered
class TFCLIPVisionModel(TFCLIPPreTrainedModel, MaskLast):
    """CLIP's image tower without a head; see `TFVisionTransformerModel`."""


@registered
class TFCLIPVisionModelWithProjection(TFCLIPPreTrainedModel, TFVisionTransformerModelWithProjection):
    """CLIP's image tower with its projection; see `TFVisionTransformerModelWithProjection`."""

    base_model_class = TFCLIPVisionModel


@registered
class TFCLIPForImageClassification(TFCLIPPreTrainedModel, LabelsSecond):
    """CLIP's image tower with a linear classifier; see `TFVisionTransformerForImageClassification`."""

    config_class = CLIPConfig
    base_model_class = TFCLIPVisionModel


ViTPreTrainedModel = TFViTPreTrainedModel
ViTModel = TFViTModel
ViTForMaskedImageModeling = TFViTForMaskedImageModeling
ViTForImageClassification = TFViTForImageClassification
ViTBackbone = TFViTBackbone
DeiTPreTrainedModel = TFDeiTPreTrainedModel
DeiTModel = TFDeiTModel
DeiTForMaskedImageModeling = TFDeiTForMaskedImageModeling
DeiTForImageClassification = TFDeiTForImageClassification
DeiTForImageClassificationWithTeacher = TFDeiTForImageClassificationWithTeacher
ViTMAEPreTrainedModel = TFViTMAEPreTrainedModel
ViTMAEModel = TFViTMAEModel
ViTMAEForPreTraining = TFViTMAEForPreTraining
BeitPreTrainedModel = TFBeitPreTrainedModel
BeitModel = TFBeitModel
BeitForMaskedImageModeling = TFBeitForMaskedImageModeling
BeitForImageClassification = TFBeitForImageClassification
Data2VecVisionPreTrainedModel = TFData2VecVisionPreTrainedModel
Data2VecVisionModel = TFData2VecVisionModel
Data2VecVisionForImageClassification = TFData2VecVisionForImageClassification
ViTMSNPreTrainedModel = TFViTMSNPreTrainedModel
ViTMSNModel = TFViTMSNModel
ViTMSNForImageClassification = TFViTMSNForImageClassification
IJepaPreTrainedModel = TFIJepaPreTrainedModel
IJepaModel = TFIJepaModel
IJepaForImageClassification = TFIJepaForImageClassification
Dinov2PreTrainedModel = TFDinov2PreTrainedModel
Dinov2Model = TFDinov2Model
Dinov2ForImageClassification = TFDinov2ForImageClassification
Dinov2Backbone = TFDinov2Backbone
Dinov2WithRegistersPreTrainedModel = TFDinov2WithRegistersPreTrainedModel
Dinov2WithRegistersModel = TFDinov2WithRegistersModel
Dinov2WithRegistersForImageClassification = TFDinov2WithRegistersForImageClassification
Dinov2WithRegistersBackbone = TFDinov2WithRegistersBackbone
DINOv3ViTPreTrainedModel = TFDINOv3ViTPreTrainedModel
DINOv3ViTModel = TFDINOv3ViTModel
DINOv3ViTBackbone = TFDINOv3ViTBackbone
SiglipPreTrainedModel = TFSiglipPreTrainedModel
SiglipVisionModel = TFSiglipVisionModel
SiglipForImageClassification = TFSiglipForImageClassification
CLIPPreTrainedModel = TFCLIPPreTrainedModel
CLIPVisionModel = TFCLIPVisionModel
CLIPVisionModelWithProjection = TFCLIPVisionModelWithProjection
CLIPForImageClassification = TFCLIPForImageClassification

# The names that the base models have in scripts for transformers, as layers of models
TFViTMainLayer = TFViTModel
TFDeiTMainLayer = TFDeiTModel
TFViTMAEMainLayer = TFViTMAEModel
TFData2VecVisionMainLayer = TFData2VecVisionModel
