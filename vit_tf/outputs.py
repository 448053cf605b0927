"""What the models return: the core's outputs, as structures that TensorFlow and Keras can take apart.

With that they pass through tf.function, functional models, `predict` and distribution strategies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import optree

from vit_core import BaseModelOutputWithPooling, ImageClassifierOutput, MaskedImageModelingOutput
from vit_core.outputs import ModelOutput


class NestedOutput(ModelOutput):
    """An output whose items are what a nested structure holds; its fields that are None are not there."""

    def __tf_flatten__(self) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        return tuple(self.keys()), self.to_tuple()

    @classmethod
    def __tf_unflatten__(cls, names: tuple[str, ...], items: tuple[Any, ...]) -> Self:
        return cls(**dict(zip(names, items, strict=True)))


@dataclass(eq=False)
class TFBaseModelOutputWithPooling(NestedOutput, BaseModelOutputWithPooling):
    """What TFViTModel returns; see `vit_core.BaseModelOutputWithPooling`."""


@dataclass(eq=False)
class TFSequenceClassifierOutput(NestedOutput, ImageClassifierOutput):
    """What TFViTForImageClassification returns; see `vit_core.ImageClassifierOutput`."""


@dataclass(eq=False)
class TFMaskedImageModelingOutput(NestedOutput, MaskedImageModelingOutput):
    """What TFViTForMaskedImageModeling returns; see `vit_core.MaskedImageModelingOutput`."""


def _items_and_names(output: NestedOutput) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    return output.to_tuple(), tuple(output.keys())


for _output in (TFBaseModelOutputWithPooling, TFSequenceClassifierOutput, TFMaskedImageModelingOutput):
    # Any class may be registered, though optree's types ask for collections.
    optree.register_pytree_node(_output, _items_and_names, _output.__tf_unflatten__, namespace="keras")  # type: ignore
