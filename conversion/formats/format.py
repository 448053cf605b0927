"""What a format is: a table of rules, how it is recognised, and its conventions."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from conversion.formats.names_by_start import NamesByStart
from conversion.formats.preprocessing import PLAIN, Preprocessing
from conversion.formats.rules import Rules
from vit_core.architecture import Resampling
from vit_core.config import PretrainedConfig
from vit_core.families import FAMILIES, Family
from vit_core.parameters import Task
from vit_core.renaming import TwoNamesError
from vit_core.stored_tensor import StoredTensor

Tensors = Mapping[str, StoredTensor]
Settings = Mapping[str, Any]

#: Every model of every family.
ALL_MODELS: Mapping[str, tuple[Task, ...]] = {name: tuple(family.models) for name, family in FAMILIES.items()}
#: Plain classifiers, the models that most formats have.
CLASSIFIERS: Mapping[str, tuple[Task, ...]] = {"vit": ("model", "image-classification")}

#: What formats have for which query, key and value always have biases; see `Format.always`.
QKV_BIAS = {"qkv_bias": "biases of query, key and value"}

#: Parts of what stands before an optimizer's averages, which look like a model and are none; in older files of Flax the
#: model itself is the optimizer's target.
OPTIMIZER = re.compile(
    "opt(im(izers?)?)?(_?states?(_?dict)?|_weights|_variables)?|(max_)?exp_avg(_sq)?|mu|nu|trace|momentums?(_buffer)?|velocit(y|ies)"
    "|grads?(ients)?(_ema)?",
    re.IGNORECASE,
)
TARGET = "target"
MOST_MODELS = 64  # in a file; the folds of a cross-validation are ten


@dataclass(frozen=True)
class Found:
    """One model of a format, found in a file.

    Attributes:
        wrapper: what stands before the names in the file, such as "model/" or "teacher/backbone.".
        place: the wrapper without the base model's prefix and with dots alone, such as "teacher.backbone"; one name
            for it in all formats.
        tensors: without the wrapper.
        whole: likewise, with the base model's prefix where there is one.
        base_prefix: that prefix, "" where there is none.
        beside: what else is in the same dictionary and not under the wrapper, such as a head of someone's own.
        others: places of the file's other models, if this one was preferred to them and nobody has named it.
        twice: why it cannot be read, if the file has one of its tensors under two names.
    """

    wrapper: str
    place: str
    tensors: Tensors
    whole: Tensors
    base_prefix: str
    beside: Tensors
    others: tuple[str, ...] = ()
    twice: TwoNamesError | None = None


def _as_they_are(tensors: Tensors) -> Tensors:
    return tensors


def _spelt_as_they_are(tensors: Tensors, config: PretrainedConfig) -> Tensors:
    return tensors


def _whatever(model: Found, metadata: Settings) -> bool:
    return True


def _own_config(metadata: Settings) -> dict[str, Any] | None:
    is_own = "hidden_size" in metadata and metadata.get("model_type", "vit") in list(FAMILIES)  # it may be anything
    return dict(metadata) if is_own else None


def _not_said(metadata: Settings, config: PretrainedConfig) -> None:
    return None


def _not_named(metadata: Settings, hidden_size: int) -> dict[str, Any]:
    return {}


def _nothing(model: Found, metadata: Settings) -> dict[str, Any]:
    return {}


def _lacks_nothing(config: PretrainedConfig) -> str:
    return ""


def _no_remarks(config: PretrainedConfig, task: Task) -> list[str]:
    return []


def _own_config_file(config: PretrainedConfig, preprocessing: Settings) -> str:
    return config.to_json_string()


@dataclass(frozen=True)
class Format:
    """A way to store a Vision Transformer.

    Attributes:
        name: what `--to` takes.
        title: what it is called in sentences.
        rules: where it keeps each canonical tensor; names are without wrapper and without the base model's prefix.
            Those of heads come last.
        models: the tasks of the models that it has, by model type; where several may be meant, the first type is.
        signature: names that every such file holds; the first one finds the wrapper.
        conventions: config fields that its tensors cannot tell, as the code that writes such files has them; with
            `keeps_defaults`, as the family's config has them.
        keeps_defaults: see there.
        told: those of them that `config_file` tells whoever reads it.
        unsure: fields in which such models differ, so that loading warns where they have to be assumed.
        preprocessing: what such models expect of images when no file says.
        preprocessing_of: likewise of the models of some types, where their authors always do the same.
        files: the files that it is written to, {container: name}, the usual one first; empty if it is only read.
        base_prefixes: what may stand before the base model's names in a model with a head, by model type.
        claims: (the model, content of config.json) -> whether a model with the signature is of this format and not of
            one that comes after it.
        left_out: patterns of tensors that belong to such checkpoints and to no ViT that Trivit has, such as decoders.
        texts: those of them that are the text tower's, or compare texts with images.
        refused: {pattern of names: what such a tensor makes of the model, which is not read then}.
        head_reads_pooler: whether a classifier beside a pooler, Google's representation layer, reads it.
        always: fields of a config that are True of all its models, and what they have then; zeros are written if need
            be.
        normalised: turns the names and arrays of a file into those of the rules.
        spelt: the other direction, for a model with that config.
        attributes: those of HDF5's groups, from what is written: {group: {name: value}}.
        needs: groups of templates; it cannot do without one of each group.
        inside: the dictionary that is around the tensors, in kinds of files that have dictionaries.
        others: formats that are written in its stead for models that they have.
        shards: whether large models are written in several files with an index.
        always_prefixed: whether the prefix stands before the names of bare base models, too.
        config_fields: what a `config.json` in this format's own terms says, as fields of a config; None if it is not in
            them.
        named_fields: what the name of an architecture in that `config.json` tells of a model of some width.
        fields_of: (the model, content of config.json) -> fields of a config that the format's own tensors tell.
        preprocessing_fields: what that `config.json` says of preprocessing, for a model with that config; likewise.
        config_file: (config, preprocessing) -> the text of the `config.json` beside the weights.
        carried: {format of the source: patterns of what is left out in reading and has the same names here}: it is
            written as it is.
        lacks: config of a model -> what of it the format has no place for; "" if nothing.
        computes: config of a model -> what the code that reads such files computes with, where that depends on it; see
            `conventions`.
        resamplings: how that code resamples positions; several where models may ask for one or the other.
        remarks: (config, task) -> what else to say when such a model is written, in sentences.
    """

    name: str
    title: str
    rules: Rules
    signature: tuple[str, ...]
    models: Mapping[str, tuple[Task, ...]] = field(default_factory=lambda: CLASSIFIERS)
    conventions: Settings = field(default_factory=dict)
    keeps_defaults: bool = False
    told: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    preprocessing: Preprocessing = PLAIN
    preprocessing_of: Mapping[str, Preprocessing] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    base_prefixes: Mapping[str, str] = field(default_factory=dict)
    claims: Callable[[Found, Settings], bool] = _whatever
    left_out: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    head_reads_pooler: bool = False
    always: Mapping[str, str] = field(default_factory=dict)
    normalised: Callable[[Tensors], Tensors] = _as_they_are
    spelt: Callable[[Tensors, PretrainedConfig], Tensors] = _spelt_as_they_are
    attributes: Callable[[Tensors], Mapping[str, Settings]] | None = None
    needs: tuple[tuple[str, ...], ...] = ()
    inside: str = ""
    others: tuple[Format, ...] = ()
    shards: bool = False
    always_prefixed: bool = False
    config_fields: Callable[[Settings], dict[str, Any] | None] = _own_config
    named_fields: Callable[[Settings, int], dict[str, Any]] = _not_named
    fields_of: Callable[[Found, Settings], dict[str, Any]] = _nothing
    preprocessing_fields: Callable[[Settings, PretrainedConfig], dict[str, Any] | None] = _not_said
    config_file: Callable[[PretrainedConfig, Settings], str] = _own_config_file
    carried: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lacks: Callable[[PretrainedConfig], str] = _lacks_nothing
    computes: Callable[[PretrainedConfig], Settings] | None = None
    resamplings: tuple[Resampling, ...] = ("bicubic", "antialiased")
    remarks: Callable[[PretrainedConfig, Task], list[str]] = _no_remarks

    def for_family(self, family: Family) -> Format | None:
        """The format in which models of a family are written when this one is asked for; None if it has none of them.

        A family whose base model is another's is written as that one.
        """
        for model_type in filter(None, (family.model_type, family.encoder_is)):
            for form in (*self.others, self):
                if model_type in form.models:
                    return form
        return None

    def base_prefix(self, family: Family) -> str:
        """What stands before the base model's names in a model of a family with a head."""
        return self.base_prefixes.get(family.model_type, "")

    def conventions_of(self, family: Family) -> dict[str, Any]:
        """Config fields that the tensors of models of a family cannot tell, as the code that writes them has them."""
        defaults = family.config_class() if self.keeps_defaults else None
        return {name: getattr(defaults, name, value) for name, value in self.conventions.items()}

    def find(self, stored: Tensors, metadata: Settings, taken: Collection[str] = ()) -> list[Found]:
        """The models of this format in a file, each without its wrapper.

        Args:
            stored: the file's tensors.
            metadata: what the `config.json` beside it says.
            taken: places that are not looked at, since models of other formats were found there.

        Raises:
            ValueError: there are more than any file holds.
        """
        twice: TwoNamesError | None = None
        try:
            stored = self.normalised(stored)
        except TwoNamesError as error:  # which counts only if there is such a model
            stored, twice = error.renamed, error
        first = self.signature[0]
        if f"{first}\n" not in "\n".join((*stored, "")):  # no name ends so, as of most formats; this tells it fast
            return []
        starts = [name.removesuffix(first) for name in stored if name.endswith(first)]
        starts = [start for start in starts if start[-1:] in ("", ".", "/") and not _is_optimizers(start)]
        starts = [start for start in starts if self._place(start) not in taken and self._is_signed(start, stored)]
        if len(starts) > MOST_MODELS:
            raise ValueError(f"it holds {len(starts)} models, more than the {MOST_MODELS} that are looked at.")
        if not starts:
            return []
        names = NamesByStart(stored)
        models: dict[str, Found] = {}
        for start in starts:
            found = self._at(start, stored, names, twice)
            if not self.claims(found, metadata):
                continue
            if same := models.get(found.place):
                both = TwoNamesError(same.wrapper + first, start + first, first, stored)
                models[found.place] = replace(same, twice=both)
            else:
                models[found.place] = found
        return list(models.values())

    def _place(self, wrapper: str) -> str:
        return self._without_base_prefix(wrapper).strip("./").replace("/", ".")

    def _is_signed(self, wrapper: str, stored: Tensors) -> bool:
        outer = self._without_base_prefix(wrapper)
        return all(wrapper + name in stored or outer + name in stored for name in self.signature)

    def _at(self, wrapper: str, stored: Tensors, names: NamesByStart, twice: TwoNamesError | None) -> Found:
        outer = self._without_base_prefix(wrapper)
        inside = names.under(outer)
        whole = {name.removeprefix(outer): stored[name] for name in inside}
        base_prefix = wrapper.removeprefix(outer)
        tensors = {name.removeprefix(base_prefix): tensor for name, tensor in whole.items()}
        level = outer[: outer.rfind("/") + 1]
        beside = {
            name.removeprefix(level): stored[name] for name in names.on_level(level) if not name.startswith(outer)
        }
        if twice is not None and not twice.name.startswith(outer):
            twice = None
        return Found(wrapper, self._place(wrapper), tensors, whole, base_prefix, beside, twice=twice)

    def _without_base_prefix(self, wrapper: str) -> str:
        for prefix in self.base_prefixes.values():
            outer = wrapper.removesuffix(prefix)
            if outer != wrapper and outer[-1:] in ("", ".", "/"):  # "my_vit." is another name than "vit."
                return outer
        return wrapper


def words(name: str) -> list[str]:
    """The words of a name in lower case: "modelEma" and "model_ema" have the same."""
    return [word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name)]


def _is_optimizers(wrapper: str) -> bool:
    parts = re.split("[./]", wrapper)
    return TARGET not in parts and any(map(OPTIMIZER.fullmatch, parts))


def matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The names that match one of the patterns, in which `*` stands for anything."""
    patterns = list(patterns)
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
