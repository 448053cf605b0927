"""timm's names for the parts of a Vision Transformer, which DeiT, DINO, MAE and BEiT have as well.

Reference: timm/models/vision_transformer.py.
"""

from __future__ import annotations

from conversion.canonical import HEAD
from conversion.formats.rules import Module

ATTENTION = "encoder.layer.*.attention.attention"
QUERY_KEY_VALUE = tuple(f"{ATTENTION}.{part}" for part in ("query", "key", "value"))

#: The base model, without what stands before the patches.
ENCODER = [
    Module("embeddings.position_embeddings", "pos_embed"),
    Module("embeddings.patch_embeddings.projection", "patch_embed.proj.{leaf}"),
    Module("encoder.layer.*.layernorm_before", "blocks.*.norm1.{leaf}"),
    Module(QUERY_KEY_VALUE, "blocks.*.attn.qkv.{leaf}"),
    Module("encoder.layer.*.attention.output.dense", "blocks.*.attn.proj.{leaf}"),
    Module("encoder.layer.*.layernorm_after", "blocks.*.norm2.{leaf}"),
    Module("encoder.layer.*.intermediate.dense", "blocks.*.mlp.fc1.{leaf}"),
    Module("encoder.layer.*.output.dense", "blocks.*.mlp.fc2.{leaf}"),
    Module("layernorm", "norm.{leaf}"),
]
CLASS_TOKEN = Module("embeddings.cls_token", "cls_token")
HEAD_LAYER = Module(f"{HEAD}classifier", "head.{leaf}")
SIGNATURE = ("cls_token", "pos_embed", "patch_embed.proj.weight")
CONVENTIONS = {"layer_norm_eps": 1e-6, "hidden_act": "gelu"}
REFUSED = {
    "fc_norm.*": "its head reads the mean of the patches, not the class token",
    "*.ls1.gamma": "its layers scale what they add",
    "*.gamma_1": "its layers scale what they add",
    "*.attn.q_norm.*": "it normalises queries and keys",
    "reg_token": "it has register tokens",
    "register_tokens": "it has register tokens",
    "norm_pre.*": "it normalises the tokens before the first layer",
    "attn_pool.*": "it pools by attention",
    "*.mlp.fc1_g.*": "its MLP is gated",
    "*.mlp.w12.*": "its MLP is gated",
    "*rel_pos*": "it has relative positions",
    "*relative_position*": "it has relative positions",
    "pre_logits.*": "its head reads a representation layer in timm's old layout",
}
