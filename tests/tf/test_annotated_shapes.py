"""The shapes in signatures are true: in a fresh process, jaxtyping checks each of them on real calls."""

import subprocess
import sys

# Keras reads the signatures of constructors, which jaxtyping's import hook would hide: only calls are wrapped here.
CHECKED_CALLS = """
import inspect
import beartype, jaxtyping, keras, numpy as np, tensorflow as tf
from vit_tf import ViTConfig, ViTForImageClassification, ViTForMaskedImageModeling, ViTModel
from vit_tf import CLIPVisionModelWithProjection, Dinov2WithRegistersForImageClassification, DINOv3ViTModel
from vit_tf import SiglipVisionModel
from vit_tf import embeddings, image_projection, layers, losses, modeling, norms, poolers, position, rotary

checked = jaxtyping.jaxtyped(typechecker=beartype.beartype)
of_layers = (embeddings, image_projection, layers, modeling, norms, poolers, rotary)
for module in (*of_layers, losses, position):
    for name, found in list(vars(module).items()):
        if not (found.__module__ if hasattr(found, "__module__") else "").startswith("vit_tf."):
            continue
        if inspect.isfunction(found):
            setattr(module, name, checked(found))
        elif inspect.isclass(found) and "call" in vars(found) and module in of_layers:
            found.call = checked(found.call)

sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": (32, 48), "patch_size": 8}
config = ViTConfig(**sizes, intermediate_size=48, encoder_stride=8, num_labels=5)
random = np.random.default_rng(0)
def images(*shape):
    return tf.constant(random.normal(size=shape), "float32")
pixel_values, mask = images(2, 3, 32, 48), tf.constant(random.random((2, 24)) > 0.5)
everything = {"output_attentions": True, "output_hidden_states": True}
ViTModel(config)(pixel_values, head_mask=tf.ones(4), **everything)
ViTModel(config)(images(2, 3, 40, 40), interpolate_pos_encoding=True, head_mask=tf.ones((2, 4)))
ViTForMaskedImageModeling(config)(pixel_values, mask, **everything)
for labels in (tf.constant([0, 1]), images(2, 5)):
    ViTForImageClassification(config)(pixel_values, labels=labels)
ViTForImageClassification(config, dtype="bfloat16")(pixel_values)
for each in (CLIPVisionModelWithProjection, Dinov2WithRegistersForImageClassification, SiglipVisionModel):
    each(each.config_class(**sizes))(pixel_values, **everything)
dinov3 = DINOv3ViTModel(DINOv3ViTModel.config_class(**sizes, num_register_tokens=2, use_gated_mlp=True))
dinov3(pixel_values, training=True)
dinov3(images(2, 3, 40, 40))
try:
    ViTModel(config).pooler(tf.zeros(3))
except Exception as error:
    assert "hidden_states" in str(error), error
    print("checked")
"""


def test_every_annotated_shape_holds():
    result = subprocess.run([sys.executable, "-c", CHECKED_CALLS], capture_output=True, text=True, timeout=300)
    assert result.stdout == "checked\n", result.stderr
