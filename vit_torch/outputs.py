"""The outputs as torch's pytrees, so that they pass through torch.export, vmap and data parallelism."""

from collections.abc import Iterable
from typing import Any

from torch.utils import _pytree as pytree  # torch.export's own way registers nothing but the fields of dataclasses

from vit_core import (
    BackboneOutput,
    BaseModelOutput,
    BaseModelOutputWithPooling,
    CLIPVisionModelOutput,
    DeiTForImageClassificationWithTeacherOutput,
    ImageClassifierOutput,
    MaskedImageModelingOutput,
    MaskedLMOutput,
    ViTMAEDecoderOutput,
    ViTMAEForPreTrainingOutput,
    ViTMAEModelOutput,
)
from vit_core.outputs import WITH_EACH_CLASS, ModelOutput

__all__ = [
    "BackboneOutput",
    "BaseModelOutput",
    "BaseModelOutputWithPooling",
    "CLIPVisionModelOutput",
    "DeiTForImageClassificationWithTeacherOutput",
    "ImageClassifierOutput",
    "MaskedImageModelingOutput",
    "MaskedLMOutput",
    "ViTMAEDecoderOutput",
    "ViTMAEForPreTrainingOutput",
    "ViTMAEModelOutput",
]

#: The classes that were written before this module.
OUTPUTS = (
    BackboneOutput,
    BaseModelOutput,
    BaseModelOutputWithPooling,
    CLIPVisionModelOutput,
    DeiTForImageClassificationWithTeacherOutput,
    ImageClassifierOutput,
    MaskedImageModelingOutput,
    MaskedLMOutput,
    ViTMAEDecoderOutput,
    ViTMAEForPreTrainingOutput,
    ViTMAEModelOutput,
)


def _register(output_class: type[ModelOutput]) -> None:
    """Tell torch how to take an output of a class apart: into its items, those under added names included."""

    def flatten(output: ModelOutput) -> tuple[list[Any], list[str]]:
        return list(output.values()), list(output)

    def flatten_with_keys(output: ModelOutput) -> tuple[list[tuple[Any, Any]], list[str]]:
        return [(pytree.MappingKey(name), value) for name, value in output.items()], list(output)

    def unflatten(values: Iterable[Any], names: list[str]) -> ModelOutput:
        return output_class.of(names, values)

    pytree.register_pytree_node(
        output_class,
        flatten,
        unflatten,
        serialized_type_name=f"{output_class.__module__}.{output_class.__name__}",
        flatten_with_keys_fn=flatten_with_keys,
    )


for _output_class in OUTPUTS:
    _register(_output_class)
WITH_EACH_CLASS.append(_register)
