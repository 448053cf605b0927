"""timm's Vision Transformers of any make: EVA-02, DeiT III, DINOv2, DINOv3, CLIP, SigLIP, AIMv2 and many others.

What they are made of, their tensors tell, and for the rest the name of the architecture in their `config.json`; where
that is not known, or says something that Trivit does not have, they are refused.
Reference: timm/models/vision_transformer.py and timm/models/eva.py.
"""

from __future__ import annotations

from conversion.formats import timm_building, timm_config, timm_options, timm_tensors
from conversion.formats.format import Format
from conversion.formats.published_names import ATTENTION, GATE, IF_GATED, LAYER, POOLER
from conversion.formats.rules import TORCH_LEAVES, Module, Rules
from conversion.formats.timm_names import CLASS_TOKEN, ENCODER, HEAD_LAYER, QUERY_KEY_VALUE

MLP = (f"{LAYER}.intermediate.dense", f"{LAYER}.output.dense")
MLP_NORM = f"{LAYER}.output.layernorm"
PATCH_NORM = "embeddings.patch_embeddings.layernorm"
#: Norms that come with the layers of EVA-02 and of AIMv2, where gate and value are two.
IF_TWO = (f"{MLP_NORM}.weight", f"{PATCH_NORM}.weight")
REST = [module for module in ENCODER if module.ours not in (*MLP, "layernorm")]


TIMM_ANY = Format(
    name="timm-any",
    title="timm, of any make",
    rules=Rules(
        TORCH_LEAVES,
        [
            CLASS_TOKEN,
            Module("embeddings.register_tokens", "reg_token"),
            *REST,
            Module(f"{ATTENTION}.query.bias", "blocks.*.attn.q_bias"),
            Module(f"{ATTENTION}.value.bias", "blocks.*.attn.v_bias"),
            *(
                Module(layer, f"blocks.*.attn.{part}_proj.{{leaf}}")
                for layer, part in zip(QUERY_KEY_VALUE, "qkv", strict=True)
            ),
            Module(PATCH_NORM, "patch_embed.norm.{leaf}"),
            Module("embeddings.layernorm", "norm_pre.{leaf}"),
            Module(f"{ATTENTION}.query_norm", "blocks.*.attn.q_norm.{leaf}"),
            Module(f"{ATTENTION}.key_norm", "blocks.*.attn.k_norm.{leaf}"),
            Module(f"{ATTENTION}.rope.frequencies", "blocks.*.attn.rope_freqs"),
            Module(f"{LAYER}.attention.output.layernorm", "blocks.*.attn.norm.{leaf}"),
            Module(f"{LAYER}.lambda_1", "blocks.*.ls1.gamma"),
            Module(f"{LAYER}.lambda_1", "blocks.*.gamma_1"),
            Module(f"{LAYER}.lambda_2", "blocks.*.ls2.gamma"),
            Module(f"{LAYER}.lambda_2", "blocks.*.gamma_2"),
            Module((GATE, MLP[0]), f"blocks.*.mlp.{timm_tensors.PACKED}.{{leaf}}", unless=IF_TWO),
            Module(GATE, "blocks.*.mlp.fc1_g.{leaf}"),
            Module(MLP[0], "blocks.*.mlp.fc1.{leaf}", unless=IF_GATED),
            Module(MLP[0], "blocks.*.mlp.fc1_x.{leaf}"),
            Module(MLP_NORM, "blocks.*.mlp.norm.{leaf}"),
            Module(MLP[1], "blocks.*.mlp.fc2.{leaf}"),
            Module("layernorm", "norm.{leaf}"),
            Module("pooler.probe", "attn_pool.latent"),
            Module(f"{POOLER}.query", "attn_pool.q.{leaf}"),
            Module((f"{POOLER}.key", f"{POOLER}.value"), "attn_pool.kv.{leaf}"),
            Module("pooler.attention.output.dense", "attn_pool.proj.{leaf}"),
            Module("pooler.layernorm", "fc_norm.{leaf}", unless=("pooler.probe",)),
            Module("pooler.layernorm", "attn_pool.norm.{leaf}"),
            Module("pooler.intermediate.dense", "attn_pool.mlp.fc1.{leaf}"),
            Module("pooler.output.dense", "attn_pool.mlp.fc2.{leaf}"),
            HEAD_LAYER,
        ],
    ),
    models={"vision_transformer": ("model", "image-classification")},
    signature=("patch_embed.proj.weight",),  # so that layers of any kind are refused with a reason
    conventions={"layer_norm_eps": 1e-6, "hidden_act": "gelu"},
    told=("layer_norm_eps", "hidden_act"),
    preprocessing=timm_config.PREPROCESSING,
    files={"safetensors": "model.safetensors", "torch": "pytorch_model.bin"},
    claims=timm_options.is_of_any_make,
    refused={
        "*.attns.*": "its layers have several attentions side by side",
        "*.lambda_q1": "its attention is the difference of two",
        "*.lambda_a": "its attention is the difference of two",
    },
    normalised=timm_tensors.normalised,
    spelt=lambda tensors, config: timm_tensors.spelt(tensors, config, timm_building.is_eva(config)),
    config_fields=timm_options.config_fields,
    named_fields=timm_config.named_fields,
    fields_of=timm_options.fields_of,
    preprocessing_fields=timm_config.preprocessing_fields,
    config_file=timm_building.config_file,
)
