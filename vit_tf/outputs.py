"""What the models return: the core's outputs, as structures that TensorFlow and Keras can take apart.

With that they pass through tf.function, functional models, `predict` and distribution strategies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import optree

from vit_core.outputs import (
    BackboneOutput,
    BaseModelOutput,
    BaseModelOutputWithPooling,
    CLIPVisionModelOutput,
    DeiTForImageClassificationWithTeacherOutput,
    ImageClassifierOutput,
    MaskedImageModelingOutput,
    MaskedLMOutput,
    ModelOutput,
    ViTMAEDecoderOutput,
    ViTMAEForPreTrainingOutput,
    ViTMAEModelOutput,
)


@dataclass(eq=False)
class TFBaseModelOutput(BaseModelOutput):
    """What an encoder returns; see `vit_core.BaseModelOutput`."""


@dataclass(eq=False)
class TFBaseModelOutputWithPooling(BaseModelOutputWithPooling):
    """What TFViTModel returns; see `vit_core.BaseModelOutputWithPooling`."""


@dataclass(eq=False)
class TFBackboneOutput(BackboneOutput):
    """What a backbone returns; see `vit_core.BackboneOutput`."""


@dataclass(eq=False)
class TFSequenceClassifierOutput(ImageClassifierOutput):
    """What TFViTForImageClassification returns; see `vit_core.ImageClassifierOutput`."""


@dataclass(eq=False)
class TFMaskedImageModelingOutput(MaskedImageModelingOutput):
    """What TFViTForMaskedImageModeling returns; see `vit_core.MaskedImageModelingOutput`."""


@dataclass(eq=False)
class TFDeiTForImageClassificationWithTeacherOutput(DeiTForImageClassificationWithTeacherOutput):
    """What TFDeiTForImageClassificationWithTeacher returns; see the class of `vit_core.outputs`."""


@dataclass(eq=False)
class TFMaskedLMOutput(MaskedLMOutput):
    """What TFBeitForMaskedImageModeling returns; see `vit_core.outputs.MaskedLMOutput`."""


@dataclass(eq=False)
class TFCLIPVisionModelOutput(CLIPVisionModelOutput):
    """What TFCLIPVisionModelWithProjection returns; see `vit_core.outputs.CLIPVisionModelOutput`."""


@dataclass(eq=False)
class TFViTMAEModelOutput(ViTMAEModelOutput):
    """What TFViTMAEModel returns; see `vit_core.outputs.ViTMAEModelOutput`."""


@dataclass(eq=False)
class TFViTMAEDecoderOutput(ViTMAEDecoderOutput):
    """What the decoder of TFViTMAEForPreTraining returns; see `vit_core.outputs.ViTMAEDecoderOutput`."""


@dataclass(eq=False)
class TFViTMAEForPreTrainingOutput(ViTMAEForPreTrainingOutput):
    """What TFViTMAEForPreTraining returns; see `vit_core.outputs.ViTMAEForPreTrainingOutput`."""


def _register(output_class: type[ModelOutput]) -> None:
    """Tell Keras, which uses optree, how to take an output apart; TensorFlow takes it apart as any dict."""

    def flatten(output: ModelOutput) -> tuple[tuple[Any, ...], tuple[str, ...]]:
        return output.to_tuple(), tuple(output)

    # Any class may be registered, though optree's types ask for collections.
    optree.register_pytree_node(output_class, flatten, output_class.of, namespace="keras")  # type: ignore


for _output_class in (
    TFBaseModelOutput,
    TFBaseModelOutputWithPooling,
    TFBackboneOutput,
    TFSequenceClassifierOutput,
    TFMaskedImageModelingOutput,
    TFDeiTForImageClassificationWithTeacherOutput,
    TFMaskedLMOutput,
    TFCLIPVisionModelOutput,
    TFViTMAEModelOutput,
    TFViTMAEDecoderOutput,
    TFViTMAEForPreTrainingOutput,
):
    _register(_output_class)
