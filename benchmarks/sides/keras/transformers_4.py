"""The TensorFlow models of transformers 4.47.1, the last series that had them."""

from __future__ import annotations

import tensorflow as tf
import tf_keras
import transformers

from benchmarks import weights
from benchmarks.models import IMAGE, MODELS
from benchmarks.sides.keras import passes
from benchmarks.worker import Prepared


def prepare(kind: str, model: str, batch: int, dtype: str, image: int = IMAGE) -> Prepared:
    """Forward passes or training steps; in bfloat16 under Keras' mixed policy, the only way that these models have."""
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16" if dtype == "bfloat16" else "float32")
    model_class = getattr(transformers, f"TF{MODELS[model].name}")
    loaded = model_class.from_pretrained(weights.folder(model, image), from_pt=False)
    if kind == "training step":
        return passes.step(tf_keras, loaded, batch, image)
    return passes.forward(lambda images: tf.cast(loaded(images, training=False)[0], tf.float32), batch, image)
