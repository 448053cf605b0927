"""Feature maps: which layers' tokens a backbone returns as maps, and the fields of a config that say it.

The stages of a Vision Transformer are its embeddings, "stem", and each of its layers, "stage1", "stage2", ... Names and
rules are those of transformers' backbones, the numbers of `get_intermediate_layers` those of DINOv2's own code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from vit_core.checks import require_switches, shown
from vit_core.config import PretrainedConfig

#: Fields that choose the stages that a backbone returns, one or the other.
CHOICES = ("out_features", "out_indices")
#: Fields that a file has together or not at all.
STAGE_FIELDS = ("stage_names", *CHOICES)
#: What a backbone leaves in a checkpoint without a word: other models' heads, poolers and mask tokens.
LEFT_OUT = (
    r"^pooler\.",
    r"(^|\.)mask_token$",
    r"^(cls_|distillation_)?classifier\.",
    r"^(decoder|lm_head|visual_projection)\.",
)


def stages(layers: int) -> list[str]:
    """The names of the stages of a model with so many layers."""
    return ["stem", *(f"stage{number}" for number in range(1, layers + 1))]


def aligned(
    out_features: Sequence[str] | None, out_indices: Sequence[int] | None, names: Sequence[str]
) -> tuple[list[str], list[int]]:
    """Which stages are returned, by name and by number.

    Args:
        out_features: their names, in the order of the layers.
        out_indices: their numbers, likewise; 0 is the stem and -1 the last stage. The last stage alone if neither is
            given.
        names: those of all stages.

    Returns:
        Names and numbers, the latter as they were given.

    Raises:
        ValueError: there is no such stage, one is named twice, the order is another, or both are given and differ.
    """
    by_name = None if out_features is None else _checked("out_features", out_features, names, names)
    numbers = {number: names[number] for number in range(-len(names), len(names))}
    by_number = None if out_indices is None else _checked("out_indices", out_indices, numbers, names)
    if by_name is None and by_number is None:
        return [names[-1]], [len(names) - 1]
    if by_name is not None and by_number is not None and by_name != by_number:
        raise ValueError(
            f"out_features {shown(out_features)} and out_indices {shown(out_indices)} are different stages; give "
            f"one of them."
        )
    found = by_name or by_number or []
    return found, [names.index(name) for name in found] if out_indices is None else list(out_indices)


def _checked(field: str, given: Any, known: Sequence[str] | Mapping[int, str], names: Sequence[str]) -> list[str]:
    """The names of stages that were given by name or by number."""
    if not isinstance(given, (list, tuple)) or not given:
        raise ValueError(f"{field} is {shown(given)}; give a list of stages, such as {[*known][-1:]}.")
    for each in given:
        if isinstance(each, bool) or not isinstance(each, (str, int)) or each not in known:
            first, last = (names[0], names[-1]) if field == "out_features" else (0, len(names) - 1)
            raise ValueError(f"{field} has {shown(each)}, but the stages of this model go from {first!r} to {last!r}.")
    found = [known[each] for each in given] if isinstance(known, Mapping) else list(given)
    if repeated := [each for each, name in zip(given, found, strict=True) if found.count(name) > 1]:
        raise ValueError(f"{field} has the stage {shown(repeated[-1])} twice; each is returned once.")
    if found != (ordered := sorted(found, key=names.index)):
        right = [given[found.index(name)] for name in ordered]
        raise ValueError(f"{field} is {shown(given)}; give them in the order of the layers, {shown(right)}.")
    return found


def last_layers(n: int | Sequence[int], layers: int) -> list[int]:
    """The layers of which `get_intermediate_layers` returns the tokens, counted from 0, in order.

    Args:
        n: how many of the last, or which; -1 is the last.
        layers: how many there are.

    Raises:
        ValueError: there are no such layers, or one is named twice.
    """
    if isinstance(n, int) and not isinstance(n, bool):
        if not 0 < n <= layers:
            raise ValueError(f"n is {n}; give how many of the model's {layers} layers, from 1 on, or a list of them.")
        return list(range(layers - n, layers))
    if not isinstance(n, Sequence) or isinstance(n, str) or not n:
        raise ValueError(f"n is {shown(n)}; give how many of the last layers, or a list of numbers of layers.")
    for each in n:
        if isinstance(each, bool) or not isinstance(each, int) or not -layers <= each < layers:
            raise ValueError(f"n has the layer {shown(each)}, but the model's layers go from 0 to {layers - 1}.")
    found = sorted(each % layers for each in n)
    if len(set(found)) < len(found):
        raise ValueError(f"n is {shown(list(n))}, which has a layer twice; each is returned once.")
    return found


class BackboneConfig(PretrainedConfig):
    """The configuration of a family that has a backbone.

    A file has these fields only where something was said of them.

    Attributes:
        out_features: the names of the stages whose tokens a backbone returns; the last one unless given.
        out_indices: their numbers, which follow, or from which they follow.
        apply_layernorm: whether the model's last norm is applied to each (True).
        reshape_hidden_states: whether they are maps, (batch, hidden, rows, columns), and not tokens (True).
        return_class_token: whether the class token of each comes with them (False). transformers 5 knows it of DINOv3.
        norms_last_stage: whether the last stage is normed in any case.
        first_is_patch: whether tokens that are no maps are those of the patches alone.
    """

    apply_layernorm: bool = True
    reshape_hidden_states: bool = True
    return_class_token: bool = False
    norms_last_stage: ClassVar[bool] = False
    first_is_patch: ClassVar[bool] = False

    @property
    def stage_names(self) -> list[str]:
        """The names of the stages."""
        return stages(self.num_hidden_layers)

    @stage_names.setter
    def stage_names(self, names: Any) -> None:  # which files have, and which follow from the number of layers
        for name in STAGE_FIELDS:
            vars(self).setdefault(name, None)

    @property
    def out_features(self) -> list[str]:
        """The names of the stages that a backbone returns. Setting them sets their numbers."""
        return self._aligned()[0]

    @out_features.setter
    def out_features(self, names: Sequence[str] | None) -> None:
        self._choose(names, None)

    @property
    def out_indices(self) -> list[int]:
        """The numbers of the stages that a backbone returns. Setting them sets their names."""
        return self._aligned()[1]

    @out_indices.setter
    def out_indices(self, numbers: Sequence[int] | None) -> None:
        self._choose(None, numbers)

    def norms(self, stage: int) -> bool:
        """Whether a backbone norms the tokens after a stage.

        Args:
            stage: its number.
        """
        return self.apply_layernorm or (self.norms_last_stage and stage in (self.num_hidden_layers, -1))

    @property
    def first_mapped(self) -> int:
        """The first token after a stage that a backbone returns."""
        is_patch = self.reshape_hidden_states or self.first_is_patch
        return self.architecture.num_prefix_tokens if is_patch else 0

    def _choose(self, names: Any, numbers: Any) -> None:
        """Note which stages were chosen; there is no note where nobody has ever chosen."""
        if "stage_names" in vars(self) or (names, numbers) != (None, None):
            names, numbers = (list(each) if isinstance(each, tuple | list) else each for each in (names, numbers))
            vars(self).update(stage_names=None, out_features=names, out_indices=numbers)

    def _aligned(self) -> tuple[list[str], list[int]]:
        return aligned(vars(self).get("out_features"), vars(self).get("out_indices"), self.stage_names)

    def _set_fields(self, values: Mapping[str, Any]) -> None:
        super()._set_fields({name: value for name, value in values.items() if name not in CHOICES})
        if any(name in values for name in CHOICES):
            self._choose(*map(values.get, CHOICES))  # together, since setting one unsets the other

    def validate(self) -> None:
        """See `PretrainedConfig.validate`."""
        super().validate()
        require_switches(self, ("apply_layernorm", "reshape_hidden_states", "return_class_token"))
        if self.return_class_token and "cls_token" not in self.architecture.prefix_tokens:
            raise ValueError("return_class_token is True, and the model has no class token; leave it out.")
        _, numbers = self._aligned()
        if numbers == [self.num_hidden_layers]:  # the last stage stays the last, however many layers there will be
            self._choose(None, None)

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], **options: Any) -> Any:
        """See `PretrainedConfig.from_dict`."""
        fields = config_dict
        overridden = any(options.get(name) is not None for name in CHOICES)
        is_last = fields.get("out_indices") == [fields.get("num_hidden_layers")]
        if overridden or (is_last and "num_hidden_layers" in options):
            fields = {name: value for name, value in fields.items() if name not in CHOICES}
        return super().from_dict(fields, **options)

    def to_dict(self) -> dict[str, Any]:
        """Every field, as plain values that belong to the caller."""
        values = super().to_dict()
        if "stage_names" in values:
            values |= {name: getattr(self, name) for name in STAGE_FIELDS}
        return values


class Backbone:
    """What the backbones of every framework have: which stages they return, and how wide these are.

    Their configs say it: setting a backbone's `out_features` or `out_indices` sets those of its config.
    """

    config: Any
    has_attentions = True
    use_timm_backbone = False

    @property
    def stage_names(self) -> list[str]:
        """The names of all stages."""
        names: list[str] = self.config.stage_names
        return names

    @property
    def out_features(self) -> list[str]:
        """The names of the stages that are returned."""
        names: list[str] = self.config.out_features
        return names

    @out_features.setter
    def out_features(self, names: Sequence[str]) -> None:
        self.config.update({"out_features": names})

    @property
    def out_indices(self) -> list[int]:
        """Their numbers."""
        numbers: list[int] = self.config.out_indices
        return numbers

    @out_indices.setter
    def out_indices(self, numbers: Sequence[int]) -> None:
        self.config.update({"out_indices": numbers})

    @property
    def num_features(self) -> list[int]:
        """The width of each stage."""
        return [self.config.hidden_size] * (self.config.num_hidden_layers + 1)

    @property
    def out_feature_channels(self) -> dict[str, int]:
        """The width of each stage, by name."""
        return dict(zip(self.stage_names, self.num_features, strict=True))

    @property
    def channels(self) -> list[int]:
        """The width of each stage that is returned."""
        return [self.out_feature_channels[name] for name in self.out_features]
