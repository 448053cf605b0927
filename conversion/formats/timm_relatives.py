"""Relatives of ViT in timm: a DeiT with a distillation token, and BEiT with BEiTv2.

Reference: timm/models/deit.py and timm/models/beit.py.
"""

from __future__ import annotations

from dataclasses import replace

from conversion.canonical import HEAD
from conversion.formats import timm_config
from conversion.formats.format import Format, Found, Settings
from conversion.formats.preprocessing import IMAGENET_CROP
from conversion.formats.rules import TORCH_LEAVES, Module, Rules
from conversion.formats.timm_names import (
    ATTENTION,
    CLASS_TOKEN,
    CONVENTIONS,
    ENCODER,
    HEAD_LAYER,
    QUERY_KEY_VALUE,
    REFUSED,
    SIGNATURE,
)

TIMM_DEIT = Format(
    name="timm-deit",
    title="timm's distilled DeiT",
    rules=Rules(
        TORCH_LEAVES,
        [
            CLASS_TOKEN,
            Module("embeddings.distillation_token", "dist_token"),
            *ENCODER,
            Module(f"{HEAD}cls_classifier", "head.{leaf}"),
            Module(f"{HEAD}distillation_classifier", "head_dist.{leaf}"),
        ],
    ),
    models={"deit": ("model", "image-classification-with-teacher")},
    signature=(*SIGNATURE, "dist_token"),
    conventions=CONVENTIONS,
    told=("hidden_act",),
    preprocessing=timm_config.PREPROCESSING,
    files={"safetensors": "model.safetensors", "torch": "pytorch_model.bin"},
    refused=REFUSED,
    config_fields=timm_config.config_fields,
    named_fields=timm_config.named_fields,
    preprocessing_fields=timm_config.preprocessing_fields,
    config_file=timm_config.config_file,
)
#: DeiT's own checkpoints: the same names in a "model" entry, and ImageNet's preprocessing.
DEIT_DISTILLED = replace(
    TIMM_DEIT,
    name="deit-distilled",
    title="DeiT, distilled",
    told=(),
    preprocessing=IMAGENET_CROP,
    files={},
    claims=lambda model, metadata: model.place in ("model", "model_ema"),
)

#: Only the query and the value have a bias.
NO_KEY_BIAS = [
    Module(f"{ATTENTION}.query.bias", "blocks.*.attn.q_bias"),
    Module(f"{ATTENTION}.value.bias", "blocks.*.attn.v_bias"),
]
TABLE = "relative_position_bias.relative_position_bias_table"


def _has_scales_or_tables(model: Found, metadata: Settings) -> bool:
    """Whether it is a BEiT: EVA's models have biases of queries and values, too."""
    names = ("blocks.0.gamma_1", "blocks.0.attn.relative_position_bias_table", SHARED_TABLE)
    return any(name in model.tensors for name in names)


SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"
TIMM_BEIT = Format(
    name="timm-beit",
    title="timm's BEiT",
    rules=Rules(
        TORCH_LEAVES,
        [
            CLASS_TOKEN,
            *ENCODER,
            *NO_KEY_BIAS,
            Module(f"{ATTENTION}.{TABLE}", "blocks.*.attn.relative_position_bias_table"),
            Module(f"encoder.{TABLE}", SHARED_TABLE),
            Module("encoder.layer.*.lambda_1", "blocks.*.gamma_1"),
            Module("encoder.layer.*.lambda_2", "blocks.*.gamma_2"),
            Module("pooler.layernorm", "fc_norm.{leaf}"),
            HEAD_LAYER,
        ],
        without=tuple(f"{part}.bias" for part in QUERY_KEY_VALUE),
    ),
    models=dict.fromkeys(("beit", "data2vec-vision"), ("model", "image-classification")),
    signature=("cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"),
    needs=(
        ("layernorm.weight", "pooler.layernorm.weight"),
        ("encoder.layer.*.lambda_1", f"{ATTENTION}.{TABLE}", f"encoder.{TABLE}"),
    ),
    conventions=CONVENTIONS,
    preprocessing=timm_config.PREPROCESSING,
    files={"safetensors": "model.safetensors", "torch": "pytorch_model.bin"},
    claims=_has_scales_or_tables,
    left_out=("*relative_position_index",),  # computed anew
    refused={
        pattern: REFUSED[pattern]
        for pattern in ("*.attn.q_norm.*", "norm_pre.*", "attn_pool.*", "*.mlp.fc1_g.*", "*.mlp.w12.*")
    },
    config_fields=timm_config.beit_config_fields,
    named_fields=timm_config.named_fields,
    preprocessing_fields=timm_config.preprocessing_fields,
    config_file=timm_config.config_file,
)
