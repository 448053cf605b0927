"""Fills the documentation's pages on models with tables made of the families' records.

`{{ families }}` becomes the table of all, `{{ family NAME }}` that of one, by its model type.
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from vit_core.architecture import Architecture
from vit_core.families import FAMILIES, Family

MARKER = re.compile(r"^\{\{ (?:families|family (?P<name>[\w-]+)) \}\}$", re.MULTILINE)
PREFIXES = {"PyTorch": "", "Keras": "TF", "Flax": "Flax"}
PAGES = {
    "vit": "vit",
    "deit": "deit",
    "vit_mae": "mae",
    "beit": "beit",
    "data2vec-vision": "data2vec",
    "vit_msn": "msn",
    "ijepa": "ijepa",
    "dinov2": "dinov2",
    "dinov2_with_registers": "dinov2",
    "dinov3_vit": "dinov3",
    "siglip_vision_model": "siglip",
    "clip_vision_model": "clip",
    "vision_transformer": "any",
}

#: What the options of an architecture are, in words; a value that is not here is shown as it is.
OPTIONS = {
    "prefix_tokens": "tokens before the patches",
    "register_tokens": "register tokens",
    "patch_bias": "the projection of the patches has a bias",
    "patch_norm": "the patches are normed after it",
    "absolute_positions": "positions added to tokens",
    "positioned": "which tokens have such positions",
    "position_resampling": "how they are resampled",
    "embedding_norm": "LayerNorm before the first layer",
    "relative_positions": "positions added to the scores of attention",
    "rotary_positions": "positions that rotate queries and keys",
    "rotary_first": "which coordinate comes first in them",
    "rotary_offset": "the number of the first row and column in them",
    "rotary_stretch": "they stretch any grid to the one of training",
    "resamples_unasked": "images of any size without asking",
    "embedding_dropout": "dropout after the embeddings",
    "query_bias": "queries have a bias",
    "key_bias": "keys have a bias",
    "value_bias": "values have a bias",
    "output_bias": "the projection after attention has a bias",
    "mlp_bias": "the layers of the MLP have a bias",
    "query_key_norm": "queries and keys are normed",
    "attention_norm": "norm before the projection after attention",
    "mlp_norm": "norm inside the MLP",
    "gated_mlp": "gated MLP",
    "mlp_dropout": "dropout after the MLP",
    "halves": "how a layer joins attention and the MLP",
    "norm": "norm",
    "layer_scale": "layers scale what they add, at first by",
    "drop_path_rate": "how often the last layer is skipped in training",
    "drop_path_growth": "how often the others are",
    "final_norm": "LayerNorm after the last layer",
    "pooler": "pooler",
    "has_pooler": "the base model has its pooler",
    "keeps_pooler": "models with a head have it, too",
    "classifier_reads": "the classifier reads",
    "mask_token": "the base model has a mask token",
    "masked_from": "masked image modeling decodes from token",
}
#: What None means where that is more than "none".
UNSAID = {"mask_token": "where the task needs one", "masked_from": "the first patch"}
VALUES: dict[Any, str] = {
    None: "none",
    True: "yes",
    False: "no",
    (): "none",
    "learned": "trained",
    "sincos": "fixed sines and cosines",
    "layers": "a table in each layer",
    "shared": "one table for all layers",
    "dense": "dense layer and tanh of the class token",
    "mean-norm": "LayerNorm of the patches' mean",
    "class-token": "the class token",
    "class-norm": "LayerNorm of the class token",
    "attention": "what a trained query gathers",
    "patch-attention": "what a trained query gathers from the patches",
    "mean": "the mean of the patches",
    "class-and-mean": "the class token and the mean of the patches",
    "all": "all",
    "patches": "the patches",
    "bicubic": "bicubically, by size",
    "antialiased": "bicubically, with antialiasing",
    "offset": "bicubically, by a factor with an offset",
    "catmull-rom": "bicubically, by Catmull and Rom's kernel",
    "centres": "by the patches' centres",
    "indices": "by rows and columns",
    "mixed": "by rows and columns, with trained frequencies",
    "linear": "less often, from never",
    "constant": "as often",
    "layer": "LayerNorm",
    "rms": "root mean square",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers of a page; called by MkDocs."""
    return MARKER.sub(lambda found: family_table(found["name"]) if found["name"] else families_table(), markdown)


def families_table() -> str:
    """Every family with its models."""
    lines = [
        "| | paper | models in PyTorch; Keras puts `TF`, Flax `Flax` before the name | config |",
        "|---|---|---|---|",
    ]
    for name, family in FAMILIES.items():
        models = "<br>".join(f"`{model}`" for model in family.models.values())
        title = f"[{family.title}]({PAGES[name]}.md)"
        lines.append(f"| {title} | [{_paper(family)}]({family.paper}) | {models} | `{family.config_class.__name__}` |")
    return "\n".join(lines)


def family_table(name: str) -> str:
    """What one family is, and where it differs from ViT."""
    family = FAMILIES[name]
    plain, own = Architecture(), family.config_class().architecture
    rows = {
        "paper": f"[{_paper(family)}]({family.paper})",
        "`model_type`": f"`{family.model_type}`",
        "config": f"`{family.config_class.__name__}`",
        **{
            f"models in {framework}": ", ".join(f"`{prefix}{model}`" for model in family.models.values())
            for framework, prefix in PREFIXES.items()
        },
        "image processor": f"`{family.image_processor}`",
    }
    for field in fields(Architecture):
        value, usual = getattr(own, field.name), getattr(plain, field.name)
        if value != usual:
            rows[OPTIONS[field.name]] = f"{_shown(value)} (ViT: {UNSAID.get(field.name) or _shown(usual)})"
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def _paper(family: Family) -> str:
    return "arXiv " + family.paper.rsplit("/", 1)[1]


def _shown(value: Any) -> str:
    if isinstance(value, tuple) and value:
        return ", ".join(name.replace("_", " ").replace("cls", "class") for name in value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:g}"
    return VALUES.get(value, str(value))
