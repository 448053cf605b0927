"""Small configs of each family that is not ViT, and inputs for each of its models."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from vit_core.families import FAMILIES

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": 5,
    "initializer_range": 0.15,
}
DECODER = {
    "decoder_hidden_size": 24,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 40,
}
#: Variants of each family, of which the first is like what is published.
VARIANTS: dict[str, list[dict]] = {
    "deit": [{"encoder_stride": 8}, {"encoder_stride": 8, "qkv_bias": False, "hidden_act": "relu"}],
    "vit_mae": [{**DECODER, "mask_ratio": 0.6}, {**DECODER, "norm_pix_loss": True, "mask_ratio": 0.3}],
    "beit": [
        {"vocab_size": 30, "use_mask_token": True, "use_relative_position_bias": True},
        {
            "vocab_size": 30,
            "use_mask_token": True,
            "use_shared_relative_position_bias": True,
            "use_absolute_position_embeddings": True,
            "use_mean_pooling": False,
            "layer_scale_init_value": 0,
        },
    ],
    "data2vec-vision": [{"use_relative_position_bias": True}],
    "vit_msn": [{}],
    "ijepa": [{}],
    "dinov2": [{"mlp_ratio": 1.5, "use_swiglu_ffn": True}],
    "dinov2_with_registers": [{"mlp_ratio": 1.5, "num_register_tokens": 3}],
    "dinov3_vit": [{"num_register_tokens": 2, "key_bias": True, "proj_bias": False, "use_gated_mlp": True}],
    "siglip_vision_model": [{}],
    "clip_vision_model": [{"projection_dim": 12}],
    "vision_transformer": [
        {"encoder_stride": 8, "vocab_size": 30},
        {
            "encoder_stride": 8,
            "vocab_size": 30,
            "prefix_tokens": ("cls_token", "distillation_token"),
            "relative_positions": "layers",
            "absolute_positions": "sincos",
            "layer_scale": 0.5,
            "classifier_reads": "mean",
            "key_bias": False,
        },
        {
            "encoder_stride": 8,
            "vocab_size": 30,
            "prefix_tokens": (),
            "relative_positions": "shared",
            "absolute_positions": None,
            "final_norm": False,
            "pooler": "mean-norm",
            "classifier_reads": "pooler",
        },
        {
            "prefix_tokens": ("cls_token", "distillation_token"),
            "register_tokens": 2,
            "embedding_norm": True,
            "query_key_norm": True,
            "gated_mlp": True,
            "norm": "rms",
            "patch_norm": True,
            "rotary_positions": "centres",
            "rotary_first": "columns",
            "pooler": "patch-attention",
            "pooler_attention_heads": 2,
            "pooler_intermediate_size": 24,
            "classifier_reads": "pooler",
        },
        {
            "prefix_tokens": (),
            "relative_positions": "layers",
            "position_resampling": "antialiased",
            "patch_bias": False,
            "query_bias": False,
            "value_bias": False,
            "output_bias": False,
            "mlp_bias": False,
            "attention_norm": True,
            "mlp_norm": True,
            "halves": "post-norm",
            "rotary_positions": "mixed",
            "pooler": "attention",
            "keeps_pooler": True,
            "classifier_reads": "mean",
        },
        {
            "register_tokens": 3,
            "positioned": "patches",
            "position_resampling": "offset",
            "resamples_unasked": True,
            "rotary_positions": "indices",
            "rotary_grid": (3, 5),
            "rotary_first": "columns",
            "rotary_offset": 1.0,
            "rope_theta": 10000.0,
            "halves": "parallel",
            "layer_scale": 0.5,
            "pooler": "class-norm",
            "final_norm": False,
            "classifier_reads": "class-and-mean",
        },
    ],
}
#: Variants with heads of which others say nothing new.
CLASSIFIERS_ALONE = [("vision_transformer", number) for number in (3, 4, 5)]
#: (model type, task, number of the variant)
CASES = [
    (model_type, task, number)
    for model_type, variants in VARIANTS.items()
    for task in FAMILIES[model_type].models
    for number, fields in enumerate(variants)
    if task == "image-classification" or (model_type, number) not in CLASSIFIERS_ALONE
    if task != "backbone"  # of which are tests of its own
    if task != "image-classification-with-teacher"
    or "distillation_token" in FAMILIES[model_type].config_class(**fields).architecture.prefix_tokens
]


def each_model_and_variant() -> list[tuple[str, str, int]]:
    """Of each family every model and every variant: a head is the same code whatever variant it is on."""
    chosen = []
    for model_type, variants in VARIANTS.items():
        of_family = [case for case in CASES if case[0] == model_type]
        tasks = list(dict.fromkeys(task for _, task, _ in of_family))
        in_turn = len(variants) - sum(alone == model_type for alone, _ in CLASSIFIERS_ALONE)
        chosen += [
            case
            for case in of_family
            if tasks.index(case[1]) % in_turn == case[2] or (model_type, case[2]) in CLASSIFIERS_ALONE
        ]
    return chosen


def name_of(case):
    model_type, task, number = case
    return f"{FAMILIES[model_type].models[task]}-{number}"


def config_of(case, **fields):
    model_type, task, number = case
    family = FAMILIES[model_type]
    config_class = family.config_classes.get(task, family.config_class)
    follows = {"intermediate_size"} if hasattr(config_class(), "mlp_ratio") else set()
    sizes = {name: value for name, value in SIZES.items() if name not in follows}
    return config_class(**{**sizes, **VARIANTS[model_type][number], **fields})


@st.composite
def grids(draw):
    """Sizes of images and of patches that are no squares, with an even number of patches."""
    patch = draw(st.tuples(st.integers(2, 6), st.integers(2, 6)))
    rows, columns = draw(st.tuples(st.integers(2, 4), st.integers(2, 4)))
    return {"patch_size": patch, "image_size": (patch[0] * rows, patch[1] * columns)}


def inputs_of(config, task, count=2, size=None, seed=1):
    """Images, and what else a model takes."""
    random = np.random.default_rng(seed)
    shape = size or config.image_shape
    inputs = {"pixel_values": random.standard_normal((count, config.num_channels, *shape)).astype("float32")}
    patches = math.prod(side // patch for side, patch in zip(shape, config.patch_shape, strict=True))
    if hasattr(config, "mask_ratio"):
        inputs["noise"] = random.random((count, patches)).astype("float32")
    if task.startswith("masked"):
        mask = np.zeros((count, patches), bool)
        mask[0, : patches // 2] = mask[1:, patches // 3 :] = True
        inputs["bool_masked_pos"] = mask
    if task == "masked-token-modeling":
        inputs["labels"] = random.integers(0, config.vocab_size, int(mask.sum()))
    if task == "image-classification":
        inputs["labels"] = random.integers(0, config.num_labels, count)
    return inputs
