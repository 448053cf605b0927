"""What a forward pass returns, whatever the framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Self

#: What is called with each class of outputs that is written from now on, such as a framework's registration.
WITH_EACH_CLASS: list[Callable[[type[Any]], None]] = []


@dataclass(eq=False, init=False)
class ModelOutput(dict[str, Any]):
    """The results of a forward pass: a dict whose items are attributes too, and that can be indexed by position.

    `output.logits`, `output["logits"]`, `output[0]`, `output[:2]`, `**output` and `output.to_tuple()` all work;
    iterating gives the names, as of every dict. Fields that are None are not items: they count for no position. Items
    are in the order of the fields, then those that were added under other names.

    Subclasses are dataclasses whose fields all have the default None. Instead of the first field a mapping, or pairs of
    name and value, may be given: so does whoever makes a dict of the same type from the items of this one, as data
    parallelism and collation do.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for register in WITH_EACH_CLASS:
            register(cls)

    def __init__(self, *items: Any, **named_items: Any) -> None:  # of outputs without fields
        self.update(*items, **named_items)

    def __post_init__(self) -> None:
        if len(self) != 1:
            return
        ((name, value),) = self.items()
        if name == next(iter(self.__dataclass_fields__)) and (pairs := _pairs(value)) is not None:
            del self[name]
            self.update(pairs)

    @classmethod
    def of(cls, names: Iterable[str], values: Iterable[Any]) -> Self:
        """An output with these items, whatever their values are."""
        output = cls()
        for name, value in zip(names, values, strict=True):
            output[name] = value
        return output

    def to_tuple(self) -> tuple[Any, ...]:
        """The items in order."""
        return tuple(self.values())

    def __getitem__(self, key: str | int | slice) -> Any:
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self:
            raise KeyError(f"{key!r} is not in this output, which has {', '.join(self.keys())}")
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"{key!r} is no name of an item; items of a {type(self).__name__} are set by name.")
        was_set = key in self.__dict__  # constructors set fields in their order
        object.__setattr__(self, key, value)
        if value is None:
            if was_set:
                dict.pop(self, key, None)
            return
        is_new = key not in self
        super().__setitem__(key, value)
        if is_new and was_set and key in self.__dataclass_fields__:
            self._put_in_order(key)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        object.__setattr__(self, key, None)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dataclass_fields__ or name in self:
            self[name] = value
        else:
            super().__setattr__(name, value)

    # What a dict does without asking the methods above, for subclasses to see.
    clear = MutableMapping.clear
    setdefault = MutableMapping.setdefault
    update = MutableMapping.update

    def pop(self, key: str, *default: Any) -> Any:
        """Remove an item and return it; without that item, the default or a KeyError."""
        if default and key not in self:
            return default[0]
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Remove the last item and return its name and value."""
        if not self:
            raise KeyError("this output has no items to remove.")
        name = next(reversed(self))
        return name, self.pop(name)

    def copy(self) -> Self:
        """An output of the same items."""
        return self.of(self.keys(), self.values())

    def __or__(self, other: Mapping[str, Any]) -> Self:  # type: ignore[override]
        if not isinstance(other, Mapping):
            return NotImplemented
        joined = self.copy()
        joined.update(other)
        return joined

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def _put_in_order(self, key: str) -> None:
        """Move the items of later fields, and those that are no fields, behind that of a field."""
        names = list(self.__dataclass_fields__)
        earlier = names[: names.index(key) + 1]
        for later in [name for name in self if name not in earlier]:
            super().__setitem__(later, dict.pop(self, later))


@dataclass(eq=False)
class BaseModelOutput(ModelOutput):
    """What an encoder returns.

    Attributes:
        last_hidden_state: (batch, 1 + patches, hidden), before the model's last LayerNorm.
        hidden_states: on request, as of `BaseModelOutputWithPooling`.
        attentions: on request, likewise.
    """

    last_hidden_state: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


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
class BackboneOutput(ModelOutput):
    """What a backbone returns.

    Attributes:
        feature_maps: for each stage that was asked for, (batch, hidden, rows, columns); or, where the config does not
            reshape them, its tokens, (batch, tokens, hidden).
        hidden_states: on request, as of `BaseModelOutputWithPooling`.
        attentions: on request, likewise.
        cls_tokens: where the config asks for them, the class token of each of these stages, (batch, hidden).
    """

    feature_maps: tuple[Any, ...] | None = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None
    cls_tokens: tuple[Any, ...] | None = None


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
class CLIPVisionModelOutput(ModelOutput):
    """What CLIPVisionModelWithProjection returns.

    Attributes:
        image_embeds: (batch, projection_dim), the pooler's output beside the embeddings of texts.
        last_hidden_state: as of `BaseModelOutputWithPooling`.
        hidden_states: on request, likewise.
        attentions: on request, likewise.
    """

    image_embeds: Any = None
    last_hidden_state: Any = None
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


@dataclass(eq=False)
class DeiTForImageClassificationWithTeacherOutput(ModelOutput):
    """What DeiTForImageClassificationWithTeacher returns.

    Attributes:
        logits: (batch, num_labels), the mean of the other two.
        cls_logits: (batch, num_labels), from the class token.
        distillation_logits: (batch, num_labels), from the distillation token.
        hidden_states: on request, as of `BaseModelOutputWithPooling`.
        attentions: on request, likewise.
    """

    logits: Any = None
    cls_logits: Any = None
    distillation_logits: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


@dataclass(eq=False)
class MaskedLMOutput(ModelOutput):
    """What BeitForMaskedImageModeling returns.

    Attributes:
        loss: a scalar, if labels were given: cross-entropy over the masked patches.
        logits: (batch, patches, vocab_size).
        hidden_states: on request, as of `BaseModelOutputWithPooling`.
        attentions: on request, likewise.
    """

    loss: Any = None
    logits: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


@dataclass(eq=False)
class ViTMAEModelOutput(ModelOutput):
    """What ViTMAEModel returns.

    Attributes:
        last_hidden_state: (batch, 1 + visible patches, hidden), after the last LayerNorm.
        mask: (batch, patches), 1 where a patch was left out and 0 where it was seen.
        ids_restore: (batch, patches), where each patch stands among the shuffled ones, of which the first were seen.
        hidden_states: on request, as of `BaseModelOutputWithPooling`, of the tokens that were seen.
        attentions: on request, likewise.
    """

    last_hidden_state: Any = None
    mask: Any = None
    ids_restore: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


@dataclass(eq=False)
class ViTMAEDecoderOutput(ModelOutput):
    """What the decoder of ViTMAEForPreTraining returns.

    Attributes:
        logits: (batch, patches, patch height * patch width * channels).
        hidden_states: on request, the decoder's.
        attentions: on request, the decoder's.
    """

    logits: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


@dataclass(eq=False)
class ViTMAEForPreTrainingOutput(ModelOutput):
    """What ViTMAEForPreTraining returns.

    Attributes:
        loss: a scalar: mean squared error over the pixels of the patches that were left out.
        logits: (batch, patches, patch height * patch width * channels), the patches as the decoder paints them.
        mask: see `ViTMAEModelOutput`.
        ids_restore: see `ViTMAEModelOutput`.
        hidden_states: on request, the encoder's; see `ViTMAEModelOutput`.
        attentions: on request, likewise.
    """

    loss: Any = None
    logits: Any = None
    mask: Any = None
    ids_restore: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


def _pairs(value: Any) -> dict[str, Any] | None:
    """The items that a mapping or pairs of name and value hold; None if this is neither."""
    if not isinstance(value, (Mapping, Iterator, list, tuple)):  # a union of types is not traced by torch 2.7
        return None
    pairs = list(value.items()) if isinstance(value, Mapping) else list(value)
    is_pair = all(isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs)
    return dict(pairs) if pairs and is_pair else None
