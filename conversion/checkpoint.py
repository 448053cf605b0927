"""Opening a checkpoint in any format: which one it is, what its config is, and its tensors by canonical name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from conversion.adapters import refuse_adapters
from conversion.assumptions import (
    Assumption,
    assumed_fields,
    assumed_values,
    fields_from_shapes,
    warn_of_assumptions,
)
from conversion.canonical import family_like, heads, in_words, key_of, rows, without_layer
from conversion.formats import FORMATS, rules
from conversion.formats.format import Format, Found, Tensors, matching
from conversion.formats.published import PUBLISHED
from conversion.formats.timm_any import TIMM_ANY
from conversion.formats.transformers import TRANSFORMERS
from conversion.other_sizes import SIZES, for_other_sizes
from conversion.published import as_canonical, published_format
from conversion.recognition import models_in, recognise, warn_of_others
from conversion.sources import ANY_WEIGHTS, open_files
from vit_core.architecture import Architecture, choices
from vit_core.checkpoint import OpenCheckpoint
from vit_core.checks import listed, shown
from vit_core.config import PretrainedConfig
from vit_core.families import FAMILIES, Family, family_of
from vit_core.families.vit import ViTConfig
from vit_core.file_names import CONFIG_NAME, PROCESSOR_NAME
from vit_core.hub import ModelSource, locate
from vit_core.json_file import read_json_file
from vit_core.loading_options import PATCH_RESAMPLING, PatchResampling, request
from vit_core.parameters import Parameter, Task, parameters
from vit_core.stored_tensor import FLOAT_NAMES, StoredTensor
from vit_core.weights_choice import WeightsChoice

#: Fields of a config that decide what the tensors are, and that their shapes may leave open.
LEFT_OPEN = ("num_attention_heads", "decoder_num_attention_heads", "pruned_heads", "classifier_uses_pooler")

Understood = TypeVar("Understood")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of any format, in Trivit's terms; its tensors are read when asked for.

    Attributes:
        config: the model's.
        tensors: the weights by canonical name, in the order of the table of parameters.
        task: which model they are of.
        format: what it was recognised as, a key of `conversion.formats.FORMATS`.
        preprocessing: the content of its `preprocessor_config.json`, or what its format implies.
        assumed: what the files do not tell and was assumed.
        left_out: tensors in the files that the model does not have.
        wrapper: what stands before the model's names in the file, such as "teacher/backbone.".
        files: where it comes from.
        beside: of what was left out, what no model of its family has, such as the text tower of a CLIP, by its names
            there.
    """

    config: PretrainedConfig
    tensors: Tensors
    task: Task
    format: str
    preprocessing: dict[str, Any]
    assumed: tuple[Assumption, ...]
    left_out: tuple[str, ...]
    wrapper: str
    files: tuple[Path, ...]
    beside: Tensors = field(default_factory=dict)


def load(
    source: str | PathLike[str],
    *,
    revision: str = "main",
    cache_dir: str | PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    subfolder: str = "",
    under: str | None = None,
    mmap: bool = True,
    patch_resampling: PatchResampling | None = None,
    **config_fields: Any,
) -> Checkpoint:
    """Open a checkpoint of any format that Trivit reads; see the page on conversion for a list.

    Args:
        source: a folder, a file, a Hub id, or a checkpoint that ships with the package.
        revision: branch, tag or commit on the Hub.
        cache_dir: where downloads are kept; huggingface_hub's cache unless given.
        token: access token for the Hub; huggingface_hub's own unless given.
        local_files_only: never ask the network.
        force_download: download again what is in the cache.
        subfolder: folder inside the repository.
        under: what stands before the names of the model that is meant, where a file holds several: "student", "ema".
        mmap: whether files are mapped: their tensors are read when they are needed, take no memory twice, and change if
            somebody writes into the file. False reads whole files into memory now.
        patch_resampling: "antialiased", timm's way, or "bilinear", that of FlexiViT's authors, of resampling the
            patches' projection for a `patch_size` that is given and is not the one that the model was trained with.
            Positions are resampled with it, also for another `image_size`. The first way is assumed unless given.
        **config_fields: fields of the config that the files do not tell or tell wrongly, such as
            `num_attention_heads=3`; and `patch_size`.

    Returns:
        The checkpoint, complete and checked against the table of parameters; no weights have been read.

    Raises:
        OSError: there is no such checkpoint, or it cannot be reached.
        ValueError: the format is unknown, a file is corrupt, tensors are missing or of a wrong shape.
        TypeError: there is no such field.
    """
    located = locate(
        source,
        revision=revision,
        cache_dir=cache_dir,
        token=token,
        local_files_only=local_files_only,
        force_download=force_download,
        subfolder=subfolder,
    )
    if patch_resampling is not None:
        config_fields[PATCH_RESAMPLING] = patch_resampling
    return read_source(located, config_fields, under, mmap=mmap)


def read_source(
    source: ModelSource,
    config_fields: Mapping[str, Any],
    under: str | None = None,
    *,
    other_fields: bool = False,
    mmap: bool = True,
) -> Checkpoint:
    """What `load` does once it is known where the checkpoint is; fields that its config has not may be let pass."""
    require_fields(config_fields)
    files, asked = open_files(source, mmap=mmap), request(config_fields)
    is_resized = "patch_size" in config_fields or asked.patch_resampling is not None
    sizes = {name: config_fields[name] for name in SIZES if name in config_fields and is_resized}
    fields = {name: value for name, value in asked.config_overrides.items() if name not in sizes}
    checkpoint = _first_that_fits(source, files, lambda files: _understood(source, files, fields, sizes, under))
    if not other_fields:
        require_fields(fields, [checkpoint.config])
    return for_other_sizes(checkpoint, sizes, asked.patch_resampling, source.name)


def require_fields(config_fields: Mapping[str, Any], configs: Iterable[PretrainedConfig] = ()) -> None:
    """Raise TypeError if there is no such field of a config, one of those that are given or of any family."""
    if not config_fields:
        return
    known = list(configs) or [family.config_class() for family in FAMILIES.values()]
    for name in config_fields:
        if name != PATCH_RESAMPLING and not any(hasattr(config, name) for config in known):
            whose = f"a {type(known[0]).__name__}" if len(known) == 1 else "a config"
            raise TypeError(f"{shown(name)} is no field of {whose}.")


def open_for_loading(
    source: ModelSource,
    config_fields: Mapping[str, Any],
    choice: WeightsChoice = ANY_WEIGHTS,
    config_class: type[PretrainedConfig] = ViTConfig,
    own_format: str = TRANSFORMERS.name,
    mmap: bool = True,
) -> OpenCheckpoint:
    """What `from_pretrained` of every backend opens: a checkpoint of any format, by canonical names.

    Tensors in canonical names are passed on as they are, so that those that are missing, unexpected or of another
    shape are `vit_core.pretrained`'s to judge; of other formats, everything must be there. What the files do not tell
    is assumed, and one warning lists what of it may be otherwise.

    Args:
        source: where it is.
        config_fields: what the caller says of the config, for what files leave open.
        choice: which of several files, and of several models in one.
        config_class: the class of the model's config, which may be someone's own with another model type.
        own_format: a format whose names the backend reads itself, so that what a subclass saved is passed on in it.
        mmap: whether its bytes are mapped rather than read; see `vit_core.file_bytes`.

    Returns:
        The checkpoint; its config is that of `config.json`, or one that was made up of what the tensors tell.

    Raises:
        OSError: there are no weights, or none of those that are wanted.
        ValueError: a file is corrupt, or tensors are missing or of a wrong shape.
    """
    opened, is_own = _as_described_by(config_class, open_files(source, choice, mmap))
    wanted = family_of(config_class)
    published = published_format(wanted)
    files = replace(opened, config={**opened.config, "model_type": wanted.model_type}) if is_own else opened
    is_readable = is_own or (TRANSFORMERS.config_fields(files.config) is not None and "model_type" not in files.config)
    if not source.weights and is_readable:
        readable = {TRANSFORMERS.name, published.name, own_format}
        if _is_of_a_subclass(files.config, wanted) and choice.under is None and _formats_in(files) <= readable:
            return _in_canonical_names(source, opened, wanted)  # beside others, which only that class knows
        recognised = recognised_in(source, files, choice.under)
        if recognised is None:
            return opened
        form, found = recognised
        if form in (TRANSFORMERS, published):
            warn_of_others(source.name, found)
            whole = opened if found.whole.keys() == opened.tensors.keys() else replace(opened, tensors=found.whole)
            return _in_canonical_names(source, whole, wanted)
    # The other fields may be about the model that is wanted, with another head or for another image size.
    told = {name: value for name in LEFT_OPEN if (value := config_fields.get(name))}

    def translated(files: OpenCheckpoint) -> OpenCheckpoint:
        form, found = _require_recognised(source, files, choice.under)
        holds_more = is_own and _is_of_a_subclass(files.config, wanted)  # beside what it holds of ours
        model = _read(source.name, form, found, files.config, holds_more, wanted)
        is_canonical = form in (TRANSFORMERS, published) and model.family is wanted
        try:
            checkpoint = _translate(source, files, model.of_family(wanted), told, config_fields)
        except ValueError:
            if is_canonical and not files.config and "hidden_size" in config_fields:  # the caller knows better
                return _in_canonical_names(source, replace(files, tensors={**found.beside, **found.whole}), wanted)
            raise
        fields = checkpoint.config.to_dict()
        warn_of_assumptions(
            source.name, form.unsure, checkpoint.assumed, fields, config_fields, wanted.config_class.__name__
        )
        warn_of_others(source.name, found)
        tensors = dict(checkpoint.tensors)
        if is_canonical:
            tensors = as_canonical({**found.beside, **found.whole}, wanted)
        if holds_more:
            tensors |= {name: found.tensors[name] for name in checkpoint.left_out if name in found.tensors}
        texts = tuple(matching(checkpoint.beside, form.texts))
        return OpenCheckpoint({**fields, "model_type": config_class.model_type}, tensors, files.files, texts)

    return _first_that_fits(source, files, translated)


def _as_described_by(config_class: type[PretrainedConfig], opened: OpenCheckpoint) -> tuple[OpenCheckpoint, bool]:
    """Opened files with the fields of such a config wherever theirs has them, and whether it describes such a model."""
    fields = config_class.fields_in(opened.config)
    if fields == opened.config:
        return opened, config_class.describes(opened.config.get("model_type"))
    named = {name: opened.config[name] for name in ("architectures",) if name in opened.config}
    return replace(opened, config={**named, **fields, "model_type": config_class.model_type}), True


def _in_canonical_names(source: ModelSource, opened: OpenCheckpoint, family: Family) -> OpenCheckpoint:
    form = published_format(family)
    try:
        texts = tuple(matching(opened.tensors, form.texts))
        return replace(opened, tensors=as_canonical(opened.tensors, family), texts=texts)
    except ValueError as error:
        raise ValueError(f"{source.name}, read as {form.title}: {error}") from error


def _is_of_a_subclass(metadata: Mapping[str, Any], family: Family) -> bool:
    """Whether a `config.json` names a class that is none of Trivit's for a family."""
    named = metadata.get("architectures")
    return isinstance(named, list) and bool(named) and named[0] not in family.models.values()


def _formats_in(files: OpenCheckpoint) -> set[str]:
    return {form.name for form, _ in models_in(files).values()}


def _first_that_fits(
    source: ModelSource, files: OpenCheckpoint, understand: Callable[[OpenCheckpoint], Understood]
) -> Understood:
    """What is made of opened files; a `config.json` that lies beside a lone file need not be about it."""
    if source.weights and files.config:
        with contextlib.suppress(ValueError):
            return understand(files)
        files = replace(files, config={})
    return understand(files)


def recognised_in(source: ModelSource, files: OpenCheckpoint, under: str | None) -> tuple[Format, Found] | None:
    """The format of opened files and the model in them; see `conversion.recognition.recognise`."""
    refuse_adapters(source, files.tensors)
    try:
        return recognise(files, under)
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from error


def _require_recognised(source: ModelSource, files: OpenCheckpoint, under: str | None) -> tuple[Format, Found]:
    recognised = recognised_in(source, files, under)
    if recognised is None:
        raise ValueError(_unrecognised(source.name, files))
    return recognised


def _unrecognised(name: str, files: OpenCheckpoint) -> str:
    looked_for = listed(dict.fromkeys(form.signature[0] for form in FORMATS.values() if form.files), 4)
    some = ", ".join(map(shown, sorted(files.tensors)[:3])) or "no tensors"
    return (
        f"{name} is in no format that Trivit knows: it holds {some}; looked for names that end in {looked_for} "
        f"(see the page on conversion)."
    )


def model_in(source: ModelSource, under: str | None = None) -> tuple[Family, Task]:
    """Which model a checkpoint of any format holds, as its names and its `config.json` tell.

    Raises:
        OSError: there is no such checkpoint.
        ValueError: the format is unknown, or a file is corrupt.
    """

    def model(files: OpenCheckpoint) -> tuple[Family, Task]:
        form, found = _require_recognised(source, files, under)
        read = _read(source.name, form, found, files.config)
        return read.family, _task(read)

    return _first_that_fits(source, open_files(source), model)


@dataclass(frozen=True)
class _Model:
    """A model as its files have it, before it has a config.

    Attributes:
        form: the format.
        found: its tensors there.
        said: what the `config.json` says, as fields of a config.
        family: whose model it is.
        reading: the canonical tensors.
    """

    form: Format
    found: Found
    said: Mapping[str, Any]
    family: Family
    reading: rules.Reading

    def of_family(self, wanted: Family) -> _Model:
        """The same as a model of another family, which takes the weights of its base model for its own."""
        if wanted is self.family:
            return self
        own = self.family.config_class().to_dict().keys() - wanted.config_class().to_dict().keys()
        dropped = {"model_type", "architectures", *own}
        templates = rows(wanted.model_type)
        shared = {key: each for key, each in self.reading.tensors.items() if without_layer(key)[0] in templates}
        said = {name: value for name, value in self.said.items() if name not in dropped}
        return replace(self, said=said, family=wanted, reading=replace(self.reading, tensors=shared))


def _understood(
    source: ModelSource,
    files: OpenCheckpoint,
    config_fields: Mapping[str, Any],
    sizes: Mapping[str, Any],
    under: str | None,
) -> Checkpoint:
    form, found = _require_recognised(source, files, under)
    wanted = FAMILIES.get(str(config_fields.get("model_type")))
    model = _read(source.name, form, found, files.config, wanted=wanted)
    given = {**config_fields, **sizes}
    return _translate(source, files, model.of_family(wanted or model.family), config_fields, given)


def _translate(
    source: ModelSource,
    files: OpenCheckpoint,
    model: _Model,
    overrides: Mapping[str, Any],
    given: Mapping[str, Any],
) -> Checkpoint:
    """The checkpoint in Trivit's terms, with everything checked that can be before weights are read.

    Args:
        source: where it is.
        files: what is there.
        model: what was read of it.
        overrides: fields of the config that the caller knows better.
        given: fields of the config that is wanted, of which the size of images helps where positions are for no square.
    """
    form, reading = model.form, model.reading
    config, task, assumed = _configured(source, files, model, overrides, given)
    table = parameters(
        config,
        task,
        add_pooling_layer=any(row.part == "pooler" for row in _rows_in(model)),
        use_mask_token="embeddings.mask_token" in reading.tensors,
    )
    tensors = {row.name: _checked(source.name, row, reading, form) for row in table}
    known = {key_of(row) for row in table}
    unused = (name.removeprefix(model.found.base_prefix) for name in reading.unused)
    left_out = (*unused, *(reading.sources[key] for key in reading.tensors if key not in known))
    preprocessing, more = _preprocessing(source, files, form, config)
    return Checkpoint(
        config,
        tensors,
        task,
        form.name,
        preprocessing,
        assumed=(*assumed, *more),
        left_out=left_out,
        wrapper=model.found.wrapper,
        files=files.files,
        beside={name: model.found.whole[name] for name in reading.unused},
    )


def _configured(
    source: ModelSource,
    files: OpenCheckpoint,
    model: _Model,
    overrides: Mapping[str, Any],
    given: Mapping[str, Any],
) -> tuple[PretrainedConfig, Task, list[Assumption]]:
    """A config, of what the `config.json` says, shapes tell or the format takes for granted; and the model it is of."""
    form, family, reading, said = model.form, model.family, model.reading, model.said
    try:
        sizes = [size for size in (said.get("image_size"), given.get("image_size")) if size is not None]
        told = form.fields_of(model.found, files.config)
        inferred = fields_from_shapes(
            family,
            {key: tensor.shape for key, tensor in reading.tensors.items()},
            reading.sources,
            sizes,
            form.head_reads_pooler,
            _positioned_prefix_tokens({**told, **said}),
        )
        named = form.named_fields(files.config, inferred["hidden_size"])
        fields = {**inferred, **named, **told, **said}
        task = _task(model)
        config_class = family.config_classes.get(task, family.config_class)
        known = config_class()
        for name in form.always.keys() & vars(known).keys():  # whatever its config.json says, as TensorFlow's may
            fields[name] = inferred.get(name, True)
        if reading.heads:
            fields["num_attention_heads"] = reading.heads
        fields |= {name: value for name, value in overrides.items() if hasattr(known, name)}
        assumed = assumed_fields(fields, form.conventions_of(family), form.title)
        fields |= assumed_values(assumed)
        if "num_labels" in fields and "id2label" in fields:
            del fields["num_labels"]
        fields = {**config_class.fields_in(fields), "architectures": [family.models[task]]}
        config = config_class.from_dict({**fields, "model_type": config_class.model_type})
    except (ValueError, TypeError) as error:  # a stranger's config.json may hold anything
        raise ValueError(f"{source.name}, read as {form.title}: {str(error).rstrip('.')}.") from error
    return config, task, assumed


def _positioned_prefix_tokens(fields: Mapping[str, Any]) -> int | None:
    """How many tokens before the patches have a position, where options of an architecture say it."""
    is_list = isinstance(fields.get("prefix_tokens"), list | tuple)
    if not is_list or fields.get("positioned") not in choices("positioned"):
        return None
    names = ("prefix_tokens", "register_tokens", "positioned")
    return Architecture(**{name: fields[name] for name in names if name in fields}).num_positioned_prefix_tokens


def _read(
    name: str,
    form: Format,
    found: Found,
    metadata: Mapping[str, Any],
    may_hold_more: bool = False,
    wanted: Family | None = None,
) -> _Model:
    """A model with its canonical tensors, unless it is of a kind that its format has and Trivit has not.

    Args:
        name: what to call the checkpoint.
        form: its format.
        found: the model in it.
        metadata: what the `config.json` says.
        may_hold_more: whether there may be tensors that the format does not know, as a subclass adds them.
        wanted: the family whose model it is to be.

    Raises:
        ValueError: it is no such model; the message says what it is.
    """
    for pattern, reason in form.refused.items():
        if refused := matching(found.tensors, [pattern]):
            raise ValueError(f"{name} is no plain Vision Transformer: {reason} ({refused[0]}); it is not supported.")
    try:
        reading = rules.read(form.rules, found.whole, found.base_prefix)
        others = set(matching(reading.unused, [pattern for pattern in form.left_out if pattern != "*"]))
        unused = [name for name in reading.unused if name not in others]
        used = found.whole.keys() - set(reading.unused)
        rules.require_other_names(unused, used, {"", found.base_prefix, *form.base_prefixes.values()})
    except ValueError as error:
        raise ValueError(f"{name}, read as {form.title}: {error}") from error
    strange = sorted(set(reading.unused) - set(matching(reading.unused, form.left_out)))
    is_transformers = form in (TRANSFORMERS, *PUBLISHED)  # of what else there is in such files, loading warns
    if strange and not may_hold_more and not is_transformers:
        raise ValueError(
            f"{name} was recognised as {form.title}, but holds {strange[0]}, which such models do not have; it is "
            f"another kind of model, and its answers would be wrong."
        )
    said = _said(name, metadata, form)
    templates = {without_layer(key)[0] for key in reading.tensors}
    if (model_type := str(said.get("model_type", metadata.get("model_type")))) in form.models:
        family = FAMILIES[model_type]
    else:
        family = family_like(templates, found.base_prefix, form.models, wanted)
    model = _Model(form, found, said, family, reading)
    if (told := FAMILIES.get(model_type, family)) is not family and told.encoder_is == family.model_type:
        model = replace(model, family=told).of_family(family)  # an encoder in a format that has nothing else of it
    if wanted is not None and wanted.model_type not in (family.model_type, family.encoder_is):
        raise ValueError(
            f"{name} holds a model of {family.title}, not of {wanted.title}; load it with "
            f"{family.models[_task(model)]}, or with one of the Auto classes."
        )
    return model


def _rows_in(model: _Model) -> list[Parameter]:
    """The rows of its family's table that a model has, each once for all layers."""
    table = rows(model.family.model_type)
    return [table[template] for key in model.reading.tensors if (template := without_layer(key)[0]) in table]


def _said(name: str, metadata: Mapping[str, Any], form: Format) -> dict[str, Any]:
    """What the `config.json` says, in whichever format's terms, as fields of a config."""
    try:
        for reader in (form, *(each for each in FORMATS.values() if each is not TIMM_ANY)):  # of which TIMM knows more
            if (fields := reader.config_fields(metadata)) is not None:
                return {field: value for field, value in fields.items() if field not in ("torch_dtype", "dtype")}
    except ValueError as error:
        raise ValueError(f"{name}, read as {form.title}: {error}") from error
    if (model_type := metadata.get("model_type", ViTConfig.model_type)) not in list(FAMILIES):
        raise ValueError(f"{name} has a config.json of model_type {shown(model_type)}; Trivit has no such model.")
    return {}


def _task(model: _Model) -> Task:
    """The model of its family, by the head that is there; a classifier for no labels has none."""
    family, said = model.family, model.said
    templates = {without_layer(key)[0] for key in model.reading.tensors}
    for task, head in heads(family.model_type).items():
        if head & templates:
            return task
    has_no_labels = not (said.get("id2label", True) and said.get("num_labels", True))
    named = said.get("architectures")
    task_named = family.task_of(named[0]) if isinstance(named, list) and len(named) == 1 else None
    is_headless_classifier = has_no_labels and task_named in (
        "image-classification",
        "image-classification-with-teacher",
    )
    is_backbone = task_named == "backbone" and not any(template.startswith("pooler.") for template in templates)
    return task_named if task_named and (is_headless_classifier or is_backbone) else "model"


def _checked(name: str, row: Parameter, reading: rules.Reading, form: Format) -> StoredTensor:
    """The tensor for a row of the table."""
    key = key_of(row)
    tensor = reading.tensors.get(key)
    if tensor is None:
        raise ValueError(f"{name}, read as {form.title}, lacks {_their_name(key, form)}; get it again.")
    if tensor.shape != row.shape:
        raise ValueError(
            f"{name} holds {reading.sources[key]} for {row.name} with shape {tensor.shape}, but its other "
            f"tensors and its config make it {row.shape}; the file or a given field is wrong."
        )
    if tensor.dtype not in FLOAT_NAMES:
        raise ValueError(
            f"{name} holds {reading.sources[key]} as {tensor.dtype}; weights are of {', '.join(FLOAT_NAMES.values())}."
        )
    return tensor


def _their_name(key: str, form: Format) -> str:
    """What a format calls a canonical tensor."""
    template, number = without_layer(key)
    found = (rule.theirs[0].replace(rules.LAYER, number) for rule in form.rules if template in rule.ours)
    return next(found, in_words(key))


def _preprocessing(
    source: ModelSource, files: OpenCheckpoint, form: Format, config: PretrainedConfig
) -> tuple[dict[str, Any], list[Assumption]]:
    """The settings of the image processor, from its file if there is one, and what was assumed of them."""
    is_vouched_for = any(path.name == CONFIG_NAME for path in files.files)
    if source.weights and files.config and is_vouched_for:  # the file beside lone weights is theirs if `config.json` is
        with contextlib.suppress(ValueError):
            if file := source.file(PROCESSOR_NAME):
                return read_json_file(file), []
    elif not source.weights and (file := source.file(PROCESSOR_NAME)):
        return read_json_file(file), []
    for reader in (form, *FORMATS.values()):
        if (settings := reader.preprocessing_fields(files.config, config)) is not None:
            return settings, []
    usual = form.preprocessing_of.get(config.model_type, form.preprocessing)
    settings = usual.settings(config)
    words = f"mean {settings['image_mean']}, std {settings['image_std']}"
    return settings, [Assumption("preprocessing", words, f"as {form.title} has it")]
