"""The models of KerasHub."""

from __future__ import annotations

from typing import Any

import keras
import keras_hub

from benchmarks import weights
from benchmarks.models import CLASSES, IMAGE, MODELS
from benchmarks.sides.keras import passes
from benchmarks.worker import Prepared

#: What KerasHub calls the sizes of a model.
SIZES = {"hidden_size": "hidden_dim", "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"}


def load(model: str, image: int, dtype: str) -> Any:
    """A model with the common weights."""
    said = MODELS[model]
    name, more = said.keras_hub
    arguments = {theirs: said.fields[ours] for ours, theirs in SIZES.items()}
    policy = "bfloat16" if dtype == "bfloat16" else "float32"
    backbone = getattr(keras_hub.models, name)(
        **arguments, **more, patch_size=said.fields["patch_size"], image_shape=(image, image, 3), dtype=policy
    )
    loaded = backbone
    if said.is_classifier:
        loaded = keras_hub.models.ViTImageClassifier(backbone, CLASSES, pooling="token", dtype=policy)
    loaded.load_weights(next(weights.folder(model, image, to="keras-hub").glob("*.weights.h5")))
    if dtype == "int8":
        loaded.quantize("int8")
    return loaded


def prepare(kind: str, model: str, batch: int, dtype: str, image: int = IMAGE) -> Prepared:
    """Forward passes or training steps."""
    loaded = load(model, image, dtype)
    if kind == "training step":
        return passes.step(keras, loaded, batch, image, channels_last=True)
    is_named = isinstance(loaded.input, dict)

    def call(images: Any) -> Any:
        outputs = loaded(dict.fromkeys(loaded.input, images) if is_named else images, training=False)
        return keras.ops.cast(outputs, "float32")

    return passes.forward(call, batch, image, channels_last=True)
