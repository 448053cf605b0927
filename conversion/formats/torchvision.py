"""torchvision's `vit_*`: fused q/k/v, layers named encoder_layer_0, encoder_layer_1, ...

Reference: torchvision/models/vision_transformer.py.
"""

from __future__ import annotations

from dataclasses import replace

from conversion.canonical import HEAD
from conversion.formats.format import QKV_BIAS, Format
from conversion.formats.preprocessing import BILINEAR, IMAGENET_CROP
from conversion.formats.rules import TORCH_LEAVES, Module, Rules
from conversion.formats.timm_names import QUERY_KEY_VALUE

LAYER = "encoder.layers.encoder_layer_*"

TORCHVISION = Format(
    name="torchvision",
    title="torchvision",
    rules=Rules(
        TORCH_LEAVES,
        [
            Module("embeddings.cls_token", "class_token"),
            Module("embeddings.position_embeddings", "encoder.pos_embedding"),
            Module("embeddings.patch_embeddings.projection", "conv_proj.{leaf}"),
            Module("encoder.layer.*.layernorm_before", f"{LAYER}.ln_1.{{leaf}}"),
            Module(QUERY_KEY_VALUE, f"{LAYER}.self_attention.in_proj_{{leaf}}"),
            Module("encoder.layer.*.attention.output.dense", f"{LAYER}.self_attention.out_proj.{{leaf}}"),
            Module("encoder.layer.*.layernorm_after", f"{LAYER}.ln_2.{{leaf}}"),
            Module("encoder.layer.*.intermediate.dense", f"{LAYER}.mlp.0.{{leaf}}"),
            Module("encoder.layer.*.output.dense", f"{LAYER}.mlp.3.{{leaf}}"),
            Module("layernorm", "encoder.ln.{leaf}"),
            Module("pooler.dense", "heads.pre_logits.{leaf}"),
            Module(f"{HEAD}classifier", "heads.head.{leaf}"),
        ],
    ),
    signature=("class_token", "conv_proj.weight", "encoder.pos_embedding"),
    conventions={"layer_norm_eps": 1e-6, "hidden_act": "gelu"},
    preprocessing=replace(IMAGENET_CROP, resample=BILINEAR),
    files={"torch": "torchvision.pth"},
    refused={"conv_proj.0.*": "its patches are made by several convolutions"},
    head_reads_pooler=True,
    always=QKV_BIAS,
)
