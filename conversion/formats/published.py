"""transformers' checkpoints of DINOv2, DINOv3, SigLIP and CLIP, whose published names are not the canonical ones."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from conversion.formats import published_names as names
from conversion.formats.format import ALL_MODELS, Format, Found, Settings, Tensors
from conversion.formats.preprocessing import BICUBIC, IMAGENET_CROP, Preprocessing
from conversion.formats.rules import TORCH_LEAVES, Module, Rules
from vit_core.config import PretrainedConfig
from vit_core.families import CONFIG_CLASSES, FAMILIES
from vit_core.families.vision_tower import TwoTowersConfig
from vit_core.image_processing import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from vit_core.stored_tensor import StoredTensor

#: The defaults of a config; what a model has instead, its `config.json` tells.
CONVENTIONS = {"layer_norm_eps": 1e-12, "hidden_act": "gelu"}
UNSURE = (*CONVENTIONS, "id2label")

#: What stands before the names of base models, by model type.
PREFIXES = {name: family.prefix for name, family in FAMILIES.items()}
IMAGENET = Preprocessing(tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD))
SQUASHED = Preprocessing(resample=BICUBIC)
CLIP_CROP = Preprocessing(tuple(OPENAI_CLIP_MEAN), tuple(OPENAI_CLIP_STD), BICUBIC, 1.0)

#: What a file of both towers has beside the image tower.
OF_TEXTS = ("text_model.*", "text_projection.*", "logit_scale", "logit_bias")
#: What older files have although it follows from sizes.
COMPUTED = ("*.position_ids",)


def config_fields(metadata: Settings) -> dict[str, Any] | None:
    """What a `config.json` of one tower or of both says."""
    known = CONFIG_CLASSES.get(str(metadata.get("model_type")))
    if known is None or not ("hidden_size" in metadata or issubclass(known, TwoTowersConfig)):
        return None
    return known.fields_in(metadata)


def _published(
    name: str,
    title: str,
    modules: list[Module],
    model_types: tuple[str, ...],
    signature: tuple[str, ...],
    preprocessing: Preprocessing,
    told: tuple[tuple[str, Any], ...] = (),
    **more: Any,
) -> Format:
    return Format(
        name=f"transformers-{name}",
        title=f"transformers' {title}",
        rules=Rules(TORCH_LEAVES, modules),
        models={each: ALL_MODELS[each] for each in model_types},
        signature=signature,
        conventions={**CONVENTIONS, **dict(told)},
        keeps_defaults=True,
        told=(*CONVENTIONS, *dict(told)),
        unsure=(*UNSURE, *dict(told)),
        preprocessing=preprocessing,
        files={"safetensors": "model.safetensors", "torch": "pytorch_model.bin"},
        base_prefixes={each: PREFIXES[each] for each in model_types},
        config_fields=config_fields,
        shards=True,
        **more,
    )


#: Ends of names, in files: a token that every model has, and the registers that come after it.
CLASS_TOKEN, REGISTERS = "embeddings.cls_token", "embeddings.register_tokens"


def _without_no_registers(tensors: Tensors) -> Tensors:
    """Without the empty tensor that transformers' classes with registers have where there are none."""
    return {name: each for name, each in tensors.items() if not (name.endswith(REGISTERS) and 0 in each.shape)}


def _with_no_registers(tensors: Tensors, config: PretrainedConfig) -> Tensors:
    """The other way round: such a class misses that tensor in a file without it."""
    if getattr(config, "num_register_tokens", None) != 0:
        return tensors
    empty = {
        name.removesuffix(CLASS_TOKEN) + REGISTERS: replace(
            token, shape=(1, 0, config.hidden_size), read=partial(_none_of, token)
        )
        for name, token in tensors.items()
        if name.endswith(CLASS_TOKEN)
    }
    return {**tensors, **empty}


def _none_of(token: StoredTensor) -> np.ndarray:
    return token.read()[:, :0]


def _has_scales(model: Found, metadata: Settings) -> bool:
    if any(f"encoder.layer.0.{norm}.weight" in model.tensors for norm in ("norm1", "layernorm_before")):
        return "encoder.layer.0.norm1.weight" in model.tensors
    return metadata.get("model_type") in DINOV2.models  # without layers


def _has_no_class_token(model: Found, metadata: Settings) -> bool:
    return "embeddings.class_embedding" not in model.tensors


DINOV2 = _published(
    "dinov2",
    "DINOv2",
    names.DINOV2,
    ("dinov2", "dinov2_with_registers"),
    ("embeddings.patch_embeddings.projection.weight",),
    IMAGENET_CROP,
    claims=_has_scales,
    normalised=_without_no_registers,
    spelt=_with_no_registers,
)
DINOV3 = _published(
    "dinov3",
    "DINOv3",
    names.DINOV3,
    ("dinov3_vit",),
    ("embeddings.patch_embeddings.weight", "embeddings.cls_token", "norm.weight"),
    IMAGENET,
    told=(("rope_theta", 100.0),),
    normalised=_without_no_registers,
    spelt=_with_no_registers,
)
SIGLIP = _published(
    "siglip",
    "SigLIP",
    names.siglip(),
    ("siglip_vision_model",),
    ("embeddings.patch_embedding.weight", "embeddings.position_embedding.weight", "post_layernorm.weight"),
    SQUASHED,
    claims=_has_no_class_token,
    left_out=(*OF_TEXTS, *COMPUTED),
    texts=OF_TEXTS,
    always_prefixed=True,
)
CLIP = _published(
    "clip",
    "CLIP",
    names.clip(),
    ("clip_vision_model",),
    ("embeddings.patch_embedding.weight", "embeddings.class_embedding", "pre_layrnorm.weight"),
    CLIP_CROP,
    left_out=(*OF_TEXTS, *COMPUTED),
    texts=OF_TEXTS,
    always_prefixed=True,
)
PUBLISHED = (DINOV2, DINOV3, SIGLIP, CLIP)
