"""Canonical tensors of every family by one key each, whatever a model puts before their names.

A tensor of a base model has its name there for a key, and one of a head its name behind a mark: heads may use names of
the base model, as BEiT's for visual tokens does with "layernorm". Templates are keys with `*` for a layer's number.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from vit_core.config import PretrainedConfig
from vit_core.families import FAMILIES, Family, vision_transformer
from vit_core.parameters import BARE, STACKS, Parameter, Task, parameters

LAYER = "*"
HEAD = "head:"

T = TypeVar("T")

#: Sets of options with which models of a family have tensors that others of it lack; each config takes what it knows.
_OPTIONS: tuple[Mapping[str, Any], ...] = (
    {
        "use_mask_token": True,
        "use_absolute_position_embeddings": True,
        "use_relative_position_bias": True,
        "prefix_tokens": ("cls_token", "distillation_token"),
        "relative_positions": "layers",
        "layer_scale": 0.1,
    },
    {"use_shared_relative_position_bias": True, "relative_positions": "shared", "pooler": "mean-norm"},
    {
        "qkv_bias": False,
        "halves": "parallel",
        "rotary_positions": "mixed",
        "layer_scale_init_value": 0.0,
        "use_mean_pooling": False,
    },
    {"prefix_tokens": (), "absolute_positions": None, "final_norm": False, "classifier_reads": "mean"},
    {"use_swiglu_ffn": True, "use_gated_mlp": True, "key_bias": True, "num_register_tokens": 1},
    {
        **dict.fromkeys(("embedding_norm", "query_key_norm", "attention_norm", "mlp_norm", "gated_mlp"), True),
        "patch_norm": True,
        "register_tokens": 1,
        "pooler": "attention",
    },
    {
        **dict.fromkeys(("query_bias", "value_bias", "proj_bias", "output_bias", "mlp_bias", "patch_bias"), False),
        "use_mask_token": False,
        "num_register_tokens": 0,
        "norm": "rms",
    },
)
_IN_A_LAYER = re.compile(rf"({HEAD})?({'|'.join(map(re.escape, STACKS.values()))})\.(\d+)(\..+)")


def key_of(row: Parameter) -> str:
    """The key of a row of the table."""
    return row.base_name if row.is_of_base else HEAD + row.base_name


def template_of(row: Parameter) -> str:
    """The template of a row of the table."""
    return row.template if row.is_of_base else HEAD + row.template


def is_of_base(key: str) -> bool:
    """Whether a key or a template is of the base model."""
    return not key.startswith(HEAD)


def without_layer(key: str) -> tuple[str, str]:
    """The template of a key, and the number of its layer ("" if it belongs to none)."""
    match = _IN_A_LAYER.fullmatch(key)
    return (f"{match[1] or ''}{match[2]}.{LAYER}{match[4]}", match[3]) if match else (key, "")


def in_words(key: str) -> str:
    """A key or a template as the canonical name of the tensor, without what stands before those of a base model."""
    return key.removeprefix(HEAD)


def keyed(tensors: Mapping[str, T], config: PretrainedConfig, task: Task) -> dict[str, T]:
    """Tensors by their keys instead of their canonical names."""
    if task in BARE:
        return dict(tensors)
    prefix = f"{config.base_model_prefix}."
    return {
        name.removeprefix(prefix) if name.startswith(prefix) else HEAD + name: each for name, each in tensors.items()
    }


def named(tensors: Mapping[str, T], config: PretrainedConfig, task: Task) -> dict[str, T]:
    """Tensors by their canonical names instead of their keys."""
    prefix = "" if task in BARE else f"{config.base_model_prefix}."
    return {prefix + key if is_of_base(key) else in_words(key): each for key, each in tensors.items()}


def tables(family: Family) -> Iterator[tuple[Task, tuple[Parameter, ...]]]:
    """The rows of models of a family with one layer, of each task and with each of the options that change them."""
    fields = vars(family.config_class())
    layers: dict[str, Any] = {name: 1 for name in ("num_hidden_layers", "decoder_num_hidden_layers") if name in fields}
    known = [
        {name: value for name, value in options.items() if hasattr(family.config_class, name) or name in fields}
        for options in _OPTIONS
    ]
    distinct = [options for index, options in enumerate(known) if options not in known[:index]]
    for options in distinct:  # most families know few of the options, and every import waits for their tables
        config = family.config_class(**layers, **options)
        yield "model", parameters(config, add_pooling_layer=True, use_mask_token=True)
        yield "model", parameters(config, add_pooling_layer=False, use_mask_token=False)
        for task in family.models:
            if task != "model":
                yield task, parameters(config, task)


@functools.cache
def rows(model_type: str) -> Mapping[str, Parameter]:
    """Every row that a model of a family may have, by template, base model first."""
    found = {template_of(row): row for _, table in tables(FAMILIES[model_type]) for row in table}
    return dict(sorted(found.items(), key=lambda item: not is_of_base(item[0])))


@functools.cache
def required(model_type: str) -> frozenset[str]:
    """The templates of what every base model of a family has."""
    return frozenset.intersection(
        *(frozenset(map(template_of, table)) for task, table in tables(FAMILIES[model_type]) if task == "model")
    )


@functools.cache
def heads(model_type: str) -> Mapping[Task, frozenset[str]]:
    """The templates of what each model of a family has beside the base model."""
    found: dict[Task, frozenset[str]] = {}
    for task, table in tables(FAMILIES[model_type]):
        found[task] = found.get(task, frozenset()) | {template_of(row) for row in table if not row.is_of_base}
    return found


def every_row() -> Mapping[str, Parameter]:
    """Every row that a model of any family may have, by template, base models first."""
    found = {template: row for model_type in reversed(FAMILIES) for template, row in rows(model_type).items()}
    return dict(sorted(found.items(), key=lambda item: not is_of_base(item[0])))


def family_like(
    templates: Iterable[str], prefix: str, model_types: Iterable[str], wanted: Family | None = None
) -> Family:
    """The family that tensors are most likely of.

    Args:
        templates: those of the tensors.
        prefix: what stands before the names of the base model in the file, if anything.
        model_types: those that come into question; of several that fit, the first one is meant. One that may be made of
            anything is never guessed, unless there is no other.
        wanted: the family that is hoped for, which is meant if it fits, too.
    """
    there = set(templates)

    def misfit(family: Family) -> tuple[int, bool, int, bool]:
        return (
            len(there - rows(family.model_type).keys()),
            bool(prefix) and prefix.strip("./") != family.config_class.base_model_prefix,
            len(required(family.model_type) - there),
            family is not wanted,
        )

    families = [FAMILIES[name] for name in model_types]
    return min([each for each in families if each is not vision_transformer.FAMILY] or families, key=misfit)
