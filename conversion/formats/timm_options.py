"""What a timm model of any make is made of: from its tensors and the arguments that timm builds it with, and back.

Arguments are those of its `config.json`, and else those of the architecture's entrypoint (`timm_arguments`).
Reference: timm/models/vision_transformer.py, timm/models/eva.py and timm/layers/pos_embed_sincos.py.
"""

from __future__ import annotations

import json
from typing import Any

from conversion.formats import timm_config
from conversion.formats.format import Found, Settings, Tensors
from conversion.formats.timm_arguments import ARGUMENTS
from vit_core.checks import shown
from vit_core.config import PretrainedConfig
from vit_core.families import vision_transformer

MODEL_TYPE = vision_transformer.FAMILY.model_type
#: Arguments that change no answers, and those that the tensors tell.
HARMLESS = frozenset(
    {
        *timm_config.MODEL_ARGUMENTS,
        *("num_classes", "mlp_ratio", "dynamic_img_size", "dynamic_img_pad", "weight_init", "fix_init"),
        *("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"),
        *("head_init_scale", "class_token", "reg_tokens", "num_reg_tokens", "pre_norm", "final_norm", "fc_norm"),
        *("qk_norm", "scale_attn_norm", "scale_mlp_norm", "proj_bias", "scale_mlp", "scale_attn_inner", "qkv_fused"),
        *("use_abs_pos_emb", "use_pre_transformer_norm", "use_post_transformer_norm", "use_fc_norm", "attn_type"),
        *("rope_shift_coords", "rope_jitter_coords", "rope_rescale_coords", "swiglu_align_to", "attn_pool_mlp_ratio"),
    }
)
#: Those that are looked at here.
UNDERSTOOD = frozenset(
    {
        *("is_eva", "eps", "act_layer", "init_values", "no_embed_class", "global_pool", "pool_include_prefix"),
        *("use_rot_pos_emb", "rope_type", "rope_temperature", "rope_grid_indexing", "rope_grid_offset"),
        *("rope_rotate_half", "ref_feat_shape", "mlp_layer", "swiglu_mlp", "attn_pool_num_heads"),
    }
)
#: Models that were trained for patches of many sizes (Beyer et al. 2022, https://arxiv.org/abs/2212.08013), for which
#: timm resamples as they were trained.
FLEXIBLE = "flexivit"
#: What no argument but these makes a model one that the plain format has.
PLAIN = {"global_pool": ("token", "", None), "act_layer": (None, "gelu"), "init_values": (None,)}
SPECIAL = ("fc_norm", "ls1", "gamma_1", "q_norm", "reg_token", "norm_pre", "attn_pool", "fc1_g", "q_bias", "q_proj")


def _arguments(metadata: Settings) -> dict[str, Any] | None:
    """The arguments that timm builds a model with; None for an architecture that is not known."""
    name = str(metadata.get("architecture")).partition(".")[0]
    given = metadata.get("model_args")
    if name not in ARGUMENTS:
        return None
    said = {"global_pool": metadata["global_pool"]} if metadata.get("global_pool") is not None else {}
    return {**ARGUMENTS[name], **said, **(given if isinstance(given, dict) else {})}


def is_of_any_make(model: Found, metadata: Settings) -> bool:
    """Whether a model of timm is none that its other formats have."""
    if not timm_config.is_timm_config(metadata):
        return False
    if isinstance(embedded := metadata.get(timm_config.EMBEDDED), dict):
        return embedded.get("model_type") == MODEL_TYPE
    if "dist_token" in model.tensors or str(metadata.get("architecture")).startswith("beit"):
        return "blocks.0.attn.relative_position_bias_table" not in model.tensors and _is_beit3(metadata)
    if "cls_token" not in model.tensors or "pos_embed" not in model.tensors or _is_special(model.tensors):
        return True
    arguments = _arguments(metadata)
    return arguments is not None and not _is_plain(arguments)


def _is_beit3(metadata: Settings) -> bool:
    return str(metadata.get("architecture")).startswith("beit3")


def _is_special(tensors: Tensors) -> bool:
    parts = {
        part
        for name in tensors
        if not name.startswith("blocks.") or name.startswith("blocks.0.")
        for part in name.split(".")
    }
    return bool(parts & set(SPECIAL))


def _is_plain(arguments: Settings) -> bool:
    return all(value in PLAIN.get(name, ()) for name, value in arguments.items() if name in UNDERSTOOD)


def config_fields(metadata: Settings) -> dict[str, Any] | None:
    """What a `config.json` of timm says of such a model, as fields of a config; None if it is not timm's."""
    if not timm_config.is_timm_config(metadata):
        return None
    if isinstance(embedded := metadata.get(timm_config.EMBEDDED), dict):
        return dict(embedded)
    return {name: value for name, value in timm_config.fields(metadata).items() if name != "qkv_bias"}


def fields_of(model: Found, metadata: Settings) -> dict[str, Any]:
    """The options of such a model.

    Raises:
        ValueError: nothing tells what its tensors do not, or it is made of something that Trivit does not have.
    """
    if isinstance(metadata.get(timm_config.EMBEDDED), dict):
        return {}
    arguments = _arguments(metadata)
    if arguments is None:
        raise ValueError(
            f"its architecture, {shown(metadata.get('architecture'))}, is none that is known here, and its tensors do "
            f"not tell its activation, its epsilon and what its head reads."
        )
    width = model.tensors["patch_embed.proj.weight"].shape[0]
    if not timm_config.named_fields(metadata, width) and "embed_dim" not in arguments:
        raise ValueError(f"config.json is of {shown(metadata['architecture'])}, which is not {width} wide.")
    for name, value in arguments.items():
        if name not in HARMLESS | UNDERSTOOD and value not in (None, False):
            raise ValueError(f"timm builds it with {name}={shown(value)}, which Trivit does not have.")
    tensors = model.tensors
    fields: dict[str, Any] = {
        "layer_norm_eps": arguments.get("eps", 1e-6),
        "hidden_act": _activation(arguments),
        "prefix_tokens": ("cls_token",) if "cls_token" in tensors else (),
        "register_tokens": tensors["reg_token"].shape[1] if "reg_token" in tensors else 0,
        "patch_bias": "patch_embed.proj.bias" in tensors,
        "absolute_positions": "learned" if "pos_embed" in tensors else None,
        "positioned": "patches" if arguments.get("no_embed_class") else "all",
        "position_resampling": "bilinear" if str(metadata["architecture"]).startswith(FLEXIBLE) else "bicubic",
        "embedding_norm": "norm_pre.weight" in tensors,
        "final_norm": "norm.weight" in tensors,
        "norm": "layer" if "blocks.0.norm1.bias" in tensors else "rms",
        **_in_layers(tensors),
        **_rotary(arguments),
        **_head(tensors, arguments),
    }
    if fields["query_bias"] or fields["key_bias"] or fields["value_bias"]:
        fields["qkv_bias"] = True
    if fields.pop("is_scaled"):
        fields["layer_scale"] = float(arguments.get("init_values") or 1.0)
    return fields


def _activation(arguments: Settings) -> str:
    if arguments.get("mlp_layer") == "gated" or arguments.get("swiglu_mlp"):
        return "silu"
    name = str(arguments.get("act_layer") or "gelu")
    if name not in timm_config.ACTIVATIONS:
        raise ValueError(f"config.json asks for act_layer={name!r}, which Trivit does not have.")
    return timm_config.ACTIVATIONS[name]


def _in_layers(tensors: Tensors) -> dict[str, Any]:
    def there(*names: str) -> bool:
        return any(f"blocks.0.{name}" in tensors for name in names)

    return {
        "query_bias": there("attn.qkv.bias", "attn.q_bias", "attn.q_proj.bias"),
        "key_bias": there("attn.qkv.bias", "attn.k_proj.bias"),
        "value_bias": there("attn.qkv.bias", "attn.v_bias", "attn.v_proj.bias"),
        "output_bias": there("attn.proj.bias"),
        "mlp_bias": there("mlp.fc2.bias"),
        "query_key_norm": there("attn.q_norm.weight"),
        "attention_norm": there("attn.norm.weight"),
        "mlp_norm": there("mlp.norm.weight"),
        "gated_mlp": there("mlp.fc1_packed.weight", "mlp.fc1_g.weight"),
        "is_scaled": there("ls1.gamma", "gamma_1"),
    }


def _rotary(arguments: Settings) -> dict[str, Any]:
    if not arguments.get("use_rot_pos_emb"):
        return {}
    kind = arguments.get("rope_type", "cat")
    usual = {"rope_grid_indexing": "ij", "rope_grid_offset": 0.0}
    for name, value in usual.items():
        if arguments.get(name, value) != value:
            raise ValueError(f"its rotary positions have {name}={shown(arguments[name])}, which Trivit does not have.")
    if kind == "dinov3":
        return {"rotary_positions": "centres", "rope_theta": float(arguments.get("rope_temperature", 100.0))}
    if kind != "cat":
        raise ValueError(f"its rotary positions are of the type {shown(kind)}, which Trivit does not have.")
    grid = arguments.get("ref_feat_shape")
    return {
        "rotary_positions": "indices",
        "rope_theta": float(arguments.get("rope_temperature", 10000.0)),
        "rotary_grid": tuple(grid) if isinstance(grid, list | tuple) else grid,
    }


def _head(tensors: Tensors, arguments: Settings) -> dict[str, Any]:
    """What its head reads; where there is none, what would."""
    pooling = arguments.get("global_pool", "avg" if arguments.get("is_eva") else "token")
    has_norm, has_classes = "fc_norm.weight" in tensors, "cls_token" in tensors
    if arguments.get("pool_include_prefix") and pooling != "map":
        raise ValueError("its head reads the mean of all tokens, the class token and registers among them.")
    if pooling == "map" and "attn_pool.latent" in tensors:
        prefix = has_classes or "reg_token" in tensors
        if (prefix and not arguments.get("pool_include_prefix") and not arguments.get("is_eva")) or has_norm:
            raise ValueError("its head pools the patches alone by attention, or norms what it pooled.")
        if arguments.get("attn_pool_num_heads"):
            raise ValueError("its head pools by attention with a number of heads of its own.")
        return {"pooler": "attention", "classifier_reads": "pooler"}
    if pooling == "avg":
        pooled = {"pooler": "mean-norm", "classifier_reads": "pooler"}
        return pooled if has_norm else {"pooler": None, "classifier_reads": "mean"}
    if pooling == "token" or ("head.weight" not in tensors and pooling in ("", None)):
        if has_norm:
            return {"pooler": "class-norm", "classifier_reads": "pooler"}
        return {"pooler": None, "classifier_reads": "class-token" if has_classes else "mean"}
    raise ValueError(f"its head reads the tokens by global_pool={shown(pooling)}, which Trivit does not have.")


def is_eva(config: PretrainedConfig) -> bool:
    """Whether timm's Eva is the class of such a model, rather than its VisionTransformer."""
    options = config.architecture
    has_biases = (options.query_bias, options.key_bias, options.value_bias)
    some = config.qkv_bias and len(set(has_biases)) > 1
    return options.rotary_positions is not None or some or (options.gated_mlp and options.mlp_norm)


def config_file(config: PretrainedConfig, preprocessing: Settings) -> str:
    """A `config.json` from which timm builds the model.

    Raises:
        ValueError: timm has no such model.
    """
    options = config.architecture
    values = json.loads(timm_config.config_file(config, preprocessing))
    is_of_eva = is_eva(config)
    arguments = {**values["model_args"], **_shared_arguments(config), **(_of_eva if is_of_eva else _of_vit)(config)}
    pooling = {"mean": "avg", "class-token": "token"}.get(options.classifier_reads)
    if options.classifier_reads == "pooler":
        pooling = {"mean-norm": "avg", "class-norm": "token", "attention": "map"}.get(str(options.pooler))
    name = ARCHITECTURES_BY_EPSILON.get((is_of_eva, config.layer_norm_eps, options.norm))
    lacking = {
        "what its classifier reads": pooling is None,
        f"layer_norm_eps={config.layer_norm_eps:g} with norm={options.norm!r}": name is None,
        "relative positions": options.relative_positions is not None,
        "positions for the class token and not for registers": options.positioned == "class-token"
        and options.register_tokens > 0,
        "sines and cosines for positions": options.absolute_positions == "sincos",
        f"prefix_tokens={list(options.prefix_tokens)}": options.prefix_tokens not in ((), ("cls_token",)),
        "a patch bias beside a norm of embeddings": options.patch_bias == options.embedding_norm,
    }
    if reason := next((what for what, is_so in lacking.items() if is_so), None):
        raise ValueError(f"timm has no Vision Transformer with {reason}; convert to transformers.")
    arguments["global_pool"] = values["global_pool"] = pooling
    if is_of_eva:
        arguments.pop("act_layer", None)
    values |= {"architecture": name, "model_args": arguments}
    return json.dumps(values, indent=2) + "\n"


#: Architectures whose epsilon and norm no argument changes, of which the arguments change everything else.
ARCHITECTURES_BY_EPSILON = {
    (False, 1e-6, "layer"): "vit_base_patch16_224",
    (False, 1e-5, "layer"): "vit_base_patch16_clip_224",
    (False, 1e-6, "rms"): "test_vit4",
    (True, 1e-6, "layer"): "eva02_tiny_patch14_224",
    (True, 1e-5, "layer"): "vit_small_patch16_dinov3",
}


def _shared_arguments(config: PretrainedConfig) -> dict[str, Any]:
    options = config.architecture
    return {
        "class_token": bool(options.prefix_tokens),
        "no_embed_class": options.positioned == "patches" and options.num_prefix_tokens > 0,
        "init_values": options.layer_scale or (1.0 if options.layer_scale is not None else None),
        "qk_norm": options.query_key_norm,
        "qkv_bias": bool(config.qkv_bias and options.query_bias),
    }


def _of_vit(config: PretrainedConfig) -> dict[str, Any]:
    options = config.architecture
    has_norm = options.pooler in ("mean-norm", "class-norm")
    if options.gated_mlp or (has_norm and options.final_norm):
        what = "such gated MLPs" if options.gated_mlp else "norms of tokens and of what its head reads"
        raise ValueError(f"timm has no Vision Transformer with {what}; convert to transformers.")
    activation = next((theirs for theirs, ours in timm_config.ACTIVATIONS.items() if ours == config.hidden_act), None)
    if activation is None:
        raise ValueError(f"timm has no activation {config.hidden_act!r}; convert to transformers.")
    return {
        "reg_tokens": options.register_tokens,
        "pre_norm": options.embedding_norm,
        "final_norm": options.final_norm or has_norm,  # which is where the other one is, if there is another
        "fc_norm": has_norm,
        "proj_bias": options.output_bias,
        "scale_attn_norm": options.attention_norm,
        "scale_mlp_norm": options.mlp_norm,
        "act_layer": activation,
    }


def _of_eva(config: PretrainedConfig) -> dict[str, Any]:
    options = config.architecture
    if config.hidden_act != ("silu" if options.gated_mlp else "gelu"):
        raise ValueError(f"timm has no Eva with hidden_act={config.hidden_act!r}; convert to transformers.")
    rotary: dict[str, Any] = {"use_rot_pos_emb": options.rotary_positions is not None}
    if options.rotary_positions is not None:
        is_of_dinov3 = options.rotary_positions == "centres"
        grid = getattr(config, "rotary_grid", None)
        rotary |= {
            "rope_type": "dinov3" if is_of_dinov3 else "cat",
            "rope_temperature": config.rope_theta,
            "rope_rotate_half": is_of_dinov3,
            "ref_feat_shape": None if is_of_dinov3 else grid,
        }
    return {
        **rotary,
        "use_abs_pos_emb": options.absolute_positions is not None,
        "num_reg_tokens": options.register_tokens,
        "use_pre_transformer_norm": options.embedding_norm,
        "use_post_transformer_norm": options.final_norm,
        "use_fc_norm": options.pooler in ("mean-norm", "class-norm"),
        "attn_type": "rope" if config.qkv_bias and options.key_bias else "eva",
        "swiglu_mlp": options.gated_mlp,
        "swiglu_align_to": 0,
        "scale_mlp": options.mlp_norm,
        "scale_attn_inner": options.attention_norm,
        "qkv_fused": True,
    }
