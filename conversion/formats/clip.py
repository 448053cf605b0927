"""CLIP as OpenAI published it, and as OpenCLIP writes it: of a model of images and texts, the image tower.

Reference: openai/CLIP, clip/model.py; mlfoundations/open_clip, src/open_clip/transformer.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conversion.canonical import HEAD
from conversion.formats.format import Format, Found, Settings, Tensors
from conversion.formats.published import CLIP_CROP
from conversion.formats.rules import TORCH_LEAVES, DropFirstAxis, Module, Rule, Rules, Transpose
from vit_core.config import PretrainedConfig
from vit_core.parameters import Task
from vit_core.renaming import renamed
from vit_core.stored_tensor import from_numpy

BLOCK = "transformer.resblocks.*"
LAYER = "encoder.layer.*"
PROJECTION, TOWER = "proj", "visual."
#: Numbers that the published archives hold beside the weights; the first one is the size of images.
RESOLUTION = "input_resolution"
NUMBERS = ("context_length", "vocab_size")
#: The text tower, and what compares both; OpenCLIP has other text towers, too, in a module of their own.
TEXTS = (
    *("transformer.*", "token_embedding.*", "positional_embedding", "ln_final.*", "text_projection", "logit_scale"),
)
OTHER_TEXTS = ("text.*", "logit_bias")
WIDENING, HEAD_WIDTH = 4, 64  # of the MLP and of a head, in OpenAI's code


def _projection_inside(tensors: Tensors) -> Tensors:
    return {f"{TOWER}{name}" if name == PROJECTION else name: tensor for name, tensor in tensors.items()}


def _with_resolution(tensors: Tensors, config: PretrainedConfig) -> Tensors:
    """With the size of images, by which files of OpenAI's kind are known."""
    return {**_projection_inside(tensors), RESOLUTION: from_numpy(np.array(config.image_shape[0]))}


def _projection_outside(tensors: Tensors) -> Tensors:
    """With the projection's name outside the image tower, where a model has its head."""
    end = f"{TOWER}{PROJECTION}"
    return renamed(
        tensors,
        lambda name: name.removesuffix(end) + PROJECTION if f".{name}".endswith((f".{end}", f"/{end}")) else name,
    )


def _clip(name: str, title: str, **more: Any) -> Format:
    return Format(
        name=name,
        title=title,
        rules=Rules(
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
                Rule((f"{HEAD}visual_projection.weight",), (PROJECTION,), (Transpose((1, 0)),)),
            ],
        ),
        models={"clip_vision_model": ("model", "image-projection")},
        signature=("class_embedding", "conv1.weight", "ln_pre.weight", "ln_post.weight"),
        base_prefixes={"clip_vision_model": TOWER},
        preprocessing=CLIP_CROP,
        left_out=(*TEXTS, *OTHER_TEXTS, *NUMBERS, RESOLUTION, "attn_mask"),
        texts=(*TEXTS, *OTHER_TEXTS),
        needs=(("pooler.layernorm.weight",),),
        always_prefixed=True,
        normalised=_projection_outside,
        **more,
    )


def _is_openais(model: Found, metadata: Settings) -> bool:
    return RESOLUTION in model.whole


def _openai_lacks(config: PretrainedConfig) -> str:
    (rows, columns), (height, width) = config.grid, config.patch_shape
    if height != width:
        return f"patches of {height} x {width} pixels, which are no squares"
    if rows != columns:
        return f"positions of {rows} x {columns} patches, which are no square"
    if config.intermediate_size != WIDENING * config.hidden_size:
        return (
            f"an MLP of {config.intermediate_size} in layers of {config.hidden_size}, which is not {WIDENING} times as "
            f"wide"
        )
    return _lacks(config)


def _lacks(config: PretrainedConfig) -> str:
    return "" if config.num_channels == 3 else f"images of {config.num_channels} channels, which have 3"


def _openai_remarks(config: PretrainedConfig, task: Task) -> list[str]:
    width = config.hidden_size // config.num_attention_heads
    differs = f"OpenAI's code makes heads {HEAD_WIDTH} wide; this model's are {width} wide, so its answers differ there"
    return [*_remarks(config, task), *([differs] if width != HEAD_WIDTH else [])]


def _remarks(config: PretrainedConfig, task: Task) -> list[str]:
    is_projected = task == "image-projection"
    return [] if is_projected else [f"{TOWER}{PROJECTION} is not in the file, since the model has no projection"]


def _open_clip_computes(config: PretrainedConfig) -> Settings:
    return {"layer_norm_eps": 1e-5, "hidden_act": "quick_gelu" if config.hidden_act == "quick_gelu" else "gelu"}


def _open_clip_remarks(config: PretrainedConfig, task: Task) -> list[str]:
    quick = "it has the activation quick_gelu, which OpenCLIP's models have whose names end in -quickgelu"
    return [*_remarks(config, task), *([quick] if config.hidden_act == "quick_gelu" else [])]


CLIP = _clip(
    "clip",
    "CLIP",
    claims=_is_openais,
    conventions={"layer_norm_eps": 1e-5, "hidden_act": "quick_gelu"},
    files={"torch": "clip.pt"},
    spelt=_with_resolution,
    carried={"clip": (*TEXTS, *NUMBERS), "open-clip": TEXTS},
    lacks=_openai_lacks,
    remarks=_openai_remarks,
)
#: Models that LAION and others trained have the exact GELU, unless their names end in "-quickgelu".
OPEN_CLIP = _clip(
    "open-clip",
    "OpenCLIP",
    conventions={"layer_norm_eps": 1e-5, "hidden_act": "gelu"},
    unsure=("hidden_act",),
    files={"safetensors": "open_clip_model.safetensors", "torch": "open_clip_pytorch_model.bin"},
    spelt=lambda tensors, config: _projection_inside(tensors),
    carried={"clip": TEXTS, "open-clip": (*TEXTS, *OTHER_TEXTS)},
    lacks=_lacks,
    computes=_open_clip_computes,
    remarks=_open_clip_remarks,
)
