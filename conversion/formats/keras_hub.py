"""KerasHub's Vision Transformers, as `save_weights` and `save_to_preset` write them, a format a class of models."""

from __future__ import annotations

from typing import Any

from conversion.formats import keras_hub_names as names
from conversion.formats.format import CLASSIFIERS, QKV_BIAS, Format, Found, Settings
from conversion.formats.keras_hub_presets import RESAMPLINGS, config_fields, config_file, lacks
from conversion.formats.preprocessing import IMAGENET_CROP
from conversion.formats.published import CLIP_CROP, IMAGENET, SQUASHED
from conversion.formats.rules import Module, Rules

#: What files of both towers have beside the image tower; of CLIP, the second is the projection of texts.
SIGLIP_TEXTS = ("layers/sig_lip_text_encoder/*", "layers/sig_lip_head/*")
CLIP_TEXTS = ("layers/clip_text_encoder/*", "layers/dense_1/*", "layers/clip_head/*")
#: What a training state and Keras' layers have that is no weight of a model.
BESIDE = ("optimizer/*", "seed_generator/*", "*/seed_generator/*")


def _keras_hub(name: str, title: str, modules: list[Module], **more: Any) -> Format:
    return Format(
        name=name,
        title=title,
        rules=Rules(names.LEAVES, modules),
        files={"hdf5": "model.weights.h5"},
        config_fields=config_fields,
        config_file=config_file,
        lacks=lacks,
        left_out=(*BESIDE, *more.pop("left_out", ())),
        **more,
    )


def _dinov2_fields(model: Found, metadata: Settings) -> dict[str, Any]:
    """How positions are resampled, as in the presets that KerasHub publishes; a `config.json` of ours says itself."""
    is_antialiased = any(name.endswith("/register_tokens") for name in model.tensors)
    return {} if "model_type" in metadata else {"position_resampling": RESAMPLINGS[is_antialiased]}


def _dinov3_fields(model: Found, metadata: Settings) -> dict[str, Any]:
    """The gate's activation in published models.

    Raises:
        ValueError: there is no mask token, without which nothing else would be another.
    """
    if "layers/dinov3_embedding/mask_token" not in model.tensors:
        raise ValueError(
            "it has no mask token (use_mask_token=False), which every DINOv3 has here; it is not supported"
        )
    return {"hidden_act": "silu"} if any("/mlp/gate_proj/" in name for name in model.tensors) else {}


DEIT = _keras_hub(
    "keras-hub-deit",
    "KerasHub's DeiT",
    names.DEIT_MODULES,
    models={"deit": ("model", "image-classification")},
    signature=(f"{names.DEIT_EMBEDDINGS}/patch_embedding/vars/0", "layers/dei_t_encoder/layer_norm/vars/0"),
    conventions={"layer_norm_eps": 1e-6, "hidden_act": "gelu"},
    told=("layer_norm_eps",),
    preprocessing=IMAGENET_CROP,
    base_prefixes={"deit": names.DEIT_BACKBONE},
    always=QKV_BIAS,
    normalised=names.DEIT_PATHS.normalised,
    spelt=names.DEIT_PATHS.spelt,
)
DINOV2 = _keras_hub(
    "keras-hub-dinov2",
    "KerasHub's DINOv2",
    names.DINOV2_MODULES,
    models={"dinov2": ("model",), "dinov2_with_registers": ("model",)},
    signature=("layers/dinov2_embedding/patch_embeddings/projection/vars/0", "layers/layer_normalization/vars/0"),
    conventions={"layer_norm_eps": 1e-6, "hidden_act": "gelu"},
    resamplings=tuple(RESAMPLINGS.values()),
    preprocessing=IMAGENET_CROP,
    left_out=(f"*layers/dinov2_embedding/{names.INTERPOLATED}",),
    always=QKV_BIAS,
    normalised=names.DINOV2_PATHS.normalised,
    spelt=names.DINOV2_PATHS.spelt,
    fields_of=_dinov2_fields,
)
DINOV3 = _keras_hub(
    "keras-hub-dinov3",
    "KerasHub's DINOv3",
    names.DINOV3_MODULES,
    models={"dinov3_vit": ("model",)},
    signature=("layers/dinov3_embedding/patch_embeddings/projection/vars/0", "layers/layer_normalization/vars/0"),
    conventions={"layer_norm_eps": 1e-5, "hidden_act": "gelu", "rope_theta": 100.0},
    told=("layer_norm_eps", "hidden_act", "rope_theta"),
    preprocessing=IMAGENET,
    normalised=names.DINOV3_PATHS.normalised,
    spelt=names.DINOV3_PATHS.spelt,
    fields_of=_dinov3_fields,
)
SIGLIP = _keras_hub(
    "keras-hub-siglip",
    "KerasHub's SigLIP",
    names.SIGLIP_MODULES,
    models={"siglip_vision_model": ("model",)},
    signature=("layers/sig_lip_vision_embedding/patch_embedding/vars/0", "layers/layer_normalization/vars/0"),
    conventions={"layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh"},
    told=("hidden_act",),
    preprocessing=SQUASHED,
    base_prefixes={"siglip_vision_model": names.SIGLIP_TOWER},
    left_out=(f"*layers/sig_lip_vision_embedding/{names.PLACES}", *SIGLIP_TEXTS),
    texts=SIGLIP_TEXTS,
    needs=(("pooler.probe",),),
    normalised=names.SIGLIP_PATHS.normalised,
    spelt=names.SIGLIP_PATHS.spelt,
)
CLIP = _keras_hub(
    "keras-hub-clip",
    "KerasHub's CLIP",
    names.CLIP_MODULES,
    models={"clip_vision_model": ("model",)},
    signature=("layers/clip_vision_embedding/patch_embedding/vars/0", "layers/layer_normalization_1/vars/0"),
    conventions={"layer_norm_eps": 1e-5, "hidden_act": "quick_gelu"},
    told=("hidden_act",),
    unsure=("hidden_act",),
    preprocessing=CLIP_CROP,
    base_prefixes={"clip_vision_model": names.CLIP_TOWER},
    left_out=(f"*layers/clip_vision_embedding/{names.PLACES}", *CLIP_TEXTS),
    texts=CLIP_TEXTS,
    needs=(("pooler.layernorm.weight",),),
    normalised=names.CLIP_PATHS.normalised,
    spelt=names.CLIP_PATHS.spelt,
)
KERAS_HUB = _keras_hub(
    "keras-hub",
    "KerasHub",
    names.VIT_MODULES,
    models=CLASSIFIERS,
    signature=(
        f"{names.VIT_EMBEDDINGS}/patch_embedding/vars/0",
        f"{names.VIT_EMBEDDINGS}/vars/0",
        "layers/vi_t_encoder/layer_norm/vars/0",
    ),
    conventions={"layer_norm_eps": 1e-6, "hidden_act": "gelu"},
    told=("layer_norm_eps",),
    base_prefixes={"vit": names.VIT_BACKBONE},
    head_reads_pooler=True,
    always=QKV_BIAS,
    normalised=names.vit_normalised,
    spelt=names.vit_spelt,
    others=(DEIT, DINOV2, DINOV3, SIGLIP, CLIP),
)
