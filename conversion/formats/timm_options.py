"""What a timm model of any make is made of: from its tensors and the arguments that timm builds it with.

Arguments are those of its `config.json`, and else those of the architecture's entrypoint (`timm_arguments`). The way
back is `timm_building`.
Reference: timm/models/vision_transformer.py, timm/models/eva.py and timm/layers/pos_embed_sincos.py.
"""

from __future__ import annotations

from typing import Any

from conversion.formats import timm_config
from conversion.formats.format import Found, Settings, Tensors
from conversion.formats.timm_arguments import ARGUMENTS
from vit_core.checks import shown
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
        "pos_embed",
    }
)
#: Those that are looked at here.
UNDERSTOOD = frozenset(
    {
        *("is_eva", "eps", "act_layer", "init_values", "no_embed_class", "global_pool", "pool_include_prefix"),
        *("use_rot_pos_emb", "rope_type", "rope_temperature", "rope_grid_indexing", "rope_grid_offset"),
        *("rope_rotate_half", "ref_feat_shape", "mlp_layer", "swiglu_mlp", "attn_pool_num_heads", "embed_norm_layer"),
        *("block_fn", "use_post_norm"),
    }
)
#: Models that were trained for patches of many sizes (Beyer et al. 2022, https://arxiv.org/abs/2212.08013), for which
#: timm resamples as they were trained.
FLEXIBLE = "flexivit"
#: Classes of layers that join their halves in a way that Trivit has.
BLOCKS = {"Block": "pre-norm", "ResPostBlock": "post-norm", "ParallelScalingBlock": "parallel"}
#: What stands for the norm of the layers in the arguments of an entrypoint.
SAME_NORM = "norm_layer"
#: What no argument but these makes a model one that the plain format has, which reads the activation that is given.
PLAIN = {"global_pool": ("token", "", None), "act_layer": (None, *timm_config.ACTIVATIONS), "init_values": (None,)}
USUAL = ("cls_token", "pos_embed", "norm.weight")
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
    if not all(name in model.tensors for name in USUAL) or _is_special(model.tensors):
        return True
    arguments = _arguments(metadata)
    return arguments is not None and not (_is_plain(arguments) and _activation_is_given(metadata, arguments))


def _activation_is_given(metadata: Settings, arguments: Settings) -> bool:
    """Whether `config.json` says the activation itself, where it is not the usual one."""
    given = metadata.get("model_args")
    return arguments.get("act_layer") in (None, "gelu") or (isinstance(given, dict) and "act_layer" in given)


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
    if (norm := arguments.get("embed_norm_layer")) not in (None, SAME_NORM):
        raise ValueError(f"its patches are normed by embed_norm_layer={shown(norm)}, whose epsilon may be another.")
    block = "post-norm" if arguments.get("use_post_norm") else BLOCKS.get(arguments.get("block_fn", "Block"))
    if block is None:
        raise ValueError(f"timm builds it with block_fn={shown(arguments['block_fn'])}, which Trivit does not have.")
    tensors = model.tensors
    fields: dict[str, Any] = {
        "layer_norm_eps": arguments.get("eps", 1e-6),
        "hidden_act": _activation(arguments),
        "prefix_tokens": ("cls_token",) if "cls_token" in tensors else (),
        "register_tokens": tensors["reg_token"].shape[1] if "reg_token" in tensors else 0,
        "patch_bias": "patch_embed.proj.bias" in tensors,
        "patch_norm": "patch_embed.norm.weight" in tensors,
        "absolute_positions": "learned" if "pos_embed" in tensors else None,
        "positioned": "patches" if arguments.get("no_embed_class") else "all",
        "position_resampling": "bilinear" if str(metadata["architecture"]).startswith(FLEXIBLE) else "bicubic",
        "halves": block,
        "embedding_norm": "norm_pre.weight" in tensors,
        "final_norm": "norm.weight" in tensors,
        "norm": "layer" if "blocks.0.norm1.bias" in tensors else "rms",
        **_in_layers(tensors),
        **_rotary(arguments),
        **_head(tensors, arguments, bool(arguments.get("is_eva"))),
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
        raise ValueError(f"config.json asks for act_layer={shown(name)}, which Trivit does not have.")
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
        "gated_mlp": _has_gate(tensors),
        "is_scaled": there("ls1.gamma", "gamma_1"),
    }


def _has_gate(tensors: Tensors) -> bool:
    return "blocks.0.mlp.fc1_packed.weight" in tensors or "blocks.0.mlp.fc1_g.weight" in tensors


def _rotary(arguments: Settings) -> dict[str, Any]:
    if not arguments.get("use_rot_pos_emb"):
        return {}
    kind = arguments.get("rope_type", "cat")
    if kind not in ROTARY:
        raise ValueError(f"its rotary positions are of the type {shown(kind)}, which Trivit does not have.")
    positions, temperature = ROTARY[kind]
    indexing, offset = arguments.get("rope_grid_indexing", "ij"), arguments.get("rope_grid_offset") or 0.0
    is_usual = {
        "rope_grid_indexing": indexing in FIRST,
        "rope_rotate_half": arguments.get("rope_rotate_half", kind == "dinov3") is (kind == "dinov3"),
        "rope_grid_offset": positions != "centres" or not offset,
    }
    if name := next((name for name, is_so in is_usual.items() if not is_so), None):
        raise ValueError(
            f"its rotary positions, of the type {shown(kind)}, have {name}={shown(arguments[name])}, which Trivit does "
            f"not have."
        )
    fields = {
        "rotary_positions": positions,
        "rope_theta": float(arguments.get("rope_temperature", temperature)),
        "rotary_first": FIRST[indexing],
    }
    if positions == "indices":
        grid = arguments.get("ref_feat_shape")
        fields["rotary_grid"] = tuple(grid) if isinstance(grid, list | tuple) else grid
        fields |= {"rotary_offset": float(offset), "rotary_stretch": grid is not None}
    if positions == "mixed":  # of which timm neither counts from elsewhere nor stretches any
        fields["rotary_stretch"] = False
    return fields


#: timm's types of rotary positions, with ours and the base of the frequencies unless it is given.
ROTARY = {"cat": ("indices", 10000.0), "dinov3": ("centres", 100.0), "mixed": ("mixed", 10000.0)}
#: How it indexes the grid, and which coordinate comes first then.
FIRST = {"ij": "rows", "xy": "columns"}


def _head(tensors: Tensors, arguments: Settings, is_eva: bool) -> dict[str, Any]:
    """What its head reads; where there is none, what would."""
    pooling = arguments.get("global_pool", "avg" if is_eva else "token")
    has_norm, has_classes = "fc_norm.weight" in tensors, "cls_token" in tensors
    if arguments.get("pool_include_prefix") and pooling != "map":
        raise ValueError("its head reads the mean of all tokens, the class token and registers among them.")
    if pooling == "map" and "attn_pool.latent" in tensors:
        if has_norm:
            raise ValueError("its head norms what it pooled by attention, which Trivit does not have.")
        if is_eva and _has_gate(tensors):
            raise ValueError("its head pools by attention with GELU and its layers are gated by SiLU; Trivit has one.")
        reads_all = is_eva or arguments.get("pool_include_prefix") or not (has_classes or "reg_token" in tensors)
        fields: dict[str, Any] = {
            "pooler": "attention" if reads_all else "patch-attention",
            "classifier_reads": "pooler",
        }
        if (heads := arguments.get("attn_pool_num_heads")) is not None:
            fields["pooler_attention_heads"] = heads
        own, others = (tensors.get(f"{part}.mlp.fc2.weight") for part in ("attn_pool", "blocks.0"))
        if own is not None and others is not None and own.shape[-1] != others.shape[-1]:
            fields["pooler_intermediate_size"] = own.shape[-1]
        return fields
    if pooling == "avg":
        pooled = {"pooler": "mean-norm", "classifier_reads": "pooler"}
        return pooled if has_norm else {"pooler": None, "classifier_reads": "mean"}
    if pooling == "token" or ("head.weight" not in tensors and pooling in ("", None)):
        if has_norm:
            return {"pooler": "class-norm", "classifier_reads": "pooler"}
        return {"pooler": None, "classifier_reads": "class-token" if has_classes else "mean"}
    raise ValueError(f"its head reads the tokens by global_pool={shown(pooling)}, which Trivit does not have.")
