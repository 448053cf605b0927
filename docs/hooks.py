"""Fills the documentation's pages on formats with tables made of the formats themselves.

A line of a page such as `{{ names timm }}` is replaced when the site is built: by the table of names of a format, with
`facts` by what else it is, with `refused` by what is not read, with `formats` by the list of all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from PIL import Image

from conversion.canonical import HEAD, every_row, in_words
from conversion.containers.weights_file import CONTAINERS
from conversion.formats import FORMATS
from conversion.formats.format import Format
from conversion.formats.preprocessing import Preprocessing
from conversion.formats.rules import LAYER, Rule, Shape, SplitHeads
from vit_core.families import FAMILIES
from vit_core.parameters import STACKS, Parameter

MARKER = re.compile(r"^\{\{ (?P<table>\w+)(?P<names>(?: [\w-]+)*) \}\}$", re.MULTILINE)
CELL, CODE = re.compile("<td>.*?</td>"), re.compile("(?<=<code>)[^<]*(?=</code>)")
#: The page of each format.
PAGES = {
    "transformers": "transformers.md",
    "transformers-bin": "transformers.md",
    "transformers-dinov2": "transformers.md",
    "transformers-dinov3": "transformers.md",
    "transformers-siglip": "transformers.md",
    "transformers-clip": "transformers.md",
    "transformers-5": "transformers.md",
    "transformers-tf": "transformers-tf.md",
    "transformers-tf-clip": "transformers-tf.md",
    "transformers-flax": "transformers-flax.md",
    "transformers-flax-dinov2": "transformers-flax.md",
    "transformers-flax-clip": "transformers-flax.md",
    "google": "google.md",
    "google-linen": "google.md",
    "big-vision": "google.md",
    "big-vision-siglip": "google.md",
    "timm": "timm.md",
    "timm-any": "timm.md",
    "timm-deit": "timm.md",
    "timm-beit": "timm.md",
    "deit": "timm.md",
    "deit-distilled": "timm.md",
    "dino": "dino.md",
    "dinov2": "dino.md",
    "dinov2-registers": "dino.md",
    "dinov3": "dino.md",
    "clip": "clip.md",
    "open-clip": "clip.md",
    "mae": "mae.md",
    "torchvision": "torchvision.md",
    "keras-hub": "keras-hub.md",
    "keras-hub-deit": "keras-hub.md",
    "keras-hub-dinov2": "keras-hub.md",
    "keras-hub-dinov3": "keras-hub.md",
    "keras-hub-siglip": "keras-hub.md",
    "keras-hub-clip": "keras-hub.md",
    "keras": "keras-hub.md",
}

HEADS, PATCHES, HIDDEN, DECODER = 5, 9 * 7, 35, 33
#: A length for each thing that an axis counts, and what to call it. Every length is another one, so that a number in a
#: shape says what it is.
LENGTHS: dict[str, tuple[int, str]] = {
    "batch": (1, "1"),
    "tokens": (1 + PATCHES, "tokens"),
    "hidden": (HIDDEN, "hidden"),
    "heads": (HIDDEN, "hidden"),
    "mlp": (41, "mlp"),
    "head": (HEADS, "heads"),
    "head_dim": (HIDDEN // HEADS, "head"),
    "channels": (2, "channels"),
    "height": (13, "height"),
    "width": (17, "width"),
    "labels": (19, "labels"),
    "pooled": (23, "pooled"),
    "pixels": (29, "pixels"),
    "vocabulary": (31, "vocabulary"),
    "distances": (37, "distances"),
    "coordinates": (53, "2"),
    "frequencies": (59, "head / 2"),
    "projection": (47, "projection"),
    "decoder_hidden": (DECODER, "decoder hidden"),
    "decoder_heads": (DECODER, "decoder hidden"),
    "decoder_mlp": (43, "decoder mlp"),
}
WORDS = {
    **dict(LENGTHS.values()),
    PATCHES: "patches",
    HIDDEN // HEADS: "head",
    2 * HIDDEN: "2 hidden",
    3 * HIDDEN: "3 hidden",
    2 * LENGTHS["mlp"][0]: "2 mlp",
    2 * 41: "2 mlp",
    3 * DECODER: "3 decoder hidden",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers of a page; called by MkDocs."""
    return MARKER.sub(_table, markdown)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Let long names in tables break after dots and slashes; called by MkDocs."""
    if not page.file.src_uri.startswith("formats/"):
        return html
    return CELL.sub(lambda cell: CODE.sub(lambda code: re.sub(r"([./])(?=\w)", r"\1<wbr>", code[0]), cell[0]), html)


def _table(marker: re.Match[str]) -> str:
    names = marker["names"].split()
    if marker["table"] not in TABLES or not set(names) <= FORMATS.keys():
        raise ValueError(f"{marker[0]} is no table; there are {', '.join(TABLES)}, for {', '.join(FORMATS)}.")
    return TABLES[marker["table"]](*(FORMATS[name] for name in names))


def names_table(form: Format) -> str:
    """Where a format keeps each canonical tensor: what belongs to no layer, then what is in each."""
    is_same = all(_ours(rule) == rule.theirs for rule in form.rules)
    outside = [rule for rule in form.rules if LAYER not in rule.ours[0]]
    lines = _names_lines(outside, ("canonical", f"in {form.title}"), ("", ""), is_same)
    for stack, path in STACKS.items():
        start = f"{path}.{LAYER}."
        inside = [rule for rule in form.rules if _ours(rule)[0].startswith(start)]
        if not inside:
            continue
        in_layer = inside[0].theirs[0]
        prefix = in_layer[: in_layer.index(LAYER) + 2]  # with what separates the layer's number from the rest
        whose = "" if stack == "encoder" else f" of the {stack}"
        lines += ["", f"In layer `{LAYER}`{whose}, where canonical names start with `{start}`"]
        lines[-1] += ":" if is_same else f" and the others with `{prefix}`:"
        lines += ["", *_names_lines(inside, ("canonical", "there"), (start, prefix), is_same)]
    return "\n".join(lines)


def _ours(rule: Rule) -> tuple[str, ...]:
    return tuple(map(in_words, rule.ours))


def _names_lines(table: Iterable[Rule], titles: tuple[str, str], prefixes: tuple[str, str], is_same: bool) -> list[str]:
    shapes = {template: _shape(row) for template, row in every_row().items()}
    rows = []
    for rule in table:
        theirs = [shapes[name] for name in rule.ours]
        for step in rule.steps:
            theirs = step.their_shapes(theirs, HEADS)
        rows.append(
            [
                _lines(f"`{name.removeprefix(prefixes[0])}`" for name in _ours(rule)),
                _lines(f"`{name.removeprefix(prefixes[1])}`" for name in rule.theirs),
                _lines(f"({', '.join(WORDS[length] for length in shape)})" for shape in theirs),
                _lines(map(str, rule.steps)),
            ]
        )
    header = [*titles, "shape there", "what changes"]
    kept = [column for column in range(4) if not is_same or column in (0, 2)]
    return _markdown([[row[column] for column in kept] for row in (header, *rows)])


def _shape(row: Parameter) -> Shape:
    """The shape of a canonical tensor, of the lengths above; a token is one."""
    names = [f"decoder_{name}" if row.stack == "decoder" else name for name in row.axes]
    return tuple(
        1 if length == 1 or (name == "tokens" and row.kind == "token") else LENGTHS[name][0]
        for name, length in zip(names, row.shape, strict=True)
    )


def facts_table(*forms: Format) -> str:
    """How formats are recognised and written, and what they imply of a model."""
    header = ["", *(form.title for form in forms)]
    return "\n".join(_markdown([header, *([name, *map(fact, forms)] for name, fact in FACTS.items())]))


def refused_table(form: Format) -> str:
    """Tensors that make a model one that is not read."""
    rows = [[f"`{pattern}`", reason] for pattern, reason in form.refused.items()]
    return "\n".join(_markdown([["a tensor called", "is refused, since"], *rows]))


def formats_table() -> str:
    """All formats, with what `--to` takes and what it writes."""
    rows = []
    for name, page in PAGES.items():
        form = FORMATS[name]
        rows.append([f"[{form.title}](formats/{page})", _name(form), _written(form), _suffixes(form)])
    return "\n".join(_markdown([["format", "name", "written in a folder as", "a lone file ends in"], *rows]))


def _name(form: Format) -> str:
    return f"`{form.name}`"


def _models(form: Format) -> str:
    return ", ".join(FAMILIES[name].title for name in form.models)


def _signature(form: Format) -> str:
    return _lines(f"`{name}`" for name in form.signature)


def _written(form: Format) -> str:
    return next((f"`{name}`" for name in form.files.values()), "only read")


def _suffixes(form: Format) -> str:
    return ", ".join(f"`{suffix}`" for kind in form.files for suffix in CONTAINERS[kind].suffixes)


def _epsilon(form: Format) -> str:
    return _convention(form, "layer_norm_eps")


def _activation(form: Format) -> str:
    return _convention(form, "hidden_act")


def _convention(form: Format, field: str) -> str:
    value = form.conventions.get(field, "as `config.json` says")
    shown = f"`{value}`" if isinstance(value, str) else f"{value:g}".replace("e-0", "e-")
    return f"{shown}, unless `config.json` names another" if field in form.told else shown


def _heads(form: Format) -> str:
    is_told = any(isinstance(step, SplitHeads) for rule in form.rules for step in rule.steps)
    return "told by the shapes" if is_told else "not told by the weights"


def _biases(form: Format) -> str:
    return "always there; zeros are written if need be" if "qkv_bias" in form.always else "there if the model has them"


def _classifier(form: Format) -> str:
    places = {name for rule in form.rules for name in rule.ours}
    if not any("classifier.weight" in place for place in places):
        return "no place for one"
    if "pooler.layernorm.weight" in places and "pooler.dense.weight" not in places:
        return "the mean of the patches, if it has a norm of its own; else the class token"
    if f"{HEAD}distillation_classifier.weight" in places and f"{HEAD}classifier.weight" not in places:
        return "two: the class token and the distillation token"
    if len(form.models) > 1:
        return "what its family has it read"
    return "the pooler's output, if there is a pooler" if form.head_reads_pooler else "the class token"


def _images(form: Format) -> str:
    said = form.preprocessing
    part = (
        "the whole image" if said.crop_fraction is None else f"the middle {_percent(said.crop_fraction)} of the image"
    )
    return f"{part}, {Image.Resampling(said.resample).name.lower()}; {_statistics(said)}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g}%"


def _statistics(said: Preprocessing) -> str:
    return "; ".join(
        f"{name} {', '.join(map(str, dict.fromkeys(each)))}" for name, each in (("mean", said.mean), ("std", said.std))
    )


def _left_out(form: Format) -> str:
    return ", ".join(f"`{pattern}`" for pattern in form.left_out) or "nothing"


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [header, "|" + "---|" * len(rows[0]), *body]


def _lines(texts: Iterable[str]) -> str:
    return "<br>".join(texts)


FACTS: dict[str, Callable[[Format], str]] = {
    "name": _name,
    "models": _models,
    "recognised by": _signature,
    "written in a folder as": _written,
    "a lone file ends in": _suffixes,
    "`layer_norm_eps`": _epsilon,
    "`hidden_act`": _activation,
    "attention heads": _heads,
    "biases of query, key, value": _biases,
    "a classifier reads": _classifier,
    "images, if no file says": _images,
    "left out in reading": _left_out,
}
TABLES: dict[str, Callable[..., str]] = {
    "names": names_table,
    "facts": facts_table,
    "refused": refused_table,
    "formats": formats_table,
}
