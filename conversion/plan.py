"""What a format takes of a checkpoint."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field, replace

import numpy as np

from conversion.canonical import LAYER, in_words, is_of_base, key_of, keyed, named, without_layer
from conversion.casting import Cast
from conversion.checkpoint import Checkpoint
from conversion.formats import rules
from conversion.formats.format import Format, Tensors, matching
from vit_core.config import PretrainedConfig
from vit_core.families import FAMILIES, Family, family_of
from vit_core.parameters import BARE, STACKS, Task, parameters
from vit_core.stored_tensor import DTYPES, StoredTensor, from_numpy


@dataclass(frozen=True)
class Plan:
    """What a format takes of a checkpoint, to be read once.

    Attributes:
        tensors: by canonical name.
        config: of the model that these tensors make.
        task: which model that is.
        form: the format that is written: the one that was asked for, or another in its stead.
        notes: what was changed, in sentences.
        left_out: the names of what the format has no place for, without what stands before those of a base model.
        beside: what the source has beside the model and the format, too, by its names there.
    """

    tensors: Tensors
    config: PretrainedConfig
    task: Task
    form: Format
    notes: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    beside: Tensors = field(default_factory=dict)

    @classmethod
    def of(cls, checkpoint: Checkpoint, reading: Cast, form: Format) -> Plan:
        """What a format takes of a checkpoint.

        Raises:
            ValueError: the format has no place for such a model, or for something without which its answers would be
                others.
        """
        family = family_of(checkpoint.config)
        written = form.for_family(family)
        if written is None:
            raise ValueError(
                f"{form.title} has no place for a {family.title}; convert to transformers, which has one for all."
            )
        form, config, notes = written, copy.deepcopy(checkpoint.config), list[str]()
        if config.pruned_heads and any(_needs_whole_heads(rule) for rule in form.rules):
            raise ValueError(
                f"attention heads are pruned, for which {form.title} has no place; convert to transformers."
            )
        carried = matching(checkpoint.beside, form.carried.get(checkpoint.format, ()))
        passed = reading.through({**checkpoint.tensors, **{name: checkpoint.beside[name] for name in carried}})
        beside, task = {name: passed.pop(name) for name in carried}, checkpoint.task
        if carried:
            notes.append(f"{', '.join(_groups(carried))} are no part of the model; they were written as they are")
        tensors = keyed(passed, config, task)
        if family.model_type not in form.models:
            config, task = _as_encoder(config, task)
            family = family_of(config)
        if what := form.lacks(config):
            raise ValueError(f"{form.title} has no place for {what}; convert to transformers.")
        for name, what in form.always.items():
            if not getattr(config, name):
                setattr(config, name, True)
                tensors = _with_zeros(tensors, config, task)
                notes.append(f"{form.title} always has {what}; zeros were written")
        for rule in form.rules:
            if any(isinstance(step, rules.FoldClassPosition) for step in rule.steps):
                folded = rule.write([tensors[key] for key in rule.ours], config.num_attention_heads)
                tensors |= zip(rule.ours, rule.read(folded), strict=True)
                notes.append(f"in {form.title} the class token's position is a part of the token")
        homeless = _homeless(tensors, form, family, task, config)
        if config.classifier_uses_pooler and "pooler.dense.weight" in homeless:
            raise ValueError(
                f"the classifier reads a pooler (Google's representation layer), for which {form.title} has no place; "
                f"convert to transformers, google, torchvision or keras-hub."
            )
        if config.classifier_uses_pooler and not form.head_reads_pooler:
            notes.append(f"what else reads {form.title} knows no classifier that reads the pooler, and differs there")
        if homeless:
            notes.append(f"{form.title} has no place for {', '.join(map(in_words, homeless))}; left out")
        kept = {key: tensor for key, tensor in tensors.items() if key not in homeless}
        there = {without_layer(key)[0] for key in kept}
        if lacking := next((group for group in form.needs if not there & set(group)), None):
            parts = " or ".join(map(in_words, lacking))
            raise ValueError(
                f"{form.title} has no place for a {family.title} without {parts}; convert to transformers."
            )
        if "embeddings.mask_token" in homeless and getattr(config, "use_mask_token", False):
            config.use_mask_token = False
        if not all(map(is_of_base, homeless)) or (task in BARE and task not in form.models[family.model_type]):
            task = "model"
        config_class = family.config_classes.get(task, family.config_class)
        if family.config_classes and type(config) is not config_class:  # without its head, it is described by another
            config = config_class.from_dict(config_class.fields_in(config.to_dict()))
        config.architectures = [family.models[task]]
        left_out = tuple(map(in_words, homeless))
        return cls(named(kept, config, task), config, task, form, tuple(notes), left_out, beside)

    def spelt(self) -> dict[str, StoredTensor]:
        """The tensors under the names and with the axes of the format; they are read when they are written."""
        form, family = self.form, family_of(self.config)
        prefix = form.base_prefix(family) if self.task not in BARE or form.always_prefixed else ""
        tensors = keyed(self.tensors, self.config, self.task)
        written = rules.write(form.rules, tensors, self.config.num_attention_heads, prefix)
        return dict(form.spelt({**written, **self.beside}, self.config))


def _as_encoder(config: PretrainedConfig, task: Task) -> tuple[PretrainedConfig, Task]:
    """The config of a family whose models take the base model for their own, and which of them the model is then."""
    family = family_of(config)
    assert family.encoder_is is not None  # or the format would have no place for it
    other = FAMILIES[family.encoder_is]
    own = family.config_class().to_dict().keys() - other.config_class().to_dict().keys()
    fields = {name: value for name, value in config.to_dict().items() if name not in own and name != "model_type"}
    return other.config_class.from_dict(fields), task if task in other.models else "model"


def _homeless(tensors: Tensors, form: Format, family: Family, task: Task, config: PretrainedConfig) -> list[str]:
    """The keys of what a format has no place for."""
    places = {template for rule in form.rules for template in rule.ours}
    homeless = [key for key in tensors if without_layer(key)[0] not in places]
    if task not in form.models[family.model_type]:
        homeless += [key for key in tensors if key in homeless or not is_of_base(key)]
    if form.head_reads_pooler and not config.classifier_uses_pooler:
        homeless += [key for key in tensors if key.startswith("pooler.")]
    return [key for key in tensors if key in set(homeless)]


def _needs_whole_heads(rule: rules.Rule) -> bool:
    is_of_heads = rule.ours[0].startswith(f"{STACKS['encoder']}.{LAYER}.attention.")
    return is_of_heads and any(isinstance(step, rules.Fuse | rules.SplitHeads) for step in rule.steps)


def _groups(names: list[str]) -> list[str]:
    """The first parts of names."""
    return list(dict.fromkeys(re.split("[./]", name)[0] for name in names))


def _with_zeros(tensors: Tensors, config: PretrainedConfig, task: Task) -> dict[str, StoredTensor]:
    """The tensors with zeros for those that the config asks for and that are not there."""
    has_pooler = any(key.startswith("pooler.") for key in tensors)
    table = parameters(config, task, add_pooling_layer=has_pooler, use_mask_token="embeddings.mask_token" in tensors)
    code = next(iter(tensors.values())).dtype
    zeros = {key_of(row): replace(from_numpy(np.zeros(row.shape, DTYPES[code])), dtype=code) for row in table}
    return {**{key: tensors.get(key, zero) for key, zero in zeros.items()}, **tensors}
