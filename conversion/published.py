"""Canonical names and the names that transformers gave to tensors of a family, one for the other.

For most families these are the same. For the others, of `conversion.formats.published`, everybody's files have the
published names, and models their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from conversion.canonical import LAYER, is_of_base, keyed
from conversion.formats import rules
from conversion.formats.format import Format
from conversion.formats.transformers import PATCHES, TRANSFORMERS
from conversion.formats.transformers_flax import TRANSFORMERS_FLAX
from vit_core.config import PretrainedConfig
from vit_core.families import Family, family_of
from vit_core.parameters import BARE, Task
from vit_core.renaming import distinct
from vit_core.stored_tensor import StoredTensor

Tensors = Mapping[str, StoredTensor]


def published_format(family: Family) -> Format:
    """The format in which transformers writes checkpoints of a family as safetensors."""
    return TRANSFORMERS.for_family(family) or TRANSFORMERS


def has_other_names(family: Family) -> bool:
    """Whether files of a family have other names than its models."""
    return published_format(family) is not TRANSFORMERS


def as_published(tensors: Tensors, config: PretrainedConfig) -> dict[str, StoredTensor]:
    """Tensors by the names of files, with their axes; what the family does not have, keeps its name.

    Args:
        tensors: by canonical name, with whatever stands before them in the model.
        config: the model's.
    """
    family = family_of(config)
    form = published_format(family)
    if form is TRANSFORMERS:
        return dict(tensors)
    found: dict[str, StoredTensor] = {}
    for wrapper, names in _by_wrapper(tensors, PATCHES, ("", family.prefix)):
        inner = {name.removeprefix(wrapper): tensors[name] for name in names}
        starts = {ours[0]: (rule, number, ours) for rule, number, ours in rules.applied(_of_base(form), inner)}
        taken = {key for _, _, ours in starts.values() for key in ours}
        bare = form.always_prefixed and not f".{wrapper}".endswith(f".{family.prefix}")
        prefix = wrapper + family.prefix if bare else wrapper
        for key in inner:
            if key in starts:
                rule, number, ours = starts[key]
                theirs = [prefix + each.replace(LAYER, number) for each in rule.theirs]
                written = rule.write([inner[each] for each in ours], config.num_attention_heads)
                found |= zip(theirs, written, strict=True)
            elif key not in taken:
                found[wrapper + key] = inner[key]
    return dict(form.spelt(found, config))


def as_flax_published(tensors: Tensors, config: PretrainedConfig, task: Task) -> dict[str, StoredTensor] | None:
    """The tensors of a `flax_model.msgpack` of transformers; None where canonical names are meant or it has none.

    Args:
        tensors: by canonical name.
        config: the model's.
        task: which model of its family.
    """
    family = family_of(config)
    form = TRANSFORMERS_FLAX.for_family(family)
    keys = keyed(tensors, config, task)
    if form is None or form is TRANSFORMERS_FLAX:
        return None
    prefix = form.base_prefix(family) if task not in BARE or form.always_prefixed else ""
    return rules.write(form.rules, keys, config.num_attention_heads, prefix)


def as_canonical(tensors: Tensors, family: Family, *, is_bare: bool = False) -> dict[str, StoredTensor]:
    """Tensors by canonical names, with their axes; what does not have a published name of the family, keeps its own.

    Args:
        tensors: by published or canonical name, with whatever stands before them in the file.
        family: whose they are.
        is_bare: whether they are for a bare base model, before whose names nothing stands.

    Raises:
        TwoNamesError: a tensor is there under two names.
        ValueError: a shape cannot be.
    """
    form = published_format(family)
    if form is TRANSFORMERS:
        return dict(tensors)
    tensors = form.normalised(tensors)
    entries: list[tuple[str, str, StoredTensor]] = []
    for wrapper, names in _by_wrapper(tensors, form.signature[0], ("", family.prefix)):
        inner = {name.removeprefix(wrapper): tensors[name] for name in names}
        if not _has_published_names(form, inner):
            entries += [(name, name, tensors[name]) for name in names]
            continue
        reading = rules.read(_of_base(form), inner)
        prefix = _without_family_prefix(wrapper, tensors, form, family, is_bare)
        entries += [(wrapper + reading.sources[key], prefix + key, each) for key, each in reading.tensors.items()]
        entries += [(wrapper + name, wrapper + name, inner[name]) for name in reading.unused]
    return distinct(entries)


def _of_base(form: Format) -> list[rules.Rule]:
    return [rule for rule in form.rules if rule.is_of_base]


def _by_wrapper(names: Iterable[str], suffix: str, usual: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """What stands before the names of each base model, found by a name that each has, with the names there."""
    names = list(names)
    wrappers = [name.removesuffix(suffix) for name in names if name.endswith(suffix)]
    wrappers = [each for each in wrappers if each[-1:] in ("", ".")] or list(usual)
    starts = set(wrappers)
    groups: dict[str, list[str]] = {}
    for name in names:
        end = len(name)
        while end and name[:end] not in starts:
            end = name.rfind(".", 0, end - 1) + 1
        groups.setdefault(name[:end], []).append(name)
    yield from groups.items()


def _has_published_names(form: Format, names: Iterable[str]) -> bool:
    """Whether there is a name among them that the format has and no canonical tensor."""
    patterns = [
        pattern
        for rule in _of_base(form)
        for name, pattern in zip(rule.theirs, rule.patterns, strict=True)
        if name not in rules.kinds()
    ]
    return any(pattern.fullmatch(name) for name in names for pattern in patterns)


def _without_family_prefix(wrapper: str, names: Iterable[str], form: Format, family: Family, is_bare: bool) -> str:
    """What stands before the names in a model: bare models that are parts of others have no prefix of their own."""
    outer = wrapper.removesuffix(family.prefix)
    if not form.always_prefixed or outer == wrapper:
        return wrapper
    if not outer:
        return "" if is_bare else wrapper
    heads = [rule.theirs[0] for rule in form.rules if not is_of_base(rule.ours[0])]
    return wrapper if any(outer + head in names for head in heads) else outer
