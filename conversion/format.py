"""What a format is: a table of rules, how it is recognised, and its conventions."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conversion.preprocessing import PLAIN, Preprocessing
from conversion.rules import Rule
from vit_core.config import MODEL_TYPE, ViTConfig
from vit_core.safetensors_file import StoredTensor

Tensors = Mapping[str, StoredTensor]
Settings = Mapping[str, Any]

#: What may stand before the names of a model's tensors. Others, such as an optimizer's averages, are no models.
WRAPPERS = frozenset(
    (
        *(
            "model",
            "module",
            "state_dict",
            "net",
            "network",
            "backbone",
            "encoder",
            "base_model",
            "vit",
            "deit",
            "beit",
        ),
        *("teacher", "student", "ema", "model_ema", "state_dict_ema"),
        *("params", "target", "opt"),  # Flax: the parameters, in older files in an optimizer's target
        "img",  # big_vision: of two towers, that of images
        *("_orig_mod", "_fsdp_wrapped_module"),  # torch.compile and FSDP
    )
)
#: Words in the wrapper of the model that a training checkpoint's authors evaluate: DINO's teacher, timm's averages.
PREFERRED_MODELS = ("teacher", "ema")


@dataclass(frozen=True)
class Found:
    """One model of a format, found in a file.

    Attributes:
        wrapper: what stands before the names in the file, such as "model/" or "teacher/backbone.".
        tensors: without it.
    """

    wrapper: str
    tensors: Tensors


def _as_they_are(tensors: Tensors) -> Tensors:
    return tensors


def _whatever(model: Found, metadata: Settings) -> bool:
    return True


def _own_config(metadata: Settings) -> dict[str, Any] | None:
    is_own = "hidden_size" in metadata and metadata.get("model_type", MODEL_TYPE) == MODEL_TYPE
    return dict(metadata) if is_own else None


def _not_said(metadata: Settings, config: ViTConfig) -> None:
    return None


def _own_config_file(config: ViTConfig, preprocessing: Settings) -> str:
    return config.to_json_string()


@dataclass(frozen=True)
class Format:
    """A way to store a Vision Transformer.

    Attributes:
        name: what `--to` takes.
        title: what it is called in sentences.
        rules: where it keeps each canonical tensor; names are without wrapper and without the base model's prefix.
        signature: names that every such file holds; the first one finds the wrapper.
        conventions: config fields that its tensors cannot tell, as the code that writes such files has them.
        told: those of them that `config_file` tells whoever reads it.
        preprocessing: what such models expect of images when no file says.
        files: the files that it is written to, {container: name}, the usual one first; empty if it is only read.
        base_prefix: what stands before the base model's names in a model with a head.
        claims: (the model, content of config.json) -> whether a model with the signature is of this format and not of
            one that comes after it.
        left_out: patterns of tensors that belong to such checkpoints and to no ViT that Trivit has, such as decoders.
        refused: {pattern of names: what such a tensor makes of the model, which is not read then}.
        head_reads_pooler: whether a classifier beside a pooler, Google's representation layer, reads it.
        has_qkv_bias: whether it always has the biases of query, key and value; zeros are written if need be.
        normalised: turns the names and arrays of a file into those of the rules.
        spelt: the other direction.
        attributes: those of HDF5's groups, from what is written: {group: {name: value}}.
        config_fields: what a `config.json` in this format's own terms says, as fields of a ViTConfig; None if it is
            not in them.
        preprocessing_fields: what that `config.json` says of preprocessing, for a model with that config; likewise.
        config_file: (config, preprocessing) -> the text of the `config.json` beside the weights.
    """

    name: str
    title: str
    rules: tuple[Rule, ...]
    signature: tuple[str, ...]
    conventions: Settings = field(default_factory=dict)
    told: tuple[str, ...] = ()
    preprocessing: Preprocessing = PLAIN
    files: Mapping[str, str] = field(default_factory=dict)
    base_prefix: str = ""
    claims: Callable[[Found, Settings], bool] = _whatever
    left_out: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    head_reads_pooler: bool = False
    has_qkv_bias: bool = False
    normalised: Callable[[Tensors], Tensors] = _as_they_are
    spelt: Callable[[Tensors], Tensors] = _as_they_are
    attributes: Callable[[Tensors], Mapping[str, Settings]] | None = None
    config_fields: Callable[[Settings], dict[str, Any] | None] = _own_config
    preprocessing_fields: Callable[[Settings, ViTConfig], dict[str, Any] | None] = _not_said
    config_file: Callable[[ViTConfig, Settings], str] = _own_config_file

    def find(self, stored: Tensors, metadata: Settings) -> Found | None:
        """The model of this format in a file, without its wrapper; None if there is none.

        Args:
            stored: the file's tensors.
            metadata: what the `config.json` beside it says.
        """
        stored = self.normalised(stored)
        first = self.signature[0]
        starts = (name.removesuffix(first) for name in stored if name.endswith(first))
        wrappers = sorted((start for start in starts if self._is_wrapper(start)), key=_rank)
        models = (Found(wrapper, self._unwrapped(stored, wrapper)) for wrapper in wrappers)
        return next((model for model in models if self._is_one(model, metadata)), None)

    def _is_wrapper(self, start: str) -> bool:
        outer = start.removesuffix(self.base_prefix)
        return not outer or set(re.split("[./]", outer.rstrip("./"))) <= WRAPPERS

    def _is_one(self, model: Found, metadata: Settings) -> bool:
        return all(name in model.tensors for name in self.signature) and self.claims(model, metadata)

    def _unwrapped(self, stored: Tensors, wrapper: str) -> Tensors:
        outer = wrapper.removesuffix(self.base_prefix)
        return {
            name.removeprefix(wrapper if name.startswith(wrapper) else outer): tensor
            for name, tensor in stored.items()
            if name.startswith(outer)
        }


def matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The names that match one of the patterns, in which `*` stands for anything."""
    patterns = list(patterns)
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def _rank(wrapper: str) -> tuple[bool, int, str]:
    return not any(word in wrapper for word in PREFERRED_MODELS), len(wrapper), wrapper
