"""timm's Vision Transformers: fused q/k/v, and a `config.json` of its own on the Hub.

Reference: timm/models/vision_transformer.py and timm/models/_hub.py.
"""

from __future__ import annotations

import json
import math
from typing import Any

from PIL import Image

from conversion.canonical import HEAD
from conversion.formats.format import Format, Settings
from conversion.formats.preprocessing import BICUBIC, Preprocessing
from conversion.formats.rules import Module, rules
from conversion.formats.timm_architectures import width_and_heads
from conversion.formats.transformers import TORCH_LEAVES
from vit_core.checks import shown
from vit_core.config import PretrainedConfig
from vit_core.image_processing import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

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
RULES = rules(TORCH_LEAVES, [CLASS_TOKEN, *ENCODER, Module(f"{HEAD}classifier", "head.{leaf}")])
SIGNATURE = ("cls_token", "pos_embed", "patch_embed.proj.weight")
CONVENTIONS = {"layer_norm_eps": 1e-6, "hidden_act": "gelu"}
REFUSED = {
    "dist_token": "it is a distilled DeiT, with a second token and a second head",
    "head_dist.*": "it is a distilled DeiT, with a second token and a second head",
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
#: How timm names the activations that `act_layer` may ask for.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "selu": "selu",
    "tanh": "tanh",
}
INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
#: timm's defaults for a Vision Transformer, which most of its weights keep.
PREPROCESSING = Preprocessing(resample=BICUBIC, crop_fraction=0.9)
#: What timm takes for granted where a `pretrained_cfg` does not say (timm/models/_pretrained.py).
UNSAID_FRACTION = 0.875
UNSAID = Preprocessing(tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD), BICUBIC, UNSAID_FRACTION)

#: Arguments of timm's VisionTransformer, and the fields of a config that they are.
MODEL_ARGUMENTS = {
    "img_size": "image_size",
    "patch_size": "patch_size",
    "in_chans": "num_channels",
    "embed_dim": "hidden_size",
    "depth": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "qkv_bias": "qkv_bias",
}
EMBEDDED = "trivit_config"  # a key of ours, for the fields that timm has no words for


def is_timm_config(metadata: Settings) -> bool:
    """Whether the content of a `config.json` is timm's."""
    return "pretrained_cfg" in metadata or isinstance(metadata.get("architecture"), str)


def _config_fields(metadata: Settings) -> dict[str, Any] | None:
    if not is_timm_config(metadata):
        return None
    if isinstance(metadata.get(EMBEDDED), dict):
        return dict(metadata[EMBEDDED])
    arguments = metadata.get("model_args")
    arguments = arguments if isinstance(arguments, dict) else {}
    pooling = arguments.get("global_pool", metadata.get("global_pool", "token"))
    if pooling not in ("token", "", None):
        raise ValueError(f"its head reads the tokens by global_pool={shown(pooling)}, not the class token.")
    fields = {ours: arguments[theirs] for theirs, ours in MODEL_ARGUMENTS.items() if theirs in arguments}
    activation = arguments.get("act_layer")
    if activation is not None:
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            raise ValueError(f"config.json asks for act_layer={activation!r}, which Trivit does not have.")
        fields["hidden_act"] = ACTIVATIONS[activation]
    if isinstance(names := metadata.get("label_names"), list):
        described = metadata.get("label_descriptions")
        described = described if isinstance(described, dict) else {}
        names = [name if isinstance(name, str) else str(name) for name in names]
        fields["id2label"] = {number: str(described.get(name, name)) for number, name in enumerate(names)}
    return fields


def _named_fields(metadata: Settings, hidden_size: int) -> dict[str, Any]:
    """The number of heads, if the name of the architecture tells it."""
    architecture, arguments = metadata.get("architecture"), metadata.get("model_args")
    known = width_and_heads(architecture) if isinstance(architecture, str) else None
    if known is None or (known[0] != hidden_size and not (isinstance(arguments, dict) and "embed_dim" in arguments)):
        return {}
    return {"num_attention_heads": known[1]}


def _preprocessing_fields(metadata: Settings, config: PretrainedConfig) -> dict[str, Any] | None:
    """The evaluation transform of timm's `pretrained_cfg`."""
    said = metadata.get("pretrained_cfg", metadata if is_timm_config(metadata) else None)  # older files are flat
    if not isinstance(said, dict):
        return None
    keeps_proportions = said.get("crop_mode") != "squash"
    try:
        share = float(said.get("crop_pct") or UNSAID_FRACTION)
        if not 0.01 <= share <= 1:
            raise ValueError("no share of an image")
        crop_fraction = None if share == 1 and not keeps_proportions else share
        mean = tuple(float(value) for value in said.get("mean") or UNSAID.mean)
        std = tuple(float(value) for value in said.get("std") or UNSAID.std)
        resample = INTERPOLATIONS.get(said.get("interpolation", ""), UNSAID.resample)
    except (TypeError, ValueError):
        raise ValueError(f"config.json has a pretrained_cfg that cannot be read: {shown(said)}.") from None
    return Preprocessing(mean, std, resample, crop_fraction, keeps_proportions).settings(config)


def _config_file(config: PretrainedConfig, preprocessing: Settings) -> str:
    """A `config.json` from which timm builds the model; fields that it has no words for stay in a key of ours."""
    names = {ours: theirs for theirs, ours in MODEL_ARGUMENTS.items()}
    arguments = {theirs: getattr(config, ours) for ours, theirs in names.items()}
    arguments["mlp_ratio"] = _ratio(config.intermediate_size, config.hidden_size)
    activation = next((theirs for theirs, ours in ACTIVATIONS.items() if ours == config.hidden_act), None)
    if activation is not None and activation != "gelu":
        arguments["act_layer"] = activation
    has_head = config.architectures == ["ViTForImageClassification"]
    labels = config.num_labels if has_head else 0
    crops = preprocessing.get("crop_size") is not None
    filters = {filter: name for name, filter in INTERPOLATIONS.items()}
    pretrained = {
        "input_size": [config.num_channels, *config.image_shape],
        "mean": preprocessing["image_mean"],
        "std": preprocessing["image_std"],
        "interpolation": filters.get(preprocessing["resample"], "bicubic"),
        "crop_pct": _crop_fraction(config.image_shape[0], _resized_height(preprocessing)) if crops else 1.0,
        "crop_mode": "center" if "shortest_edge" in preprocessing["size"] else "squash",
        "num_classes": labels,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }
    values: dict[str, Any] = {
        "architecture": "vit_base_patch16_224",  # whose every size is given anew, as model_args
        "num_classes": labels,
        "num_features": config.hidden_size,
        "global_pool": "token",
        "model_args": arguments,
        "pretrained_cfg": pretrained,
        EMBEDDED: dict(sorted(config.to_diff_dict().items())),
    }
    if has_head:
        values["label_names"] = [str(config.id2label[number]) for number in sorted(config.id2label)]
    return json.dumps(values, indent=2) + "\n"


def _ratio(wide: int, narrow: int) -> float:
    """The ratio from which timm, which cuts off what is behind the point, computes the width of an MLP again."""
    ratio = wide / narrow
    return ratio if int(narrow * ratio) == wide else math.nextafter(ratio, math.inf)


def _crop_fraction(cropped: int, resized: int) -> float:
    """The fraction from which timm, which cuts off what is behind the point, computes the resized height again."""
    fraction = cropped / resized
    return fraction if math.floor(cropped / fraction) == resized else math.nextafter(fraction, 0)


def _resized_height(preprocessing: Settings) -> int:
    size = preprocessing["size"]
    return size.get("shortest_edge") or size["height"]


TIMM = Format(
    name="timm",
    title="timm",
    rules=RULES,
    signature=SIGNATURE,
    conventions=CONVENTIONS,
    told=("hidden_act",),
    preprocessing=PREPROCESSING,
    files={"safetensors": "model.safetensors", "torch": "pytorch_model.bin"},
    claims=lambda model, metadata: is_timm_config(metadata) or "head.weight" in model.tensors,
    refused=REFUSED,
    config_fields=_config_fields,
    named_fields=_named_fields,
    preprocessing_fields=_preprocessing_fields,
    config_file=_config_file,
)
