"""What the tensors of a model say of its config, after parts of it were replaced."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from conversion.assumptions import fields_from_shapes
from conversion.canonical import HEAD, rows, without_layer
from vit_core.checks import listed
from vit_core.config import PretrainedConfig
from vit_core.families import family_of
from vit_core.loading_plan import Shape
from vit_core.parameters import Parameter


@dataclass(frozen=True)
class Description:
    """A model as its checkpoint will have it.

    Attributes:
        config: one from which such tensors follow.
        rows: the parameters of the table that the model has.
        extras: the names of its other tensors.
    """

    config: PretrainedConfig
    rows: tuple[Parameter, ...]
    extras: tuple[str, ...]


def described(
    config: PretrainedConfig,
    table_of: Callable[[PretrainedConfig], Sequence[Parameter]],
    shapes: Mapping[str, Shape],
    model: str,
    *,
    is_own: bool = True,
    prefix: str | None = None,
) -> Description:
    """Find the config from which a model's tensors follow.

    Args:
        config: the model's, which is stale if a script has put in another classifier, taken layers away, or the like.
        table_of: the model's table of parameters with a config.
        shapes: those of its tensors, by name.
        model: what to call the model in messages.
        is_own: whether the model is of one of Trivit's classes. What a subclass does is its own affair and is done
            again when it is loaded: of its config only the number of labels follows the tensors. What anybody else adds
            or takes away is said in a warning.
        prefix: what the names of the base model's parameters start with in a model of someone's own with a head; as
            in those of the config's family unless given.

    Returns:
        The description, with the config as it was where it fits.

    Raises:
        ValueError: a tensor has a shape that no config gives it; the message says what to set.
    """
    prefix = prefix or f"{config.base_model_prefix}."
    if getattr(config, "vision_use_head", False) and not any("pooler." in name for name in shapes):
        config = config.replaced(vision_use_head=False)  # or transformers would start a pooler at random
    table = table_of(config)
    if {row.name: row.shape for row in table} != dict(shapes):
        config = _followed(config, table, shapes, prefix, None if is_own else ("num_labels",))
        table = table_of(config)
    for row in table:
        if is_own and shapes.get(row.name, row.shape) != row.shape:
            raise ValueError(
                f"{row.name} has shape {shapes[row.name]}, but model.config makes it {row.shape}; set the fields of "
                f"model.config that give such a model, or put the old part back."
            )
    rows = tuple(row for row in table if shapes.get(row.name) == row.shape)
    known = {row.name for row in rows}
    extras = tuple(name for name in shapes if name not in known)
    absent = [row.name for row in table if row.name not in shapes]
    if is_own and (extras or absent):
        _warn(model, extras, absent)
    return Description(config, rows, extras)


def _followed(
    config: PretrainedConfig,
    table: Sequence[Parameter],
    shapes: Mapping[str, Shape],
    prefix: str,
    fields: Sequence[str] | None,
) -> PretrainedConfig:
    """The config with those fields changed that the shapes contradict; of some fields alone, if they are given."""
    family = family_of(config)
    known = rows(family.model_type)
    heads = {row.name: row for row in table if not row.is_of_base}
    has_head = any(name.startswith(prefix) for name in shapes)
    told = {}  # a subclass may have a head of that name, or with parts of such names
    for name, shape in shapes.items():
        if name in heads:
            told[HEAD + name] = shape
        elif name.startswith(prefix) or (not has_head and without_layer(name)[0] in known):
            told[name.removeprefix(prefix)] = shape
    before = config.architecture.num_positioned_prefix_tokens
    try:
        changes = fields_from_shapes(family, told, {name: name for name in told}, [config.image_size], False, before)
    except ValueError:  # this is no whole Vision Transformer; a row that does not fit says more
        return config
    changes.pop("classifier_uses_pooler", None)  # shapes do not tell
    if changes.get("pooler_output_size", 0) is None and config.pooler_size == changes["hidden_size"]:
        del changes["pooler_output_size"]
    if config.pruned_heads:
        changes.pop("num_attention_heads", None)  # of which a table of relative positions has those that are kept
    parts = {name.split(".")[0] for name, row in heads.items() if "labels" in row.axes}
    if parts and not any(name.split(".")[0] in parts for name in shapes):
        changes["num_labels"] = 0  # an identity in place of the classifier
    changes = {
        name: value
        for name, value in changes.items()
        if getattr(config, name) != value and (fields is None or name in fields)
    }
    if not changes:
        return config
    layers = changes.get("num_hidden_layers", config.num_hidden_layers)
    changes["pruned_heads"] = {layer: heads for layer, heads in config.pruned_heads.items() if layer < layers}
    return config.replaced(**changes)


def _warn(model: str, extras: Sequence[str], absent: Sequence[str]) -> None:
    facts = [f"it holds {listed(extras)}, saved under these names"] if extras else []
    facts += [f"it lacks {listed(absent)}"] if absent else []
    warnings.warn(
        f"{model} was changed into what its class does not build: {' and '.join(facts)}. To load it as it is, make "
        f"these changes in the __init__ of a subclass, and call from_pretrained of that.",
        stacklevel=5,
    )
