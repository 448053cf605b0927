"""transformers' TensorFlow checkpoints: `tf_model.h5`, or safetensors with TensorFlow's names.

In HDF5, a weight's name stands in the group of its top layer: "vit/tf_vi_t_model/vit/embeddings/cls_token:0".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from conversion.formats.format import Format, Tensors
from conversion.formats.rules import Module, rules
from conversion.formats.transformers import CONVENTIONS, UNSURE
from vit_core.layouts import KERAS

LEAVES = {kind: replace(leaf, name=f"{leaf.name}:0") for kind, leaf in KERAS.leaves.items()}
BASE = "vit/"
GROUPS = {
    "vit",
    "classifier",
    "embeddings",
    "encoder",
    "layernorm",
    "pooler",
}  # at the top, the last ones of safetensors
BARE_MODEL, CLASSIFIER = "tf_vi_t_model", "tf_vi_t_for_image_classification"
KERAS_VERSION = "2.17.0"  # the last Keras that transformers' models ran on


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
    return rest if model.startswith("tf_vi_t") and rest.startswith(f"{layer}/") else name


def _in_groups(tensors: Tensors) -> Tensors:
    """Names as HDF5 has them."""
    if not any(name.startswith(BASE) for name in tensors):
        return {f"{BASE}{BARE_MODEL}/{BASE}{name}": tensor for name, tensor in tensors.items()}
    return {f"{name.split('/')[0]}/{CLASSIFIER}/{name}": tensor for name, tensor in tensors.items()}


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
    rules=rules(
        LEAVES,
        [
            Module("embeddings.cls_token", "embeddings/cls_token:0"),
            Module("embeddings.position_embeddings", "embeddings/position_embeddings:0"),
            Module("embeddings.patch_embeddings.projection", "embeddings/patch_embeddings/projection/{leaf}"),
            Module("encoder.layer.*.attention.attention.query", "encoder/layer_._*/attention/attention/query/{leaf}"),
            Module("encoder.layer.*.attention.attention.key", "encoder/layer_._*/attention/attention/key/{leaf}"),
            Module("encoder.layer.*.attention.attention.value", "encoder/layer_._*/attention/attention/value/{leaf}"),
            Module("encoder.layer.*.attention.output.dense", "encoder/layer_._*/attention/output/dense/{leaf}"),
            Module("encoder.layer.*.intermediate.dense", "encoder/layer_._*/intermediate/dense/{leaf}"),
            Module("encoder.layer.*.output.dense", "encoder/layer_._*/output/dense/{leaf}"),
            Module("encoder.layer.*.layernorm_before", "encoder/layer_._*/layernorm_before/{leaf}"),
            Module("encoder.layer.*.layernorm_after", "encoder/layer_._*/layernorm_after/{leaf}"),
            Module("layernorm", "layernorm/{leaf}"),
            Module("pooler.dense", "pooler/dense/{leaf}"),
            Module("classifier", "classifier/{leaf}"),
        ],
    ),
    signature=("embeddings/cls_token:0", "embeddings/patch_embeddings/projection/kernel:0"),
    conventions=CONVENTIONS,
    told=tuple(CONVENTIONS),
    unsure=UNSURE,
    files={"hdf5": "tf_model.h5"},
    base_prefix=BASE,
    has_qkv_bias=True,  # whatever its config.json says
    normalised=_without_model,
    spelt=_in_groups,
    attributes=_attributes,
)
