"""transformers' TensorFlow checkpoints: `tf_model.h5`, or safetensors with TensorFlow's names.

In HDF5, a weight's name stands in the group of its top layer: "vit/tf_vi_t_model/vit/embeddings/cls_token:0". In
TensorFlow transformers 4 has ViT, DeiT, MAE, data2vec and CLIP; other families have names made alike, by us.
Reference: modeling_tf_vit.py and its like, and modeling_tf_clip.py of transformers 4.47.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from conversion.canonical import in_words
from conversion.formats import published_names
from conversion.formats.format import ALL_MODELS, QKV_BIAS, Format, Tensors
from conversion.formats.published import CLIP_CROP
from conversion.formats.rules import Module, Rules, kinds, modules_named_alike
from conversion.formats.transformers import CONVENTIONS, PREFIXES, UNSURE
from vit_core.config import PretrainedConfig
from vit_core.families import family_of
from vit_core.layouts import KERAS
from vit_core.parameters import BARE, STACKS
from vit_core.renaming import renamed

BASES = {name: prefix.replace(".", "/") for name, prefix in PREFIXES.items()}
LEAVES = {kind: replace(leaf, name=f"{leaf.name}:0") for kind, leaf in KERAS.leaves.items()}
#: How the layers of a stack are called there.
LAYERS = {f"{STACKS['encoder']}.": "encoder/layer_._", f"{STACKS['decoder']}.": "decoder/decoder_layers."}
KERAS_VERSION = "2.17.0"  # the last Keras that transformers' models ran on
OF_CLIP = "clip/"  # the layer with all of a CLIP
OF_TEXTS = ("text_model/*", "text_projection/*", "logit_scale:0")  # what it has beside the image tower


def _modules() -> list[Module]:
    """Keras' paths are the canonical names, but for numbers of layers and the last part of a layer's."""
    return modules_named_alike(_path, ":0")


def _path(name: str) -> str:
    for canonical, theirs in LAYERS.items():
        if name.startswith(canonical):
            return theirs + name.removeprefix(canonical).replace(".", "/")
    return name.replace(".", "/")


def _published(modules: Iterable[Module]) -> Rules:
    """The rules of a family whose published names are other ones, from those of PyTorch's files."""
    modules = list(modules)
    paths = [module.theirs.replace(".", "/").replace("layers/", "layers_._") for module in modules]
    named = [path if path.endswith("{leaf}") else f"{path}:0" for path in paths]
    return Rules(LEAVES, [replace(module, theirs=name) for module, name in zip(modules, named, strict=True)])


@functools.cache
def _groups() -> frozenset[str]:
    """The groups at the top: base models and heads, and in safetensors the parts of a bare model."""
    parts = (in_words(name).split(".")[0] for name in kinds())
    return frozenset((*parts, *(base.split("/")[0] for base in (*BASES.values(), OF_CLIP))))


def _without_model(tensors: Tensors) -> Tensors:
    """Names as safetensors have them: without the top layer's group and the model's name.

    A functional model with a ViT inside, as Keras 2 saves it, has other groups beside; there the group of the ViT is
    what stands before its names.
    """
    if not any(name.endswith(":0") for name in tensors):  # of most files, for which no groups need be known
        return tensors
    if {name.partition("/")[0] for name in tensors} - _groups():
        return tensors
    return renamed(tensors, _short)


def _short(name: str) -> str:
    layer, _, rest = name.partition("/")
    if rest.startswith(f"{layer}/"):  # the model was built without a name
        return rest
    model, _, rest = rest.partition("/")
    return rest if model.startswith("tf") and rest.startswith(f"{layer}/") else name


def _without_clip(tensors: Tensors) -> Tensors:
    """Likewise, without the layer around all of a CLIP."""
    return renamed(_without_model(tensors), lambda name: name.removeprefix(OF_CLIP))


def _in_groups(tensors: Tensors, config: PretrainedConfig) -> Tensors:
    """Names as HDF5 has them."""
    family, (model_name,) = family_of(config), config.architectures or [""]
    base = BASES[family.model_type] if family.task_of(model_name) in BARE else ""
    return _grouped({base + name: tensor for name, tensor in tensors.items()}, model_name)


def _in_groups_of_clip(tensors: Tensors, config: PretrainedConfig) -> Tensors:
    """Likewise; transformers has no classifier in TensorFlow, so that its place is ours."""
    (model_name,) = config.architectures or [""]
    is_outside = re.compile("classifier/").match
    return _grouped({name if is_outside(name) else OF_CLIP + name: each for name, each in tensors.items()}, model_name)


def _grouped(tensors: Tensors, model_name: str) -> Tensors:
    model = snake_case(f"TF{model_name}")
    return {f"{name.split('/')[0]}/{model}/{name}": tensor for name, tensor in tensors.items()}


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
    rules=Rules(LEAVES, _modules),
    models=ALL_MODELS,
    signature=("embeddings/patch_embeddings/projection/kernel:0",),
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
TF_CLIP = replace(
    TRANSFORMERS_TF,
    name="transformers-tf-clip",
    title="transformers' tf_model.h5 of CLIP",
    rules=_published(published_names.clip("embeddings")),
    models={"clip_vision_model": ALL_MODELS["clip_vision_model"]},
    signature=("embeddings/patch_embedding/kernel:0", "embeddings/class_embedding:0"),
    preprocessing=CLIP_CROP,
    base_prefixes={"clip_vision_model": BASES["clip_vision_model"]},
    normalised=_without_clip,
    spelt=_in_groups_of_clip,
    left_out=OF_TEXTS,
    texts=OF_TEXTS,
    always_prefixed=True,
)
TRANSFORMERS_TF = replace(TRANSFORMERS_TF, others=(TF_CLIP,))
