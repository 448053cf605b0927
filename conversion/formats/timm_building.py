"""A `config.json` from which timm builds a model of our own config: an architecture, and arguments that say all else.

Reference: timm/models/vision_transformer.py and timm/models/eva.py.
"""

from __future__ import annotations

import json
from typing import Any

from conversion.formats import timm_config
from conversion.formats.format import Settings
from conversion.formats.timm_arguments import ARGUMENTS
from vit_core.config import PretrainedConfig
from vit_core.rotary import rotary_reference

#: Architectures by what no argument of theirs changes: class, epsilon, norm, and what layers are made of.
ARCHITECTURES = {
    ("vit", 1e-6, "layer", "usual"): "vit_base_patch16_224",
    ("vit", 1e-5, "layer", "usual"): "vit_base_patch16_clip_224",
    ("vit", 1e-6, "rms", "usual"): "test_vit4",
    ("vit", 1e-6, "layer", "gated"): "vit_giant_patch14_dinov2",
    ("vit", 1e-5, "rms", "gated, with normed patches"): "aimv2_large_patch14_224",
    ("vit", 1e-6, "layer", "post-norm"): "vit_base_patch16_rpn_224",
    ("vit", 1e-6, "layer", "parallel"): "vit_pwee_patch16_reg1_gap_256",
    ("vit", 1e-6, "rms", "parallel"): "vit_base_patch16_xp_224",
    ("eva", 1e-6, "layer", "usual"): "eva_giant_patch14_224",
    ("eva", 1e-6, "layer", "scaled"): "vit_small_patch16_rope_224",
    ("eva", 1e-5, "layer", "usual"): "vit_pe_spatial_tiny_patch16_512",
    ("eva", 1e-5, "layer", "scaled"): "vit_small_patch16_dinov3",
}
#: What timm calls that which a head with a pooler reads.
POOLINGS = {"mean-norm": "avg", "class-norm": "token", "attention": "map", "patch-attention": "map"}


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
    options, is_of_eva = config.architecture, is_eva(config)
    values = json.loads(timm_config.config_file(config, preprocessing))
    own, own_lacking = (_of_eva if is_of_eva else _of_vit)(config)
    arguments = {**values["model_args"], **_shared_arguments(config), **own}
    pooling = {"mean": "avg", "class-token": "token"}.get(options.classifier_reads)
    if options.classifier_reads == "pooler":
        pooling = POOLINGS.get(str(options.pooler))
    layers = _layers(config, is_of_eva)
    name = ARCHITECTURES.get(("eva" if is_of_eva else "vit", config.layer_norm_eps, options.norm, layers))
    lacking = {
        "what its classifier reads": pooling is None,
        **own_lacking,
        f"layer_norm_eps={config.layer_norm_eps:g} with norm={options.norm!r} and such layers ({layers})": name is None,
        "relative positions": options.relative_positions is not None,
        "positions for the class token and not for registers": options.positioned == "class-token"
        and options.register_tokens > 0,
        "sines and cosines for positions": options.absolute_positions == "sincos",
        f"prefix_tokens={list(options.prefix_tokens)}": options.prefix_tokens not in ((), ("cls_token",)),
        "a patch bias beside a norm of embeddings": options.patch_bias == options.embedding_norm,
        "rotary_stretch=False, this epsilon and no layer_scale": not options.rotary_stretch
        and "ref_feat_shape" in ARGUMENTS.get(str(name), ()),
    }
    if reason := next((what for what, is_so in lacking.items() if is_so), None):
        raise ValueError(f"timm has no Vision Transformer with {reason}; convert to transformers.")
    arguments["global_pool"] = values["global_pool"] = pooling
    if is_of_eva:
        arguments.pop("act_layer", None)
    elif options.layer_scale is None and "init_values" in ARGUMENTS[str(name)]:
        arguments["init_values"] = 0.0  # of None, timm would not know
    values |= {"architecture": name, "model_args": arguments}
    return json.dumps(values, indent=2) + "\n"


def _layers(config: PretrainedConfig, is_of_eva: bool) -> str:
    """What layers are made of, in what no argument changes."""
    options = config.architecture
    if is_of_eva:
        return "scaled" if options.layer_scale is not None else "usual"
    parts = {
        "gated": options.gated_mlp,
        options.halves: options.halves != "pre-norm",
        "with normed patches": options.patch_norm,
    }
    return ", ".join(what for what, is_so in parts.items() if is_so) or "usual"


def _shared_arguments(config: PretrainedConfig) -> dict[str, Any]:
    options = config.architecture
    return {
        "class_token": bool(options.prefix_tokens),
        "no_embed_class": options.positioned == "patches" and options.num_prefix_tokens > 0,
        "init_values": options.layer_scale or (1.0 if options.layer_scale is not None else None),
        "qk_norm": options.query_key_norm,
        "qkv_bias": bool(config.qkv_bias and options.query_bias),
    }


def _of_vit(config: PretrainedConfig) -> tuple[dict[str, Any], dict[str, bool]]:
    """Arguments of timm's VisionTransformer, and what it does not have, with whether that is asked for."""
    options = config.architecture
    has_norm, is_parallel = options.pooler in ("mean-norm", "class-norm"), options.halves == "parallel"
    activation = next((theirs for theirs, ours in timm_config.ACTIVATIONS.items() if ours == config.hidden_act), None)
    has_own_sizes = (config.pooler_heads, config.pooler_mlp_size) != (
        config.num_attention_heads,
        config.intermediate_size,
    )
    lacking = {
        "norms of tokens and of what its head reads": has_norm and options.final_norm,
        f"hidden_act={config.hidden_act!r}": activation is None,
        f"output_bias={options.output_bias} beside mlp_bias={options.mlp_bias}": options.output_bias
        != options.mlp_bias,
        "halves='post-norm' and layer_scale": options.halves == "post-norm" and options.layer_scale is not None,
        "halves='parallel' without layer_scale": is_parallel
        and options.norm == "layer"
        and options.layer_scale is None,
        "halves='parallel' and norms inside them": is_parallel and (options.attention_norm or options.mlp_norm),
        "halves='parallel' without biases": is_parallel and not options.mlp_bias,
        "a pooler with sizes of its own": POOLINGS.get(str(options.pooler)) == "map" and has_own_sizes,
    }
    arguments: dict[str, Any] = {
        "pos_embed": "none" if options.absolute_positions is None else "learn",
        "reg_tokens": options.register_tokens,
        "pre_norm": options.embedding_norm,
        "final_norm": options.final_norm or has_norm,  # which is where the other one is, if there is another
        "fc_norm": has_norm,
        "proj_bias": options.output_bias,
        "scale_attn_norm": options.attention_norm,
        "scale_mlp_norm": options.mlp_norm,
        "act_layer": activation,
        "pool_include_prefix": options.pooler == "attention" and options.num_prefix_tokens > 0,
    }
    if options.gated_mlp and not options.patch_norm:  # then one layer holds gate and value, and timm counts both
        arguments["mlp_ratio"] = timm_config.ratio(2 * config.intermediate_size, config.hidden_size)
    return arguments, lacking


def _of_eva(config: PretrainedConfig) -> tuple[dict[str, Any], dict[str, bool]]:
    """Likewise of its Eva."""
    options = config.architecture
    pools = POOLINGS.get(str(options.pooler)) == "map"
    lacking = {
        f"rotary positions and hidden_act={config.hidden_act!r}": config.hidden_act
        != ("silu" if options.gated_mlp else "gelu"),
        "rotary positions and no biases of projections": not (options.output_bias and options.mlp_bias),
        "rotary positions and normed patches": options.patch_norm,
        "rotary positions and halves='parallel'": options.halves == "parallel",
        "rotary positions, halves='post-norm', and layer_scale or normed queries": options.halves == "post-norm"
        and (options.layer_scale is not None or options.query_key_norm),
        "rotary positions and a pooler that attends to patches alone": options.pooler == "patch-attention"
        and options.num_prefix_tokens > 0,
        "trained rotary frequencies for a grid that is stretched or counts from elsewhere": options.rotary_positions
        == "mixed"
        and (options.rotary_stretch or options.rotary_offset != 0),
        "gated MLPs with rotary positions and a pooler that attends": options.gated_mlp and pools,
    }
    arguments: dict[str, Any] = {
        "use_rot_pos_emb": options.rotary_positions is not None,
        "use_abs_pos_emb": options.absolute_positions is not None,
        "num_reg_tokens": options.register_tokens,
        "use_post_norm": options.halves == "post-norm",
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
    if options.rotary_positions is not None:
        arguments |= _rotary(config)
    if pools:
        ratio = timm_config.ratio(config.pooler_mlp_size, config.hidden_size)
        arguments |= {"attn_pool_num_heads": config.pooler_heads, "attn_pool_mlp_ratio": ratio}
    return arguments, lacking


def _rotary(config: PretrainedConfig) -> dict[str, Any]:
    """Arguments that say which rotary positions there are."""
    options = config.architecture
    is_of_dinov3 = options.rotary_positions == "centres"
    is_stretched = options.rotary_stretch and not is_of_dinov3
    return {
        "rope_type": {"centres": "dinov3", "indices": "cat", "mixed": "mixed"}[str(options.rotary_positions)],
        "rope_temperature": vars(config)["rope_theta"],
        "rope_rotate_half": is_of_dinov3,
        "rope_grid_indexing": "ij" if options.rotary_first == "rows" else "xy",
        "rope_grid_offset": 0.0 if is_of_dinov3 else options.rotary_offset,
        "ref_feat_shape": list(rotary_reference(config)) if is_stretched else None,
    }
