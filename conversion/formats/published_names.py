"""How transformers calls the parts of families whose published names are not the canonical ones, module by module.

Reference: modeling_dinov2.py, modeling_dinov3_vit.py, modeling_siglip.py and modeling_clip.py of transformers 4.57.
"""

from __future__ import annotations

from conversion.canonical import HEAD
from conversion.formats.rules import DropFirstAxis, Module

PATCHES = "embeddings.patch_embeddings.projection"
LAYER = "encoder.layer.*"
ATTENTION, POOLER = (f"{start}.attention.attention" for start in (LAYER, "pooler"))
GATE = f"{LAYER}.intermediate.gate"
IF_GATED = (f"{GATE}.weight",)

CLASSIFIER = Module(f"{HEAD}classifier", "classifier.{leaf}")

DINOV2 = [
    Module("embeddings.cls_token", "embeddings.cls_token"),
    Module("embeddings.mask_token", "embeddings.mask_token", steps=(DropFirstAxis(),)),
    Module("embeddings.register_tokens", "embeddings.register_tokens"),
    Module("embeddings.position_embeddings", "embeddings.position_embeddings"),
    Module(PATCHES, "embeddings.patch_embeddings.projection.{leaf}"),
    Module(f"{LAYER}.layernorm_before", f"{LAYER}.norm1.{{leaf}}"),
    Module(f"{ATTENTION}.query", f"{ATTENTION}.query.{{leaf}}"),
    Module(f"{ATTENTION}.key", f"{ATTENTION}.key.{{leaf}}"),
    Module(f"{ATTENTION}.value", f"{ATTENTION}.value.{{leaf}}"),
    Module(f"{LAYER}.attention.output.dense", f"{LAYER}.attention.output.dense.{{leaf}}"),
    Module(f"{LAYER}.lambda_1", f"{LAYER}.layer_scale1.lambda1"),
    Module(f"{LAYER}.layernorm_after", f"{LAYER}.norm2.{{leaf}}"),
    Module((GATE, f"{LAYER}.intermediate.dense"), f"{LAYER}.mlp.weights_in.{{leaf}}"),
    Module(f"{LAYER}.intermediate.dense", f"{LAYER}.mlp.fc1.{{leaf}}", unless=IF_GATED),
    Module(f"{LAYER}.output.dense", f"{LAYER}.mlp.fc2.{{leaf}}", unless=IF_GATED),
    Module(f"{LAYER}.output.dense", f"{LAYER}.mlp.weights_out.{{leaf}}"),
    Module(f"{LAYER}.lambda_2", f"{LAYER}.layer_scale2.lambda1"),
    Module("layernorm", "layernorm.{leaf}"),
    CLASSIFIER,
]

DINOV3 = [
    Module("embeddings.cls_token", "embeddings.cls_token"),
    Module("embeddings.mask_token", "embeddings.mask_token"),
    Module("embeddings.register_tokens", "embeddings.register_tokens"),
    Module(PATCHES, "embeddings.patch_embeddings.{leaf}"),
    Module(f"{LAYER}.layernorm_before", "layer.*.norm1.{leaf}"),
    Module(f"{ATTENTION}.query", "layer.*.attention.q_proj.{leaf}"),
    Module(f"{ATTENTION}.key", "layer.*.attention.k_proj.{leaf}"),
    Module(f"{ATTENTION}.value", "layer.*.attention.v_proj.{leaf}"),
    Module(f"{LAYER}.attention.output.dense", "layer.*.attention.o_proj.{leaf}"),
    Module(f"{LAYER}.lambda_1", "layer.*.layer_scale1.lambda1"),
    Module(f"{LAYER}.layernorm_after", "layer.*.norm2.{leaf}"),
    Module(GATE, "layer.*.mlp.gate_proj.{leaf}"),
    Module(f"{LAYER}.intermediate.dense", "layer.*.mlp.up_proj.{leaf}"),
    Module(f"{LAYER}.output.dense", "layer.*.mlp.down_proj.{leaf}"),
    Module(f"{LAYER}.lambda_2", "layer.*.layer_scale2.lambda1"),
    Module("layernorm", "norm.{leaf}"),
]


def towers(table: str) -> list[Module]:
    """What the image towers of SigLIP and CLIP have in common; what is in a table of embeddings is called `table`."""
    return [
        Module(PATCHES, "embeddings.patch_embedding.{leaf}"),
        Module("embeddings.position_embeddings", f"embeddings.position_embedding.{table}", steps=(DropFirstAxis(),)),
        Module(f"{LAYER}.layernorm_before", "encoder.layers.*.layer_norm1.{leaf}"),
        Module(f"{ATTENTION}.query", "encoder.layers.*.self_attn.q_proj.{leaf}"),
        Module(f"{ATTENTION}.key", "encoder.layers.*.self_attn.k_proj.{leaf}"),
        Module(f"{ATTENTION}.value", "encoder.layers.*.self_attn.v_proj.{leaf}"),
        Module(f"{LAYER}.attention.output.dense", "encoder.layers.*.self_attn.out_proj.{leaf}"),
        Module(f"{LAYER}.layernorm_after", "encoder.layers.*.layer_norm2.{leaf}"),
        Module(f"{LAYER}.intermediate.dense", "encoder.layers.*.mlp.fc1.{leaf}"),
        Module(f"{LAYER}.output.dense", "encoder.layers.*.mlp.fc2.{leaf}"),
    ]


def siglip(table: str = "weight") -> list[Module]:
    """SigLIP's image tower; see `towers`."""
    heads = tuple(f"{POOLER}.{part}" for part in ("query", "key", "value"))
    return [
        *towers(table),
        Module("layernorm", "post_layernorm.{leaf}"),
        Module("pooler.probe", "head.probe"),
        Module(heads, "head.attention.in_proj_{leaf}"),
        Module("pooler.attention.output.dense", "head.attention.out_proj.{leaf}"),
        Module("pooler.layernorm", "head.layernorm.{leaf}"),
        Module("pooler.intermediate.dense", "head.mlp.fc1.{leaf}"),
        Module("pooler.output.dense", "head.mlp.fc2.{leaf}"),
        CLASSIFIER,
    ]


def clip(table: str = "weight") -> list[Module]:
    """CLIP's image tower; see `towers`."""
    return [
        Module("embeddings.cls_token", "embeddings.class_embedding", steps=(DropFirstAxis(), DropFirstAxis())),
        Module("embeddings.layernorm", "pre_layrnorm.{leaf}"),  # their spelling
        *towers(table),
        Module("pooler.layernorm", "post_layernorm.{leaf}"),
        Module(f"{HEAD}visual_projection", "visual_projection.{leaf}"),
        CLASSIFIER,
    ]
