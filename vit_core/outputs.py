"""What a forward pass returns, whatever the framework."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any


@dataclass(eq=False)
class ModelOutput:
    """The results of a forward pass, by name and by position.

    `output.logits`, `output["logits"]`, `output[0]`, `output[:2]`, `loss, logits = output`, `**output` and
    `output.to_tuple()` all work. Fields that are None are not items: they count for no position.
    """

    def to_tuple(self) -> tuple[Any, ...]:
        """The items in order."""
        return tuple(self.values())

    def keys(self) -> list[str]:
        """The names of the items."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def values(self) -> list[Any]:
        """The items."""
        return [getattr(self, name) for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        """The names with their items."""
        return [(name, getattr(self, name)) for name in self.keys()]

    def get(self, name: str, default: Any = None) -> Any:
        """The item of that name, or a default."""
        return getattr(self, name) if name in self else default

    def __getitem__(self, key: int | slice | str) -> Any:
        if isinstance(key, str):
            if key not in self:
                raise KeyError(f"{key!r} is not in this output, which has {', '.join(self.keys())}")
            return getattr(self, key)
        return self.to_tuple()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in {field.name for field in fields(self)}:
            raise KeyError(f"a {type(self).__name__} has no field {key!r}")
        setattr(self, key, value)

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())

    def __len__(self) -> int:
        return len(self.keys())


@dataclass(eq=False)
class BaseModelOutputWithPooling(ModelOutput):
    """What ViTModel returns.

    Attributes:
        last_hidden_state: (batch, 1 + patches, hidden), after the last LayerNorm.
        pooler_output: (batch, pooler size), from the class token; None without a pooler.
        hidden_states: on request, `num_hidden_layers` + 1 arrays like `last_hidden_state`: the embeddings and what each
            layer made of them, before the last LayerNorm.
        attentions: on request, for each layer the probabilities (batch, heads, 1 + patches, 1 + patches).
    """

    last_hidden_state: Any = None
    pooler_output: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


@dataclass(eq=False)
class ImageClassifierOutput(ModelOutput):
    """What ViTForImageClassification returns.

    Attributes:
        loss: a scalar, if labels were given.
        logits: (batch, num_labels).
        hidden_states: on request, as of `BaseModelOutputWithPooling`.
        attentions: on request, likewise.
    """

    loss: Any = None
    logits: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


@dataclass(eq=False)
class MaskedImageModelingOutput(ModelOutput):
    """What ViTForMaskedImageModeling returns.

    Attributes:
        loss: a scalar, if a mask was given: mean absolute error over the masked pixels.
        reconstruction: (batch, channels, height, width).
        hidden_states: on request, as of `BaseModelOutputWithPooling`.
        attentions: on request, likewise.
    """

    loss: Any = None
    reconstruction: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None

    @property
    def logits(self) -> Any:
        """The reconstruction, under the name that older scripts use."""
        return self.reconstruction
