"""The models that are measured, and what each package calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

IMAGE = 224
CLASSES = 1000
EPSILON = 1e-6  # timm's and KerasHub's


@dataclass(frozen=True)
class Model:
    """A model.

    Attributes:
        config: the class of its config, here and in transformers.
        name: the class of the model, here (with a prefix in Keras and Flax) and in transformers.
        fields: of its config.
        timm: its name in timm.
        keras_hub: the class in KerasHub, and arguments besides the sizes.
        timm_weights: the format in which timm gets the weights.
        task: which rows of the table of parameters it has.
    """

    config: str
    name: str
    fields: dict[str, Any]
    timm: str
    keras_hub: tuple[str, dict[str, Any]]
    timm_weights: str = "timm"
    task: str = "image-classification"

    @property
    def is_classifier(self) -> bool:
        """Whether it answers with logits, rather than with hidden states."""
        return self.task == "image-classification"


def sizes(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    """The fields of a config that say how large a model is."""
    return {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}


def vit(letters: str, *size: int) -> Model:
    """A Vision Transformer of 16 x 16 patches with a classifier."""
    width = {"intermediate_size": 4 * size[0], "patch_size": 16, "num_labels": CLASSES, "layer_norm_eps": EPSILON}
    hub = ("ViTBackbone", {"mlp_dim": 4 * size[0], "layer_norm_epsilon": EPSILON})
    return Model("ViTConfig", "ViTForImageClassification", sizes(*size) | width, f"vit_{letters}_patch16_224", hub)


SMALL = sizes(384, 12, 6)
HUB_DINOV2 = {"intermediate_dim": 1536, "position_embedding_shape": (IMAGE, IMAGE, 3), "apply_layernorm": True}

MODELS = {
    "ViT-Ti/16": vit("tiny", 192, 12, 3),
    "ViT-S/16": vit("small", 384, 12, 6),
    "ViT-B/16": vit("base", 768, 12, 12),
    "ViT-L/16": vit("large", 1024, 24, 16),
    "DINOv2-S/14": Model(
        "Dinov2Config",
        "Dinov2Model",
        SMALL | {"patch_size": 14},
        "vit_small_patch14_dinov2",
        ("DINOV2Backbone", HUB_DINOV2),
        "dinov2",
        "model",
    ),
    "DINOv2-S/14 with registers": Model(
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersModel",
        SMALL | {"patch_size": 14, "num_register_tokens": 4},
        "vit_small_patch14_reg4_dinov2",
        ("DINOV2Backbone", HUB_DINOV2 | {"num_register_tokens": 4, "antialias_in_interpolation": True}),
        "dinov2",
        "model",
    ),
    "DINOv3-S/16": Model(
        "DINOv3ViTConfig",
        "DINOv3ViTModel",
        SMALL | {"patch_size": 16, "intermediate_size": 1536, "num_register_tokens": 4},
        "vit_small_patch16_dinov3_qkvb",
        ("DINOV3Backbone", {"intermediate_dim": 1536, "use_key_bias": False, "num_register_tokens": 4}),
        "dinov3",
        "model",
    ),
}
VITS = tuple(name for name in MODELS if name.startswith("ViT"))
RELATIVES = tuple(name for name in MODELS if name not in VITS)


def fields_of(name: str, image: int = IMAGE, layers: int = 0) -> dict[str, Any]:
    """The fields of a model's config for images of some height and width, and with another number of layers."""
    fields = MODELS[name].fields | {"image_size": image}
    return fields | ({"num_hidden_layers": layers} if layers else {})
