"""What a format takes of a checkpoint."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from conversion.casting import Cast
from conversion.checkpoint import Checkpoint
from conversion.formats import rules
from conversion.formats.format import Format, Tensors
from vit_core.config import PretrainedConfig
from vit_core.families import family_of
from vit_core.parameters import Task
from vit_core.stored_tensor import DTYPES, StoredTensor, from_numpy


@dataclass(frozen=True)
class Plan:
    """What a format takes of a checkpoint, to be read once.

    Attributes:
        tensors: by canonical name.
        config: of the model that these tensors make.
        notes: what was changed, in sentences.
        left_out: the names in the base model of what the format has no place for.
    """

    tensors: Tensors
    config: PretrainedConfig
    notes: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, checkpoint: Checkpoint, reading: Cast, form: Format) -> Plan:
        """What a format takes of a checkpoint.

        Raises:
            ValueError: the format has no place for something without which the model's answers would be others.
        """
        config, notes = copy.deepcopy(checkpoint.config), []
        if config.pruned_heads and any(_needs_whole_heads(rule) for rule in form.rules):
            raise ValueError(
                f"attention heads are pruned, for which {form.title} has no place; convert to transformers."
            )
        tensors = base_names(reading.through(checkpoint.tensors), config)
        if form.has_qkv_bias and not config.qkv_bias:
            config.qkv_bias = True
            tensors = _with_zero_biases(tensors)
            notes.append(f"{form.title} always has biases of query, key and value; zeros were written")
        for rule in form.rules:
            if any(isinstance(step, rules.FoldClassPosition) for step in rule.steps):
                folded = rule.write([tensors[name] for name in rule.ours], config.num_attention_heads)
                tensors |= zip(rule.ours, rule.read(folded), strict=True)
                notes.append(f"in {form.title} the class token's position is a part of the token")
        places = {name for rule in form.rules for name in rule.ours}
        homeless = [name for name in tensors if rules.template_of(name)[0] not in places]
        if form.head_reads_pooler and not config.classifier_uses_pooler:
            homeless += [name for name in tensors if name.startswith("pooler.") and name not in homeless]
        if config.classifier_uses_pooler and "pooler.dense.weight" in homeless:
            raise ValueError(
                f"the classifier reads a pooler (Google's representation layer), for which {form.title} has no place; "
                f"convert to transformers, google, torchvision or keras-hub."
            )
        if config.classifier_uses_pooler and not form.head_reads_pooler:
            notes.append(f"what else reads {form.title} knows no classifier that reads the pooler, and differs there")
        if homeless:
            notes.append(f"{form.title} has no place for {', '.join(homeless)}; left out")
        kept = {name: tensor for name, tensor in tensors.items() if name not in homeless}
        task: Task = "model" if any(map(_is_head, homeless)) else checkpoint.task
        config.architectures = [family_of(config).models[task]]
        prefix = "" if task == "model" else family_of(config).prefix
        named = {name if _is_head(name) else prefix + name: tensor for name, tensor in kept.items()}
        return cls(named, config, tuple(notes), tuple(homeless))

    def spelt(self, form: Format) -> dict[str, StoredTensor]:
        """The tensors under the names and with the axes of the format; they are read when they are written."""
        has_head = self.config.architectures != [family_of(self.config).models["model"]]
        prefix = form.base_prefix if has_head else ""
        heads = self.config.num_attention_heads
        return dict(form.spelt(rules.write(form.rules, base_names(self.tensors, self.config), heads, prefix)))


def _is_head(name: str) -> bool:
    return name.split(".")[0] in rules.HEADS


def _needs_whole_heads(rule: rules.Rule) -> bool:
    return any(isinstance(step, rules.Fuse | rules.SplitHeads) for step in rule.steps)


def _with_zero_biases(tensors: Tensors) -> dict[str, StoredTensor]:
    """The tensors with biases of zero after the weights of query, key and value."""
    complete: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        complete[name] = tensor
        if ".attention.attention." in name:
            zeros = from_numpy(np.zeros(tensor.shape[:1], DTYPES[tensor.dtype]))
            complete[name.removesuffix("weight") + "bias"] = replace(zeros, dtype=tensor.dtype)
    return complete


def base_names(tensors: Tensors, config: PretrainedConfig) -> dict[str, StoredTensor]:
    """Tensors by their names in the base model."""
    return {name.removeprefix(family_of(config).prefix): tensor for name, tensor in tensors.items()}
