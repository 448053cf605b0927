"""The shapes in signatures are true: in a fresh process, jaxtyping checks each of them on real calls."""

import subprocess
import sys

CHECKED_CALLS = """
from jaxtyping import install_import_hook
modules = ("modeling", "layers", "masked_autoencoder", "losses", "position", "distillation", "poolers", "rotary",
           "norms", "image_projection")
with install_import_hook([f"vit_torch.{name}" for name in modules], "beartype.beartype"):
    import torch
    import vit_torch.distillation
    from vit_torch import ViTConfig, ViTForImageClassification, ViTForMaskedImageModeling, ViTModel

config = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
                   image_size=(32, 48), patch_size=8, encoder_stride=8, num_labels=5)
pixel_values, mask = torch.randn(2, 3, 32, 48), torch.rand(2, 24) > 0.5
everything = {"output_attentions": True, "output_hidden_states": True}
ViTModel(config)(pixel_values, head_mask=torch.ones(4), **everything)
ViTModel(config)(torch.randn(2, 3, 40, 40), interpolate_pos_encoding=True, head_mask=torch.ones(2, 4))
ViTForMaskedImageModeling(config)(pixel_values, mask, **everything)
for labels in (torch.tensor([0, 1]), torch.rand(2, 5)):
    config.problem_type = None
    ViTForImageClassification(config)(pixel_values, labels=labels)
ViTForImageClassification(config).half()(pixel_values)
sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=(32, 48),
             patch_size=8, num_labels=5)
other_size = torch.randn(2, 3, 40, 40)
for places in ("use_relative_position_bias", "use_shared_relative_position_bias"):
    beit = vit_torch.BeitConfig(**sizes, **{places: True}, vocab_size=9, use_mask_token=True)
    vit_torch.BeitModel(beit)(other_size, head_mask=torch.ones(4), **everything)
    vit_torch.BeitForMaskedImageModeling(beit)(pixel_values, mask, labels=torch.zeros(int(mask.sum()), dtype=torch.int))
deit = vit_torch.DeiTForImageClassificationWithTeacher(vit_torch.DeiTConfig(**sizes))(pixel_values, **everything)
for kind in ("hard", "soft"):
    vit_torch.distillation.distillation_loss(deit, torch.tensor([0, 1]), torch.randn(2, 5), kind)
vit_torch.IJepaForImageClassification(vit_torch.IJepaConfig(**sizes))(pixel_values, labels=torch.tensor([0, 1]))
mae = vit_torch.ViTMAEForPreTraining(vit_torch.ViTMAEConfig(**sizes, norm_pix_loss=True))
mae(other_size, noise=torch.rand(2, 25), interpolate_pos_encoding=True, **everything)
mae.unpatchify(mae(pixel_values).logits)
mae.bfloat16()(pixel_values)
towers = {**sizes, "patch_size": (8, 10)}
vit_torch.SiglipVisionModel(vit_torch.SiglipVisionConfig(**towers))(other_size, interpolate_pos_encoding=True)
vit_torch.CLIPVisionModelWithProjection(vit_torch.CLIPVisionConfig(**towers))(torch.randn(2, 3, 32, 48))
dinov3 = vit_torch.DINOv3ViTConfig(**sizes, num_register_tokens=2, pos_embed_shift=0.1, pos_embed_jitter=1.5)
vit_torch.DINOv3ViTModel(dinov3).eval()(pixel_values, head_mask=torch.ones(4), **everything)
vit_torch.DINOv3ViTModel(dinov3).train()(other_size)
options = dict(rotary_positions="indices", position_resampling="offset", norm="rms", query_key_norm=True,
               attention_norm=True, mlp_norm=True, gated_mlp=True, embedding_norm=True,
               classifier_reads="class-and-mean")
for more in ({}, {"relative_positions": "layers", "positioned": "patches", "position_resampling": "antialiased"}):
    various = vit_torch.VisionTransformerConfig(**sizes, **{**options, **more})
    vit_torch.VisionTransformerForImageClassification(various)(other_size, interpolate_pos_encoding=True)
try:
    ViTModel(config).pooler(torch.zeros(3))
except Exception as error:
    assert "hidden_states" in str(error), error
    print("checked")
"""


def test_every_annotated_shape_holds():
    result = subprocess.run([sys.executable, "-c", CHECKED_CALLS], capture_output=True, text=True, timeout=300)
    assert result.stdout == "checked\n", result.stderr
