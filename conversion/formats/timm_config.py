"""timm's `config.json` on the Hub: the architecture, its arguments, labels and preprocessing.

Reference: timm/models/_hub.py and timm/models/_pretrained.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from PIL import Image

from conversion.formats.format import Settings
from conversion.formats.preprocessing import BICUBIC, Preprocessing
from conversion.formats.timm_architectures import width_and_heads
from vit_core.checks import shown
from vit_core.config import PretrainedConfig
from vit_core.families import family_of
from vit_core.image_processing import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from vit_core.parameters import BARE

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
#: Likewise of its Beit.
BEIT_ARGUMENTS = {
    **{theirs: ours for theirs, ours in MODEL_ARGUMENTS.items() if ours != "qkv_bias"},
    "use_abs_pos_emb": "use_absolute_position_embeddings",
    "use_rel_pos_bias": "use_relative_position_bias",
    "use_shared_rel_pos_bias": "use_shared_relative_position_bias",
    "init_values": "layer_scale_init_value",
    "drop_path_rate": "drop_path_rate",
}
BEIT_POOLINGS = {"avg": True, "token": False}  # whether the head reads the mean of the patches
#: What a `config.json` is written with: the arguments, an architecture whose every size is given anew by them, and the
#: names of the layers that make logits.
WRITTEN: Mapping[str, tuple[Mapping[str, str], str, str | list[str]]] = {
    "vit": (MODEL_ARGUMENTS, "vit_base_patch16_224", "head"),
    "deit": (MODEL_ARGUMENTS, "deit_base_distilled_patch16_224", ["head", "head_dist"]),
    "beit": (BEIT_ARGUMENTS, "beit_base_patch16_224", "head"),
    "data2vec-vision": (BEIT_ARGUMENTS, "beit_base_patch16_224", "head"),
    "vision_transformer": (MODEL_ARGUMENTS, "vit_base_patch16_224", "head"),
}
EMBEDDED = "trivit_config"  # a key of ours, for the fields that timm has no words for


def is_timm_config(metadata: Settings) -> bool:
    """Whether the content of a `config.json` is timm's."""
    return "pretrained_cfg" in metadata or isinstance(metadata.get("architecture"), str)


def config_fields(metadata: Settings) -> dict[str, Any] | None:
    """What it says of a Vision Transformer, as fields of a config; None if it is not timm's.

    Raises:
        ValueError: it asks for something that Trivit does not have.
    """
    if not is_timm_config(metadata):
        return None
    if isinstance(metadata.get(EMBEDDED), dict):
        return dict(metadata[EMBEDDED])
    arguments = _arguments(metadata)
    pooling = arguments.get("global_pool", metadata.get("global_pool", "token"))
    if pooling not in ("token", "", None):
        raise ValueError(f"its head reads the tokens by global_pool={shown(pooling)}, not the class token.")
    return fields(metadata, MODEL_ARGUMENTS)


def beit_config_fields(metadata: Settings) -> dict[str, Any] | None:
    """Likewise of a BEiT."""
    if not is_timm_config(metadata):
        return None
    if isinstance(metadata.get(EMBEDDED), dict):
        return dict(metadata[EMBEDDED])
    arguments = _arguments(metadata)
    pooling = arguments.get("global_pool", metadata.get("global_pool", "avg"))
    if pooling not in BEIT_POOLINGS or arguments.get("use_fc_norm") not in (None, BEIT_POOLINGS[pooling]):
        raise ValueError(
            f"its head reads the tokens by global_pool={shown(pooling)} and use_fc_norm="
            f"{shown(arguments.get('use_fc_norm'))}, which no published BEiT does."
        )
    # What parts there are, the tensors tell, and an argument that is None does not: timm.create_model drops it.
    found = fields(metadata, BEIT_ARGUMENTS)
    return {name: value for name, value in found.items() if value is not None and not name.startswith("use_")}


def _arguments(metadata: Settings) -> dict[str, Any]:
    arguments = metadata.get("model_args")
    return arguments if isinstance(arguments, dict) else {}


def fields(metadata: Settings, names: Mapping[str, str] = MODEL_ARGUMENTS) -> dict[str, Any]:
    """The fields that arguments of those names are, the activation and the labels."""
    arguments = _arguments(metadata)
    fields = {ours: arguments[theirs] for theirs, ours in names.items() if theirs in arguments}
    activation = arguments.get("act_layer")
    if activation is not None:
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            raise ValueError(f"config.json asks for act_layer={shown(activation)}, which Trivit does not have.")
        fields["hidden_act"] = ACTIVATIONS[activation]
    if isinstance(labels := metadata.get("label_names"), list):
        described = metadata.get("label_descriptions")
        described = described if isinstance(described, dict) else {}
        labels = [label if isinstance(label, str) else str(label) for label in labels]
        fields["id2label"] = {number: str(described.get(label, label)) for number, label in enumerate(labels)}
    return fields


def named_fields(metadata: Settings, hidden_size: int) -> dict[str, Any]:
    """The number of heads, if the name of the architecture tells it."""
    architecture, arguments = metadata.get("architecture"), metadata.get("model_args")
    known = width_and_heads(architecture) if isinstance(architecture, str) else None
    if known is None or (known[0] != hidden_size and not (isinstance(arguments, dict) and "embed_dim" in arguments)):
        return {}
    return {"num_attention_heads": known[1]}


def preprocessing_fields(metadata: Settings, config: PretrainedConfig) -> dict[str, Any] | None:
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


def config_file(config: PretrainedConfig, preprocessing: Settings) -> str:
    """A `config.json` from which timm builds the model; fields that it has no words for stay in a key of ours."""
    family = family_of(config)
    names, architecture, head = WRITTEN[family.model_type]
    arguments = {theirs: getattr(config, ours) for theirs, ours in names.items()}
    arguments["mlp_ratio"] = ratio(config.intermediate_size, config.hidden_size)
    pooling = "token"
    if "init_values" in arguments:
        pooling = "avg" if getattr(config, "use_mean_pooling", False) else "token"
        arguments |= {"init_values": arguments["init_values"] or None, "global_pool": pooling}
    else:
        activation = next((theirs for theirs, ours in ACTIVATIONS.items() if ours == config.hidden_act), None)
        arguments |= {"act_layer": activation} if activation not in (None, "gelu") else {}
    has_head = family.task_of((config.architectures or [""])[0]) not in BARE
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
        "classifier": head,
    }
    values: dict[str, Any] = {
        "architecture": architecture,
        "num_classes": labels,
        "num_features": config.hidden_size,
        "global_pool": pooling,
        "model_args": arguments,
        "pretrained_cfg": pretrained,
        EMBEDDED: dict(sorted(config.to_diff_dict().items())),
    }
    if has_head:
        values["label_names"] = [str(config.id2label[number]) for number in sorted(config.id2label)]
    return json.dumps(values, indent=2) + "\n"


def ratio(wide: int, narrow: int) -> float:
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
