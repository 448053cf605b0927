"""DINOv3's backbones: registers ("storage tokens"), rotary positions, a bias of keys that is masked.

Reference: facebookresearch/dinov3, dinov3/models/vision_transformer.py, dinov3/layers/attention.py and
rope_position_encoding.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from conversion.formats.dinov2 import MASK_TOKEN, MLP, REST, SCALES
from conversion.formats.format import Format, Found, Settings, Tensors
from conversion.formats.published import IMAGENET
from conversion.formats.published_names import ATTENTION, GATE, IF_GATED
from conversion.formats.rules import TORCH_LEAVES, Module, Rules
from conversion.formats.timm_names import CLASS_TOKEN, QUERY_KEY_VALUE
from vit_core.config import PretrainedConfig
from vit_core.renaming import distinct
from vit_core.rotary import Rotary
from vit_core.stored_tensor import DTYPES, StoredTensor, from_numpy

PERIODS = "rope_embed.periods"
USUAL_THETA = 100.0  # of every published model
#: The published periods were rounded to bfloat16, which has eight bits.
ROUNDING = 2.0**-8
SINGLE = 2.0**-22  # of numbers computed in float32
FUSED_BIAS = re.compile(r"(?P<attention>(.+\.)?blocks\.\d+\.attn\.)qkv\.bias")
SPLIT_BIAS = re.compile(r"(?P<attention>blocks\.\d+\.attn\.)[qkv]_bias")
PARTS = ("q", "k", "v")


def _split_biases(tensors: Tensors) -> Tensors:
    """The biases of queries, keys and values one by one, and none for keys where `bias_mask` makes it zero."""
    if not any(name.endswith(PERIODS) for name in tensors):
        return tensors
    return distinct(entry for name in tensors for entry in _biases(name, tensors))


def _biases(name: str, tensors: Tensors) -> Iterator[tuple[str, str, StoredTensor]]:
    match, tensor = FUSED_BIAS.fullmatch(name), tensors[name]
    if match and len(tensor.shape) == 1 and tensor.shape[0] % 3 == 0:
        mask = _mask(tensors.get(f"{name}_mask"), tensor)
        kept = [part for part, factors in zip(PARTS, np.split(mask, 3), strict=True) if factors.any()]
        yield from ((name, f"{match['attention']}{part}_bias", _masked(tensor, mask, part)) for part in kept)
    elif not name.endswith("attn.qkv.bias_mask"):
        yield name, name, tensor


def _as_the_authors(tensors: Tensors, config: PretrainedConfig) -> Tensors:
    """One bias for queries, keys and values, masked where a model has none of them; and the periods."""
    found: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        if match := SPLIT_BIAS.fullmatch(name):
            biases = {part: tensors.get(f"{match['attention']}{part}_bias") for part in PARTS}
            found |= _fused(f"{match['attention']}qkv.bias", biases)
        else:
            found[name] = tensor
    return {**found, PERIODS: from_numpy(_periods(config.head_dim // 4, config.rope_theta).astype(np.float32))}


def _fused(name: str, biases: Mapping[str, StoredTensor | None]) -> dict[str, StoredTensor]:
    there = [bias for bias in biases.values() if bias is not None]
    (width,), dtype = there[0].shape, there[0].dtype
    if any(bias.dtype != dtype for bias in there):
        raise ValueError("biases of query and value have several dtypes; convert with a dtype for all.")

    def read() -> np.ndarray:
        return np.concatenate(
            [np.zeros(width, DTYPES[dtype]) if bias is None else bias.read() for bias in biases.values()]
        )

    fused = {name: StoredTensor(dtype, (3 * width,), read)}
    if len(there) < len(biases):
        mask = np.repeat([bias is not None for bias in biases.values()], width)
        fused[f"{name}_mask"] = from_numpy(mask.astype(np.float32))
    return fused


def _periods(pairs: int, theta: float) -> np.ndarray:
    """The wavelengths of the rotary positions, which the authors' code keeps and reads, float64."""
    return 2 * np.pi / Rotary("centres", 4 * pairs, theta).frequencies


def _mask(mask: StoredTensor | None, bias: StoredTensor) -> np.ndarray:
    factors = np.ones(bias.shape, np.float32) if mask is None else mask.numpy()
    if factors.shape != bias.shape or not np.isin(factors, (0, 1)).all():
        raise ValueError("it has a bias_mask that is not made of zeros and ones, one for each bias; get it again.")
    return factors


def _masked(bias: StoredTensor, mask: np.ndarray, part: str) -> StoredTensor:
    third, factors = PARTS.index(part), np.split(mask, 3)[PARTS.index(part)]
    width = bias.shape[0] // 3

    def read() -> np.ndarray:
        values = bias.read()[third * width : (third + 1) * width]
        return values if factors.all() else np.where(factors == 0, np.zeros_like(values), values)

    return StoredTensor(bias.dtype, (width,), read)


def _fields(model: Found, metadata: Settings) -> dict[str, Any]:
    """The base of the rotary frequencies and the number of heads, which the periods tell; and the gate's activation."""
    periods = model.tensors[PERIODS].numpy().astype(np.float64).reshape(-1)
    pairs = len(periods)
    fields: dict[str, Any] = {"layer_norm_eps": 1e-5, "rope_theta": _theta(periods)}
    hidden = model.tensors["cls_token"].shape[-1]
    if pairs and hidden % (4 * pairs) == 0:
        fields["num_attention_heads"] = hidden // (4 * pairs)
    if "blocks.0.mlp.w1.weight" in model.tensors:
        fields["hidden_act"] = "silu"
    return fields


def _theta(periods: np.ndarray) -> float:
    pairs = len(periods)
    is_rounded = not (periods.astype(np.float32).view(np.uint32) & 0xFFFF).any()  # to bfloat16
    if np.allclose(periods, _periods(pairs, USUAL_THETA), rtol=ROUNDING if is_rounded else SINGLE, atol=0):
        return USUAL_THETA
    if pairs > 1 and periods[-1] > 1:
        exact = float(periods[-1]) ** (pairs / (pairs - 1))
        shortest = (float(f"{exact:.{digits}g}") for digits in range(1, 18))
        for theta in shortest:
            if np.allclose(periods, _periods(pairs, theta), rtol=SINGLE, atol=0):
                return theta
    raise ValueError(
        f"its rotary positions have the periods {[round(float(each), 4) for each in periods[:6]]}, which are no powers "
        f"of one base; it is not supported."
    )


def _computes(config: PretrainedConfig) -> Settings:
    return {"layer_norm_eps": 1e-5, "hidden_act": "silu" if config.use_gated_mlp else "gelu"}


DINOV3 = Format(
    name="dinov3",
    title="DINOv3",
    rules=Rules(
        TORCH_LEAVES,
        [
            CLASS_TOKEN,
            Module("embeddings.register_tokens", "storage_tokens"),
            MASK_TOKEN,
            *REST,
            Module(f"{ATTENTION}.query.bias", "blocks.*.attn.q_bias"),
            Module(f"{ATTENTION}.key.bias", "blocks.*.attn.k_bias"),
            Module(f"{ATTENTION}.value.bias", "blocks.*.attn.v_bias"),
            *SCALES,
            Module(GATE, "blocks.*.mlp.w1.{leaf}"),
            Module(MLP[0], "blocks.*.mlp.fc1.{leaf}", unless=IF_GATED),
            Module(MLP[0], "blocks.*.mlp.w2.{leaf}"),
            Module(MLP[1], "blocks.*.mlp.fc2.{leaf}", unless=IF_GATED),
            Module(MLP[1], "blocks.*.mlp.w3.{leaf}"),
        ],
        without=tuple(f"{part}.bias" for part in QUERY_KEY_VALUE),
    ),
    models={"dinov3_vit": ("model",)},
    signature=("cls_token", "patch_embed.proj.weight", PERIODS),
    conventions={"layer_norm_eps": 1e-5, "hidden_act": "gelu"},
    preprocessing=IMAGENET,
    files={"torch": "dinov3.pth"},
    left_out=("local_cls_norm.*", PERIODS),  # the first is for the crops of training alone
    refused={"cls_norm.*": "it norms the class token by another norm than the patches"},
    normalised=_split_biases,
    fields_of=_fields,
    spelt=_as_the_authors,
    carried={"dinov3": ("local_cls_norm.*",)},
    computes=_computes,
)
