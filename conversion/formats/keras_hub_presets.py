"""The `config.json` of KerasHub's presets: a class and its arguments, many of which are fields of a config.

What is written has the fields of Trivit's own config beside them, which KerasHub passes over.
Reference: `get_config` of the backbones in keras_hub/src/models, and keras_hub/src/utils/preset_utils.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from conversion.formats.format import Settings
from conversion.formats.published import config_fields as own_fields
from conversion.sources import TASK_KEY
from vit_core.activations import canonical
from vit_core.checks import shown
from vit_core.config import PretrainedConfig
from vit_core.families import family_of

PACKAGE = "keras_hub>"
#: What a serialized object of Keras says.
KEYS = ("module", "class_name", "config", "registered_name")
#: Models of images and texts, whose image tower is described under this key.
OF_BOTH, TOWER = ("SigLIPBackbone", "CLIPBackbone"), "vision_encoder"
#: The activations of Keras that compute the same as ours of that name.
ACTIVATIONS = {name: name for name in ("gelu", "relu", "selu", "silu", "mish", "sigmoid", "tanh", "linear")}
#: Keras resizes with one kernel, widened or not where there are fewer new values than old ones.
RESAMPLINGS = {True: "antialiased", False: "catmull-rom"}
SIGLIP_EPSILON = 1e-6  # of the last norm, whatever that of the others is

SIZES = {
    "patch_size": "patch_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
}
DROPOUTS = {"dropout_rate": "hidden_dropout_prob", "attention_dropout": "attention_probs_dropout_prob"}


def _nothing(settings: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Preset:
    """A class of KerasHub's, and what its arguments are here.

    Attributes:
        class_name: its name.
        module: where it is, in `keras_hub.src.models`.
        arguments: {an argument: the field of a config that it is}.
        positions: the argument for the size of the images that positions are for.
        shapes: which sizes it takes.
        activation: the argument for the activation; "" where there is none.
        activations: Keras' names of those that it takes, and ours.
        more_fields: further fields, from its arguments.
        more_arguments: further arguments, from a config.
    """

    class_name: str
    module: str
    arguments: Mapping[str, str]
    positions: str = "image_shape"
    shapes: Literal["any", "square patches", "squares"] = "squares"
    activation: str = ""
    activations: Mapping[str, str] = field(default_factory=lambda: ACTIVATIONS)
    more_fields: Callable[[Settings], dict[str, Any]] = _nothing
    more_arguments: Callable[[PretrainedConfig], dict[str, Any]] = _nothing


def _of_dinov2(arguments: Settings) -> dict[str, Any]:
    """Its one dropout rate is that of attention, too."""
    fields: dict[str, Any] = {"position_resampling": RESAMPLINGS[bool(arguments.get("antialias_in_interpolation"))]}
    return fields | {ours: arguments["dropout_rate"] for ours in DROPOUTS.values() if "dropout_rate" in arguments}


def _dinov2_arguments(config: PretrainedConfig) -> dict[str, Any]:
    """KerasHub computes the width of a gated MLP as the config does, from that of a plain one."""
    values = vars(config)
    return {
        "intermediate_dim": int(config.hidden_size * values["mlp_ratio"]),
        "num_register_tokens": values.get("num_register_tokens", 0),
        "antialias_in_interpolation": config.architecture.position_resampling == RESAMPLINGS[True],
    }


def _of_siglip(arguments: Settings) -> dict[str, Any]:
    if (epsilon := arguments.get("layer_norm_epsilon", SIGLIP_EPSILON)) != SIGLIP_EPSILON:
        raise ValueError(
            f"its layers norm with epsilon {shown(epsilon)}, but its last norm with {SIGLIP_EPSILON} whatever is said; "
            f"models here have one epsilon."
        )
    return {}


PRESETS: Mapping[str, Preset] = {
    "vit": Preset(
        "ViTBackbone",
        "vit.vit_backbone",
        {**SIZES, **DROPOUTS, "mlp_dim": "intermediate_size", "layer_norm_epsilon": "layer_norm_eps"},
        shapes="any",
    ),
    "deit": Preset(
        "DeiTBackbone",
        "deit.deit_backbone",
        {**SIZES, **DROPOUTS, "intermediate_dim": "intermediate_size", "layer_norm_epsilon": "layer_norm_eps"},
        shapes="any",
    ),
    "dinov2": Preset(
        "DINOV2Backbone",
        "dinov2.dinov2_backbone",
        {
            **SIZES,
            "layer_scale_init_value": "layerscale_value",
            "use_mask_token": "use_mask_token",
            "use_swiglu_ffn": "use_swiglu_ffn",
            "dropout_rate": "hidden_dropout_prob",
            "drop_path_rate": "drop_path_rate",
            "apply_layernorm": "apply_layernorm",
        },
        positions="position_embedding_shape",
        more_fields=_of_dinov2,
        more_arguments=_dinov2_arguments,
    ),
    "dinov3_vit": Preset(
        "DINOV3Backbone",
        "dinov3.dinov3_backbone",
        {
            **SIZES,
            "intermediate_dim": "intermediate_size",
            "layer_scale_init_value": "layerscale_value",
            "num_register_tokens": "num_register_tokens",
            "use_gated_mlp": "use_gated_mlp",
            **{f"use_{name}": name for name in ("query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias")},
            "attention_dropout": "attention_dropout",
            "drop_path_rate": "drop_path_rate",
            "layer_norm_eps": "layer_norm_eps",
            "rope_theta": "rope_theta",
        },
        shapes="square patches",
        activation="hidden_activation",
    ),
    "siglip_vision_model": Preset(
        "SigLIPVisionEncoder",
        "siglip.siglip_vision_encoder",
        {**SIZES, "intermediate_dim": "intermediate_size", "layer_norm_epsilon": "layer_norm_eps"},
        activation="intermediate_activation",
        activations={**ACTIVATIONS, "gelu_approximate": "gelu_pytorch_tanh"},
        more_fields=_of_siglip,
    ),
    "clip_vision_model": Preset(
        "CLIPVisionEncoder",
        "clip.clip_vision_encoder",
        {**SIZES, "intermediate_dim": "intermediate_size"},
        activation="intermediate_activation",
        activations={**ACTIVATIONS, "quick_gelu": "quick_gelu"},
    ),
}
BY_CLASS = {preset.class_name: preset for preset in PRESETS.values()}


def config_fields(metadata: Settings) -> dict[str, Any] | None:
    """What the `config.json` of a preset says, with its `task.json` under a key of ours."""
    if not str(metadata.get("registered_name", "")).startswith(PACKAGE):
        return None
    own = own_fields({name: value for name, value in metadata.items() if name not in (*KEYS, TASK_KEY)})
    if own is not None:
        return own
    described: Any = metadata
    if _class_name(described) in OF_BOTH:
        described = _as_dict(_as_dict(described.get("config")).get(TOWER))
    preset, arguments = BY_CLASS.get(_class_name(described)), _as_dict(described.get("config"))
    if preset is None:
        return None
    pooling = _as_dict(_as_dict(metadata.get(TASK_KEY)).get("config")).get("pooling", "token")
    if pooling != "token":
        raise ValueError(f"its head reads the tokens by pooling={shown(pooling)}, not the class token.")
    fields = {ours: arguments[theirs] for theirs, ours in preset.arguments.items() if theirs in arguments}
    if preset.activation in arguments:
        fields["hidden_act"] = _our_activation(preset, arguments[preset.activation])
    if isinstance(shape := arguments.get(preset.positions), list) and len(shape) in (2, 3):
        fields["image_size"] = shape[1:] if _has_channels_first(shape) else shape[:2]
    for name in ("image_size", "patch_size"):
        if isinstance(pair := fields.get(name), list) and len(pair) == 2 and pair[0] == pair[1]:
            fields[name] = pair[0]
    return fields | preset.more_fields(arguments)


def config_file(config: PretrainedConfig, preprocessing: Settings) -> str:
    """A `config.json` that KerasHub's `from_preset` builds a model from, with the fields of the config."""
    preset = _preset_of(config)
    arguments = {theirs: getattr(config, ours) for theirs, ours in preset.arguments.items()}
    if preset.activation:
        arguments[preset.activation] = _their_activation(preset, config)
    if preset.shapes == "any":
        arguments["patch_size"] = list(config.patch_shape)
    arguments |= {name: [*config.image_shape, config.num_channels] for name in ("image_shape", preset.positions)}
    serialized = {
        "module": f"keras_hub.src.models.{preset.module}",
        "class_name": preset.class_name,
        "config": arguments | preset.more_arguments(config),
        "registered_name": f"{PACKAGE}{preset.class_name}",
    }
    return json.dumps({**json.loads(config.to_json_string()), **serialized}, indent=2, sort_keys=True) + "\n"


def lacks(config: PretrainedConfig) -> str:
    """What of a model KerasHub's class has no place for, whatever its arguments."""
    preset = _preset_of(config)
    patches, images = (" x ".join(map(str, sides)) for sides in (config.patch_shape, config.image_shape))
    if config.pruned_heads:
        return "attention heads of which some are pruned"
    if preset.shapes != "any" and len(set(config.patch_shape)) > 1:
        return f"patches of {patches} pixels, which are no square"
    if preset.shapes == "squares" and len(set(config.image_shape)) > 1:
        return f"images of {images} pixels, which are no square"
    if preset.activation and _their_activation(preset, config) is None:
        return f"the activation {config.hidden_act}"
    return ""


def _has_channels_first(shape: list[Any]) -> bool:
    """Whether the first of three axes is that of channels, the shortest one; nothing else tells."""
    return len(shape) == 3 and all(isinstance(length, int) for length in shape) and shape[0] < shape[2]


def _preset_of(config: PretrainedConfig) -> Preset:
    return PRESETS[family_of(config).model_type.removesuffix("_with_registers")]


def _our_activation(preset: Preset, name: Any) -> str:
    if not isinstance(name, str) or name not in preset.activations:
        raise ValueError(f"its activation is {shown(name)}; it is not supported.")
    return preset.activations[name]


def _their_activation(preset: Preset, config: PretrainedConfig) -> str | None:
    ours = canonical(config.hidden_act) if isinstance(config.hidden_act, str) else ""
    return next((theirs for theirs, name in preset.activations.items() if canonical(name) == ours), None)


def _class_name(described: Mapping[str, Any]) -> str:
    return str(described.get("registered_name", "")).removeprefix(PACKAGE)


def _as_dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
