"""`trivit info`: what a checkpoint is, from its config and the headers of its weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from conversion.assumptions import Assumption
from conversion.canonical import HEAD, key_of
from conversion.checkpoint import read_source, recognised_in, require_fields
from conversion.formats import FORMATS
from conversion.formats.transformers import TRANSFORMERS
from conversion.sources import open_files
from vit_cli.licence import licence_of
from vit_cli.settings import parse_settings
from vit_cli.terminal import bytes_in_words, plain_console, print_json, printable
from vit_core.config import PretrainedConfig
from vit_core.families import CONFIG_CLASSES, FAMILIES, family_of
from vit_core.file_names import PROCESSOR_NAME
from vit_core.hub import locate
from vit_core.json_file import read_json_file
from vit_core.parameters import Part, parameters
from vit_core.stored_tensor import FLOAT_NAMES

LABELS_SHOWN = 8
NUMBER_WIDTH = 15
OTHER = "other"
PARTS = (*get_args(Part), OTHER)

#: What is shown of the preprocessing: the step, its setting, and the setting that switches it off.
STEPS = (
    ("processor", "image_processor_type", ""),
    ("resize", "size", "do_resize"),
    ("crop", "crop_size", "do_center_crop"),
    ("rescale", "rescale_factor", "do_rescale"),
    ("mean", "image_mean", "do_normalize"),
    ("std", "image_std", "do_normalize"),
)

Lines = list[tuple[str, str]]


def show_info(
    model: str,
    *,
    settings: Sequence[str] = (),
    under: str | None = None,
    revision: str = "main",
    as_json: bool = False,
) -> None:
    """Print a description of a model.

    Args:
        model: a folder, a file, a Hub id or a bundled checkpoint, in any format.
        settings: fields of the config that the files do not tell, each as "field=value".
        under: what stands before the names of the model that is meant, in a file that holds several.
        revision: branch, tag or commit on the Hub.
        as_json: print one JSON document instead of tables.

    Raises:
        OSError: there is no such model, or it has no weights.
        ValueError: a file of it is broken, or in no known format.
    """
    description = describe(model, parse_settings(settings), revision, under)
    if as_json:
        print_json(description)
    else:
        _print_description(description)


def describe(
    model: str, config_fields: Mapping[str, Any] | None = None, revision: str = "main", under: str | None = None
) -> dict[str, Any]:
    """Collect what there is to know about a checkpoint without reading its weights.

    Args:
        model: a folder, a file, a Hub id or a bundled checkpoint, in any format.
        config_fields: fields of the config that the files do not tell.
        revision: branch, tag or commit on the Hub.
        under: what stands before the names of the model that is meant, in a file that holds several.

    Returns:
        A JSON object: model, format, under (what stands before the model's names), assumed ({what: why}), left_out
        (names of tensors that are not the model's), architecture, config, parameters ({"total", "parts"}), bytes,
        dtypes, labels, licence (None if nothing names it), preprocessing (None if the checkpoint does not say it) and
        files.
    """
    assumed: tuple[Assumption, ...] = ()
    left_out: tuple[str, ...] = ()
    require_fields(config_fields or {})
    source = locate(model, revision=revision)
    files = open_files(source)
    family = FAMILIES.get(str(files.config.get("model_type")))
    recognised = recognised_in(source, files, under)
    if family and not source.weights and (recognised is None or recognised[0] is TRANSFORMERS):
        # Described as it is, complete or not.
        preprocessor_file = source.file(PROCESSOR_NAME)
        config = family.config_class.from_dict(files.config, **(config_fields or {}))
        tensors = recognised[1].whole if recognised else files.tensors
        preprocessing = read_json_file(preprocessor_file) if preprocessor_file else None
        paths = [*files.files, *([preprocessor_file] if preprocessor_file else [])]
        form = TRANSFORMERS
    else:
        checkpoint = read_source(source, config_fields or {}, under)
        config, tensors, preprocessing = checkpoint.config, checkpoint.tensors, checkpoint.preprocessing
        paths, form = list(checkpoint.files), FORMATS[checkpoint.format]
        assumed, left_out = checkpoint.assumed, checkpoint.left_out
    part_of = _parts(config)
    counts = dict.fromkeys(PARTS, 0)
    dtypes: dict[str, int] = {}
    total_bytes = 0
    for name, tensor in tensors.items():
        count = math.prod(tensor.shape)
        counts[part_of(name)] += count
        dtypes[tensor.dtype] = dtypes.get(tensor.dtype, 0) + count
        total_bytes += tensor.nbytes
    return {
        "model": model,
        "format": form.name,
        "under": recognised[1].place if recognised else "",
        "assumed": {each.name: f"{each.value} ({each.reason})" for each in assumed},
        "left_out": list(left_out),
        "architecture": next(iter(config.to_dict()["architectures"] or []), None),
        "config": config.to_diff_dict(),
        "parameters": {"total": sum(counts.values()), "parts": {part: n for part, n in counts.items() if n}},
        "bytes": total_bytes,
        "dtypes": dtypes,
        "labels": list(config.id2label.values()),
        "licence": licence_of(source, files.config),
        "preprocessing": preprocessing,
        "files": [{"name": path.name, "bytes": path.stat().st_size} for path in paths],
    }


def _parts(config: PretrainedConfig) -> Callable[[str], str]:
    """What finds the part that a tensor belongs to, by its canonical name."""
    tables = [parameters(config, add_pooling_layer=True, use_mask_token=True)]
    tables += [parameters(config, task) for task in family_of(config).models]
    parts: dict[str, str] = {key_of(row): row.part for table in tables for row in table}
    prefix = f"{config.base_model_prefix}."

    def part_of(name: str) -> str:
        if name.startswith(prefix):
            return parts.get(name.removeprefix(prefix), OTHER)
        return parts.get(name) or parts.get(HEAD + name, OTHER)

    return part_of


def _print_description(description: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    config = CONFIG_CLASSES[description["config"]["model_type"]].from_dict(description["config"])
    sections: dict[str, Lines] = {
        "Model": _model_lines(description, config),
        "Assumed": [(name, printable(why)) for name, why in description["assumed"].items()],
        "Parameters": _parameter_lines(description),
        "Labels": _label_lines(description["labels"]),
        "Preprocessing": _preprocessing_lines(description["preprocessing"]),
        "Files": [(file["name"], f"{bytes_in_words(file['bytes']):>{NUMBER_WIDTH}}") for file in description["files"]],
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for title, lines in sections.items():
        if not lines:
            continue
        table.add_row(Text(title, style="bold"))
        for name, value in lines:
            table.add_row(Text(f"  {printable(name)}", style="dim"), Text(value))
    plain_console().print(table)


def _model_lines(description: Mapping[str, Any], config: PretrainedConfig) -> Lines:
    (height, width), (patch_height, patch_width), (rows, columns) = config.image_shape, config.patch_shape, config.grid
    return [
        ("name", printable(description["model"])),
        ("format", FORMATS[description["format"]].title),
        *([("under", printable(description["under"]))] if description["under"] else []),
        ("architecture", printable(description["architecture"] or "not named")),
        ("image", f"{height} x {width} pixels, {config.num_channels} channel(s)"),
        ("patches", f"{rows} x {columns}, each of {patch_height} x {patch_width} pixels"),
        ("hidden size", f"{config.hidden_size}, and {config.intermediate_size} in the MLP ({config.hidden_act})"),
        ("layers", f"{config.num_hidden_layers}, each with {config.num_attention_heads} heads of {config.head_dim}"),
        *([("licence", printable(description["licence"]))] if description["licence"] else []),
    ]


def _parameter_lines(description: Mapping[str, Any]) -> Lines:
    total, parts = description["parameters"]["total"], description["parameters"]["parts"]
    by_part = [(part, f"{count:>{NUMBER_WIDTH},}  {count / total:6.1%}") for part, count in parts.items()]
    dtypes = ", ".join(FLOAT_NAMES.get(dtype, dtype) for dtype in description["dtypes"])
    return [*by_part, ("total", f"{total:>{NUMBER_WIDTH},}  {bytes_in_words(description['bytes'])} as {dtypes}")]


def _label_lines(labels: list[Any]) -> Lines:
    more = f" and {len(labels) - LABELS_SHOWN} more" if len(labels) > LABELS_SHOWN else ""
    return [(f"{len(labels)}", printable(", ".join(map(str, labels[:LABELS_SHOWN]))) + more)]


def _preprocessing_lines(settings: Mapping[str, Any] | None) -> Lines:
    if settings is None:
        return [("none", f"the checkpoint has no {PROCESSOR_NAME}")]
    done = [(name, settings[key]) for name, key, switch in STEPS if key in settings and settings.get(switch, True)]
    return [(name, printable(value if isinstance(value, str) else json.dumps(value))) for name, value in done]
