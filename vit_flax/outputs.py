"""What the models return: the core's outputs as pytrees, which pass through jit, vmap, grad, scan and jax.export."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Self

import jax
from jax import export

from vit_core import BaseModelOutput, BaseModelOutputWithPooling, ImageClassifierOutput, MaskedImageModelingOutput
from vit_core.outputs import (
    BackboneOutput,
    CLIPVisionModelOutput,
    DeiTForImageClassificationWithTeacherOutput,
    MaskedLMOutput,
    ModelOutput,
    ViTMAEDecoderOutput,
    ViTMAEForPreTrainingOutput,
    ViTMAEModelOutput,
)


class OutputPytree(ModelOutput):
    """An output whose items are a pytree's children; its fields that are None are not there."""

    def replace(self, **changes: Any) -> Self:
        """The output with some fields set anew."""
        return dataclasses.replace(self, **changes)


@dataclass(eq=False)
class FlaxBaseModelOutput(OutputPytree, BaseModelOutput):
    """What an encoder returns; see `vit_core.BaseModelOutput`."""


@dataclass(eq=False)
class FlaxBaseModelOutputWithPooling(OutputPytree, BaseModelOutputWithPooling):
    """What FlaxViTModel returns; see `vit_core.BaseModelOutputWithPooling`."""


@dataclass(eq=False)
class FlaxBackboneOutput(OutputPytree, BackboneOutput):
    """What a backbone returns; see `vit_core.BackboneOutput`."""


@dataclass(eq=False)
class FlaxSequenceClassifierOutput(OutputPytree, ImageClassifierOutput):
    """What FlaxViTForImageClassification returns; see `vit_core.ImageClassifierOutput`."""


@dataclass(eq=False)
class FlaxMaskedImageModelingOutput(OutputPytree, MaskedImageModelingOutput):
    """What FlaxViTForMaskedImageModeling returns; see `vit_core.MaskedImageModelingOutput`."""


@dataclass(eq=False)
class FlaxDeiTForImageClassificationWithTeacherOutput(OutputPytree, DeiTForImageClassificationWithTeacherOutput):
    """What FlaxDeiTForImageClassificationWithTeacher returns; see the output in `vit_core.outputs` of that name."""


@dataclass(eq=False)
class FlaxMaskedLMOutput(OutputPytree, MaskedLMOutput):
    """What FlaxBeitForMaskedImageModeling returns; see `vit_core.outputs.MaskedLMOutput`."""


@dataclass(eq=False)
class FlaxCLIPVisionModelOutput(OutputPytree, CLIPVisionModelOutput):
    """What FlaxCLIPVisionModelWithProjection returns; see `vit_core.CLIPVisionModelOutput`."""


@dataclass(eq=False)
class FlaxViTMAEModelOutput(OutputPytree, ViTMAEModelOutput):
    """What FlaxViTMAEModel returns; see `vit_core.outputs.ViTMAEModelOutput`."""


@dataclass(eq=False)
class FlaxViTMAEDecoderOutput(OutputPytree, ViTMAEDecoderOutput):
    """What the decoder of a masked autoencoder returns; see `vit_core.outputs.ViTMAEDecoderOutput`."""


@dataclass(eq=False)
class FlaxViTMAEForPreTrainingOutput(OutputPytree, ViTMAEForPreTrainingOutput):
    """What FlaxViTMAEForPreTraining returns; see `vit_core.outputs.ViTMAEForPreTrainingOutput`."""


def _register(output_class: type[OutputPytree]) -> None:
    """Tell JAX how to take an output apart, and how to name it in an exported function."""

    def flatten_with_keys(output: OutputPytree) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
        return [(jax.tree_util.GetAttrKey(name), item) for name, item in output.items()], tuple(output.keys())

    jax.tree_util.register_pytree_with_keys(output_class, flatten_with_keys, output_class.of)
    export.register_pytree_node_serialization(
        output_class,
        serialized_name=f"trivit.{output_class.__name__}",
        serialize_auxdata=lambda names: json.dumps(names).encode(),
        deserialize_auxdata=lambda data: tuple(json.loads(data)),
    )


for _output_class in (
    FlaxBaseModelOutput,
    FlaxBaseModelOutputWithPooling,
    FlaxBackboneOutput,
    FlaxSequenceClassifierOutput,
    FlaxMaskedImageModelingOutput,
    FlaxDeiTForImageClassificationWithTeacherOutput,
    FlaxMaskedLMOutput,
    FlaxCLIPVisionModelOutput,
    FlaxViTMAEModelOutput,
    FlaxViTMAEDecoderOutput,
    FlaxViTMAEForPreTrainingOutput,
):
    _register(_output_class)
