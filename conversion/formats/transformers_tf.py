"""transformers' TensorFlow checkpoints: `tf_model.h5`, or safetensors with TensorFlow's names.

In HDF5, a weight's name stands in the group of its top layer: "vit/tf_vi_t_model/vit/embeddings/cls_token:0".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from conversion.canonical import heads, in_words, rows
from conversion.formats.format import ALL_MODELS, CLASSIFIERS, QKV_BIAS, Format, Tensors
from conversion.formats.rules import KINDS, Module, rules
from conversion.formats.transformers import CONVENTIONS, PREFIXES, UNSURE
from vit_core.config import PretrainedConfig
from vit_core.families import family_of
from vit_core.layouts import KERAS
from vit_core.parameters import BARE, STACKS

#: The models that transformers 4 has in TensorFlow.
MODELS = {**CLASSIFIERS, **{name: ALL_MODELS[name] for name in ("deit", "vit_mae", "data2vec-vision")}}
BASES = {name: PREFIXES[name].replace(".", "/") for name in MODELS}
LEAVES = {kind: replace(leaf, name=f"{leaf.name}:0") for kind, leaf in KERAS.leaves.items()}
#: How the layers of a stack are called there.
LAYERS = {f"{STACKS['encoder']}.": "encoder/layer_._", f"{STACKS['decoder']}.": "decoder/decoder_layers."}
KERAS_VERSION = "2.17.0"  # the last Keras that transformers' models ran on


def _templates() -> Iterator[str]:
    """The templates of the tensors of these models, of base models first."""
    for model_type in MODELS:
        lacking = [templates for task, templates in heads(model_type).items() if task not in MODELS[model_type]]
        yield from (template for template in rows(model_type) if not any(template in each for each in lacking))


def _modules() -> list[Module]:
    """Keras' paths are the canonical names, but for numbers of layers and the last part of a layer's."""
    names = set(_templates())
    layers = dict.fromkeys(name.removesuffix(".weight").removesuffix(".bias") for name in KINDS if name in names)
    return [Module(name, _path(in_words(name)) + (":0" if name in KINDS else "/{leaf}")) for name in layers]


def _path(name: str) -> str:
    for canonical, theirs in LAYERS.items():
        if name.startswith(canonical):
            return theirs + name.removeprefix(canonical).replace(".", "/")
    return name.replace(".", "/")


#: The groups at the top: base models and heads, and in safetensors the parts of a bare model.
GROUPS = {in_words(name).split(".")[0] for name in _templates()} | {base.rstrip("/") for base in BASES.values()}


def _without_model(tensors: Tensors) -> Tensors:
    """Names as safetensors have them: without the top layer's group and the model's name.

    A functional model with a ViT inside, as Keras 2 saves it, has other groups beside; there the group of the ViT is
    what stands before its names.
    """
    if {name.partition("/")[0] for name in tensors} - GROUPS:
        return tensors
    return {_short(name): tensor for name, tensor in tensors.items()}


def _short(name: str) -> str:
    layer, _, rest = name.partition("/")
    if rest.startswith(f"{layer}/"):  # the model was built without a name
        return rest
    model, _, rest = rest.partition("/")
    return rest if model.startswith("tf_") and rest.startswith(f"{layer}/") else name


def _in_groups(tensors: Tensors, config: PretrainedConfig) -> Tensors:
    """Names as HDF5 has them."""
    family, (model_name,) = family_of(config), config.architectures or [""]
    model, is_bare = snake_case(f"TF{model_name}"), family.task_of(model_name) in BARE
    base = BASES[family.model_type] if is_bare else ""
    return {f"{(base + name).split('/')[0]}/{model}/{base}{name}": tensor for name, tensor in tensors.items()}


def snake_case(name: str) -> str:
    """The name of a model of such a class, as Keras makes it."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _attributes(tensors: Tensors) -> Mapping[str, Mapping[str, Any]]:
    """What Keras 2 reads before it reads weights: the layers, and the weights of each in order."""
    layers: dict[str, list[str]] = {}
    for name in tensors:
        layer, _, weight = name.partition("/")
        layers.setdefault(layer, []).append(weight)
    top = {"backend": "tensorflow", "keras_version": KERAS_VERSION, "layer_names": list(layers)}
    weights = {layer: {"weight_names": names} for layer, names in layers.items()}
    return {"": top, **weights, "top_level_model_weights": {"weight_names": []}}


TRANSFORMERS_TF = Format(
    name="transformers-tf",
    title="transformers' tf_model.h5",
    rules=rules(LEAVES, _modules()),
    models=MODELS,
    signature=("embeddings/cls_token:0", "embeddings/patch_embeddings/projection/kernel:0"),
    conventions=CONVENTIONS,
    keeps_defaults=True,
    told=tuple(CONVENTIONS),
    unsure=UNSURE,
    files={"hdf5": "tf_model.h5"},
    base_prefixes=BASES,
    always=QKV_BIAS,  # whatever its config.json says
    normalised=_without_model,
    spelt=_in_groups,
    attributes=_attributes,
)
