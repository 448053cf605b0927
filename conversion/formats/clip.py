"""CLIP as OpenAI published it, and as OpenCLIP writes it: of a model of images and texts, the image tower.

Reference: openai/CLIP, clip/model.py; mlfoundations/open_clip, src/open_clip/transformer.py.
"""

from __future__ import annotations

from typing import Any

from conversion.canonical import HEAD
from conversion.formats.format import Format, Found, Settings, Tensors
from conversion.formats.published import CLIP_CROP
from conversion.formats.rules import TORCH_LEAVES, DropFirstAxis, Module, Rule, Transpose, rules

BLOCK = "transformer.resblocks.*"
LAYER = "encoder.layer.*"
PROJECTION, TOWER = "proj", "visual."
#: Numbers that the published archives hold beside the weights.
OF_OPENAI = ("input_resolution", "context_length", "vocab_size")
TEXTS = (
    *("transformer.*", "token_embedding.*", "positional_embedding", "ln_final.*", "text_projection", "text.*"),
    *("logit_scale", "logit_bias", "attn_mask"),
)


def _projection_outside(tensors: Tensors) -> Tensors:
    """With the projection's name outside the image tower, where a model has its head."""
    end = f"{TOWER}{PROJECTION}"
    return {
        name.removesuffix(end) + PROJECTION if f".{name}".endswith((f".{end}", f"/{end}")) else name: tensor
        for name, tensor in tensors.items()
    }


def _clip(name: str, title: str, **more: Any) -> Format:
    return Format(
        name=name,
        title=title,
        rules=(
            *rules(
                TORCH_LEAVES,
                [
                    Module("embeddings.cls_token", "class_embedding", steps=(DropFirstAxis(), DropFirstAxis())),
                    Module("embeddings.position_embeddings", "positional_embedding", steps=(DropFirstAxis(),)),
                    Module("embeddings.patch_embeddings.projection", "conv1.{leaf}"),
                    Module("embeddings.layernorm", "ln_pre.{leaf}"),
                    Module(
                        tuple(f"{LAYER}.attention.attention.{part}" for part in ("query", "key", "value")),
                        f"{BLOCK}.attn.in_proj_{{leaf}}",
                    ),
                    Module(f"{LAYER}.attention.output.dense", f"{BLOCK}.attn.out_proj.{{leaf}}"),
                    Module(f"{LAYER}.layernorm_before", f"{BLOCK}.ln_1.{{leaf}}"),
                    Module(f"{LAYER}.intermediate.dense", f"{BLOCK}.mlp.c_fc.{{leaf}}"),
                    Module(f"{LAYER}.output.dense", f"{BLOCK}.mlp.c_proj.{{leaf}}"),
                    Module(f"{LAYER}.layernorm_after", f"{BLOCK}.ln_2.{{leaf}}"),
                    Module("pooler.layernorm", "ln_post.{leaf}"),
                ],
            ),
            Rule((f"{HEAD}visual_projection.weight",), (PROJECTION,), (Transpose((1, 0)),)),
        ),
        models={"clip_vision_model": ("model", "image-projection")},
        signature=("class_embedding", "conv1.weight", "ln_pre.weight", "ln_post.weight"),
        base_prefixes={"clip_vision_model": TOWER},
        preprocessing=CLIP_CROP,
        left_out=(*TEXTS, *OF_OPENAI),
        normalised=_projection_outside,
        **more,
    )


def _is_openais(model: Found, metadata: Settings) -> bool:
    return all(name in model.whole for name in OF_OPENAI)


CLIP = _clip("clip", "CLIP", claims=_is_openais, conventions={"layer_norm_eps": 1e-5, "hidden_act": "quick_gelu"})
#: Models that LAION and others trained have the exact GELU, unless their names end in "-quickgelu".
OPEN_CLIP = _clip(
    "open-clip",
    "OpenCLIP",
    conventions={"layer_norm_eps": 1e-5, "hidden_act": "gelu"},
    unsure=("hidden_act",),
)
