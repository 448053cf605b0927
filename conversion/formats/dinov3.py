"""DINOv3's backbones: registers ("storage tokens"), rotary positions, a bias of keys that is masked.

Reference: facebookresearch/dinov3, dinov3/models/vision_transformer.py, dinov3/layers/attention.py and
rope_position_encoding.py.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from conversion.formats.dinov2 import MASK_TOKEN, MLP, REST, SCALES
from conversion.formats.format import Format, Found, Settings, Tensors
from conversion.formats.published import IMAGENET
from conversion.formats.published_names import ATTENTION, GATE, IF_GATED
from conversion.formats.rules import TORCH_LEAVES, Module, rules
from conversion.formats.timm_names import CLASS_TOKEN, QUERY_KEY_VALUE
from vit_core.rotary import rotary_frequencies
from vit_core.stored_tensor import StoredTensor

PERIODS = "rope_embed.periods"
USUAL_THETA = 100.0  # of every published model
#: The published periods were rounded to bfloat16, which has eight bits.
ROUNDING = 2.0**-8
FUSED_BIAS = re.compile(r"(?P<attention>(.+\.)?blocks\.\d+\.attn\.)qkv\.bias")
PARTS = ("q", "k", "v")


def _split_biases(tensors: Tensors) -> Tensors:
    """The biases of queries, keys and values one by one, and none for keys where `bias_mask` makes it zero."""
    if not any(name.endswith(PERIODS) for name in tensors):
        return tensors
    found: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        match = FUSED_BIAS.fullmatch(name)
        if match and len(tensor.shape) == 1 and tensor.shape[0] % 3 == 0:
            mask = _mask(tensors.get(f"{name}_mask"), tensor)
            kept = [part for part, factors in zip(PARTS, np.split(mask, 3), strict=True) if factors.any()]
            found |= {f"{match['attention']}{part}_bias": _masked(tensor, mask, part) for part in kept}
        elif not name.endswith("attn.qkv.bias_mask"):
            found[name] = tensor
    return found


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
    candidates = [USUAL_THETA]
    if pairs > 1 and periods[-1] > 1:
        candidates.append(float(periods[-1]) ** (pairs / (pairs - 1)))
    for theta in candidates:
        expected = 2 * np.pi / rotary_frequencies("centres", 4 * pairs, theta)
        if np.allclose(periods, expected, rtol=ROUNDING if theta == USUAL_THETA else 1e-5, atol=0):
            return theta if theta == USUAL_THETA else round(theta, 4)
    raise ValueError(
        f"its rotary positions have the periods {[round(float(each), 4) for each in periods[:6]]}, which are no powers "
        f"of one base; it is not supported."
    )


DINOV3 = Format(
    name="dinov3",
    title="DINOv3",
    rules=tuple(
        rule
        for rule in rules(
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
        )
        if rule.ours != tuple(f"{part}.bias" for part in QUERY_KEY_VALUE)
    ),
    models={"dinov3_vit": ("model",)},
    signature=("cls_token", "patch_embed.proj.weight", PERIODS),
    conventions={"layer_norm_eps": 1e-5, "hidden_act": "gelu"},
    preprocessing=IMAGENET,
    left_out=("local_cls_norm.*", PERIODS),  # the first is for the crops of training alone
    refused={"cls_norm.*": "it norms the class token by another norm than the patches"},
    normalised=_split_biases,
    fields_of=_fields,
)
