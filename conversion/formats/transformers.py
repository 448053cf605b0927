"""transformers' PyTorch checkpoints: the canonical names and layout, and their other spellings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from conversion.formats.format import Format, Settings
from conversion.formats.preprocessing import Preprocessing
from conversion.formats.rules import KINDS, Module, Rule, rules
from vit_core.families.vit import FAMILY
from vit_core.image_processing import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from vit_core.layouts import Leaf
from vit_core.parameters import Kind

#: PyTorch's own names and axes.
TORCH_LEAVES: Mapping[Kind, Leaf] = {
    "conv": Leaf("weight"),
    "linear": Leaf("weight"),
    "bias": Leaf("bias"),
    "scale": Leaf("weight"),
    "shift": Leaf("bias"),
    "token": Leaf(None),
    "gain": Leaf(None),
    "table": Leaf(None),
    "positions": Leaf(None),
}

#: Tensors of transformers' relatives of ViT, and what makes them so.
RELATIVES = {
    "embeddings.distillation_token": "it is a distilled DeiT, with a second token",
    "encoder.layer.*.lambda_1": "it is a BEiT, whose layers scale what they add",
    "*relative_position_bias*": "it is a BEiT, with relative positions",
    "*layer_scale*": "its layers scale what they add",
    "embeddings.register_tokens": "it has register tokens",
}

#: The defaults of a config; what a model has instead, its `config.json` tells.
CONVENTIONS = {"layer_norm_eps": 1e-12, "hidden_act": "gelu"}
UNSURE = (*CONVENTIONS, "id2label")

TRANSFORMERS = Format(
    name="transformers",
    title="transformers",
    rules=tuple(Rule((name,), (name,)) for name in KINDS),
    signature=("embeddings.cls_token", "embeddings.patch_embeddings.projection.weight"),
    conventions=CONVENTIONS,
    told=tuple(CONVENTIONS),
    unsure=UNSURE,
    files={"safetensors": "model.safetensors", "torch": "pytorch_model.bin"},
    base_prefix=FAMILY.prefix,
    refused=RELATIVES,
)
TRANSFORMERS_BIN = replace(
    TRANSFORMERS,
    name="transformers-bin",
    title="transformers' pytorch_model.bin",
    files={"torch": "pytorch_model.bin"},
)


#: The names of modules in transformers 5, whose checkpoints keep the old ones.
TRANSFORMERS_5 = replace(
    TRANSFORMERS,
    name="transformers-5",
    title="a state dict of transformers 5",
    rules=rules(
        TORCH_LEAVES,
        [
            Module("embeddings.cls_token", "embeddings.cls_token"),
            Module("embeddings.mask_token", "embeddings.mask_token"),
            Module("embeddings.position_embeddings", "embeddings.position_embeddings"),
            Module("embeddings.patch_embeddings.projection", "embeddings.patch_embeddings.projection.{leaf}"),
            Module("encoder.layer.*.attention.attention.query", "layers.*.attention.q_proj.{leaf}"),
            Module("encoder.layer.*.attention.attention.key", "layers.*.attention.k_proj.{leaf}"),
            Module("encoder.layer.*.attention.attention.value", "layers.*.attention.v_proj.{leaf}"),
            Module("encoder.layer.*.attention.output.dense", "layers.*.attention.o_proj.{leaf}"),
            Module("encoder.layer.*.intermediate.dense", "layers.*.mlp.fc1.{leaf}"),
            Module("encoder.layer.*.output.dense", "layers.*.mlp.fc2.{leaf}"),
            Module("encoder.layer.*.layernorm_before", "layers.*.layernorm_before.{leaf}"),
            Module("encoder.layer.*.layernorm_after", "layers.*.layernorm_after.{leaf}"),
            Module("layernorm", "layernorm.{leaf}"),
            Module("pooler.dense", "pooler.dense.{leaf}"),
            Module("classifier", "classifier.{leaf}"),
            Module("decoder.0", "decoder.0.{leaf}"),
        ],
    ),
    signature=(*TRANSFORMERS.signature, "layers.0.attention.q_proj.weight"),
    files={},
)


def _mae_config(metadata: Settings) -> dict[str, Any] | None:
    """The encoder's part of a ViTMAEConfig."""
    if metadata.get("model_type") != "vit_mae":
        return None
    dropped = ("model_type", "architectures", "norm_pix_loss", "mask_ratio")
    return {name: value for name, value in metadata.items() if name not in dropped and not name.startswith("decoder_")}


#: transformers' ViTMAEForPreTraining, of which the encoder is a ViT.
TRANSFORMERS_MAE = replace(
    TRANSFORMERS,
    name="transformers-mae",
    title="transformers' MAE",
    files={},
    preprocessing=Preprocessing(tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD)),
    claims=lambda model, metadata: (
        metadata.get("model_type") == "vit_mae" or "decoder.decoder_pred.weight" in model.tensors
    ),
    left_out=("decoder.*",),
    config_fields=_mae_config,
)
