"""The shapes in signatures are true: in a fresh process, jaxtyping checks each of them on real calls."""

import subprocess
import sys

CHECKED_CALLS = """
from jaxtyping import install_import_hook
names = ["modeling", "layers", "poolers", "rotary", "image_projection", "attention", "losses", "position"]
with install_import_hook([f"vit_flax.{name}" for name in names], "beartype.beartype"):
    import jax, jax.numpy as jnp, numpy as np
    from vit_flax import ViTConfig, ViTForImageClassification, ViTForMaskedImageModeling, ViTModel
    from vit_flax import CLIPVisionModelWithProjection, Dinov2WithRegistersForImageClassification, DINOv3ViTModel
    from vit_flax import SiglipVisionModel
    from vit_flax.modeling import FlaxViTPooler

sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": (32, 48), "patch_size": 8}
config = ViTConfig(**sizes, intermediate_size=48, encoder_stride=8, num_labels=5)
random = np.random.default_rng(0)
def images(*shape):
    return jnp.asarray(random.normal(size=shape), jnp.float32)
pixel_values, mask = images(2, 3, 32, 48), jnp.asarray(random.random((2, 24)) > 0.5)
everything = {"output_attentions": True, "output_hidden_states": True}
def run(model_class, *arguments, options={}, config=config, **call):
    model = model_class(config, _do_init=False, **options)
    return jax.eval_shape(lambda params: model(*arguments, params=params, **call), model.params_shape_tree)
for options in ({}, {"scan_layers": True}, {"dtype": jnp.bfloat16}):
    run(ViTModel, pixel_values, head_mask=jnp.ones(4), options=options, **everything)
    run(ViTModel, images(2, 3, 40, 40), interpolate_pos_encoding=True, head_mask=jnp.ones((2, 4)), options=options)
    run(ViTForMaskedImageModeling, pixel_values, mask, options=options, **everything)
    for labels in (jnp.array([0, 1]), images(2, 5)):
        run(ViTForImageClassification, pixel_values, labels=labels, options=options)
    for each in (CLIPVisionModelWithProjection, Dinov2WithRegistersForImageClassification, SiglipVisionModel):
        run(each, pixel_values, options=options, config=each.config_class(**sizes), **everything)
    dinov3 = DINOv3ViTModel.config_class(**sizes, num_register_tokens=2)
    run(DINOv3ViTModel, pixel_values, options=options, config=dinov3, dropout_rng=jax.random.key(0), train=True)
    run(DINOv3ViTModel, images(2, 3, 40, 40), options=options, config=dinov3)
for module, wrong, words in (
    (FlaxViTPooler(config), jnp.zeros(3), "hidden_states"),
    (ViTModel.module_class(config), jnp.zeros((2, 3)), "pixel_values"),
):
    try:
        module.init(jax.random.key(0), wrong)
    except Exception as error:
        assert "Type-check" in str(error) and words in str(error), error
        print("checked")
"""


def test_every_annotated_shape_holds():
    result = subprocess.run([sys.executable, "-c", CHECKED_CALLS], capture_output=True, text=True, timeout=300)
    assert result.stdout == "checked\nchecked\n", result.stderr
