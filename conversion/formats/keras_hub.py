"""KerasHub's ViTBackbone and ViTImageClassifier, as `save_weights` writes them: positions in lists instead of names.

Keras names a group by the class of its layer, with a number from the second one on; a layer's weights are "vars/0" and
"vars/1". Reference: keras_hub/src/models/vit and keras/src/saving/saving_lib.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from conversion.canonical import HEAD
from conversion.formats.format import QKV_BIAS, Format, Settings, Tensors
from conversion.formats.rules import DropFirstAxis, Module, rules
from conversion.sources import TASK_KEY
from vit_core.config import PretrainedConfig
from vit_core.layouts import KERAS, Leaf
from vit_core.parameters import Kind

VARIABLES: Mapping[str, str] = {"kernel": "vars/0", "bias": "vars/1", "gamma": "vars/0", "beta": "vars/1"}
LEAVES: Mapping[Kind, Leaf] = {
    kind: replace(leaf, name=VARIABLES[leaf.name]) if leaf.name else leaf for kind, leaf in KERAS.leaves.items()
}
BACKBONE = "layers/vi_t_backbone/"
EMBEDDINGS = "layers/vi_t_patching_and_embedding"
BLOCK = "layers/vi_t_encoder/encoder_layers/vi_t_encoder_block_*"
FIRST_BLOCK, NUMBERED = "/vi_t_encoder_block/", "/vi_t_encoder_block_0/"

#: Arguments of ViTBackbone, and the fields of a config that they are.
BACKBONE_ARGUMENTS = {
    "patch_size": "patch_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "mlp_dim": "intermediate_size",
    "dropout_rate": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "layer_norm_epsilon": "layer_norm_eps",
}


def _numbered(tensors: Tensors) -> Tensors:
    """Names with a number for the first block too, and with the heads' own names: "pre_logits" and "head".

    What is before the logits is a part of the base model here, and in KerasHub of the head.
    """
    found = {name.replace(FIRST_BLOCK, NUMBERED): tensor for name, tensor in tensors.items()}
    if any("layers/dense_1/" in name for name in found):  # the first of two dense layers is before the logits
        found = {re.sub("layers/dense/", f"{BACKBONE}pre_logits/", name): tensor for name, tensor in found.items()}
        return {re.sub("layers/dense_1/", "head/", name): tensor for name, tensor in found.items()}
    return {re.sub("layers/dense/", "head/", name): tensor for name, tensor in found.items()}


def _as_keras_names(tensors: Tensors, config: PretrainedConfig) -> Tensors:
    """The other direction."""
    has_two = any(name.startswith(f"{BACKBONE}pre_logits/") for name in tensors)
    names = {f"{BACKBONE}pre_logits/": "layers/dense/", "head/": "layers/dense_1/" if has_two else "layers/dense/"}
    found = {}
    for name, tensor in tensors.items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs) if name.startswith(ours) else name
        found[name.replace(NUMBERED, FIRST_BLOCK)] = tensor
    return found


def _config_fields(metadata: Settings) -> dict[str, Any] | None:
    """The `config.json` of a preset, with its `task.json` under a key of ours."""
    if not str(metadata.get("registered_name", "")).startswith("keras_hub>ViT"):
        return None
    task = metadata.get(TASK_KEY)
    pooling = task.get("config", {}).get("pooling", "token") if isinstance(task, dict) else "token"
    if pooling != "token":
        raise ValueError(f"its head reads the tokens by pooling={pooling!r}, not the class token.")
    arguments = metadata.get("config")
    arguments = arguments if isinstance(arguments, dict) else {}
    fields = {ours: arguments[theirs] for theirs, ours in BACKBONE_ARGUMENTS.items() if theirs in arguments}
    if isinstance(shape := arguments.get("image_shape"), list) and len(shape) == 3:
        fields |= {"image_size": shape[:2], "num_channels": shape[2]}
    for name in ("image_size", "patch_size"):
        if isinstance(pair := fields.get(name), list) and len(set(pair)) == 1:
            fields[name] = pair[0]
    return fields


KERAS_HUB = Format(
    name="keras-hub",
    title="KerasHub",
    rules=rules(
        LEAVES,
        [
            Module("embeddings.cls_token", f"{EMBEDDINGS}/vars/0"),
            Module(
                "embeddings.position_embeddings", f"{EMBEDDINGS}/position_embedding/vars/0", steps=(DropFirstAxis(),)
            ),
            Module("embeddings.patch_embeddings.projection", f"{EMBEDDINGS}/patch_embedding/{{leaf}}"),
            Module("encoder.layer.*.layernorm_before", f"{BLOCK}/layer_norm_1/{{leaf}}"),
            Module("encoder.layer.*.attention.attention.query", f"{BLOCK}/mha/query_dense/{{leaf}}", heads="outputs"),
            Module("encoder.layer.*.attention.attention.key", f"{BLOCK}/mha/key_dense/{{leaf}}", heads="outputs"),
            Module("encoder.layer.*.attention.attention.value", f"{BLOCK}/mha/value_dense/{{leaf}}", heads="outputs"),
            Module("encoder.layer.*.attention.output.dense", f"{BLOCK}/mha/output_dense/{{leaf}}", heads="inputs"),
            Module("encoder.layer.*.layernorm_after", f"{BLOCK}/layer_norm_2/{{leaf}}"),
            Module("encoder.layer.*.intermediate.dense", f"{BLOCK}/mlp/dense_1/{{leaf}}"),
            Module("encoder.layer.*.output.dense", f"{BLOCK}/mlp/dense_2/{{leaf}}"),
            Module("layernorm", "layers/vi_t_encoder/layer_norm/{leaf}"),
            Module("pooler.dense", "pre_logits/{leaf}"),
            Module(f"{HEAD}classifier", "head/{leaf}"),
        ],
    ),
    signature=(f"{EMBEDDINGS}/patch_embedding/vars/0", f"{EMBEDDINGS}/vars/0", "layers/vi_t_encoder/layer_norm/vars/0"),
    conventions={"layer_norm_eps": 1e-6, "hidden_act": "gelu"},
    files={"hdf5": "model.weights.h5"},
    base_prefixes={"vit": BACKBONE},
    left_out=("optimizer/*", "seed_generator/*", "*/seed_generator/*"),
    head_reads_pooler=True,
    always=QKV_BIAS,
    normalised=_numbered,
    spelt=_as_keras_names,
    config_fields=_config_fields,
)
