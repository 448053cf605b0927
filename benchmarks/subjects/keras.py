"""Keras on TensorFlow: forward passes in a `tf.function` without XLA, and training steps in `fit`; int8 made ready."""

from benchmarks.models import VITS
from benchmarks.rows import Side, Subject
from benchmarks.subjects.forwards import forward, grid, large_images, relatives, training_step

SIDES = {
    "trivit": Side("keras.trivit"),
    "KerasHub": Side("keras.keras_hub", "keras-hub"),
    "transformers 4": Side("keras.transformers_4", "transformers-4"),
    "int8": Side("keras.optimized", options={"way": "int8"}),
    "trivit, onnxruntime": Side("keras.optimized", options={"way": "float32"}),
    "trivit, float32": Side("keras.optimized", options={"way": "as loaded"}),
    "matrix products": Side("keras.products", within="trivit"),
}
ALL = ("trivit", "KerasHub", "transformers 4")
LIMIT = "matrix products"

SUBJECT = Subject(
    "keras",
    "Keras on TensorFlow",
    SIDES,
    (
        *grid("float32", ALL, LIMIT),
        *grid("bfloat16", ALL, LIMIT, VITS[1:3], (1, 8)),
        forward("ViT-Ti/16", 1, "int8", ("int8", "KerasHub"), "", "long"),
        *grid("int8", ("int8", "trivit, onnxruntime", "trivit, float32"), "", VITS[1:2], (1, 8), ()),
        *relatives(("trivit", "KerasHub"), LIMIT),
        *large_images(ALL, LIMIT),
        training_step("ViT-S/16", 8, ALL, length="long"),
    ),
)
