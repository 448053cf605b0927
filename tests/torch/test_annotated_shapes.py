"""The shapes in signatures are true: in a fresh process, jaxtyping checks each of them on real calls."""

import subprocess
import sys

CHECKED_CALLS = """
from jaxtyping import install_import_hook
with install_import_hook(["vit_torch.modeling", "vit_torch.losses", "vit_torch.position"], "beartype.beartype"):
    import torch
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
try:
    ViTModel(config).pooler(torch.zeros(3))
except Exception as error:
    assert "hidden_states" in str(error), error
    print("checked")
"""


def test_every_annotated_shape_holds():
    result = subprocess.run([sys.executable, "-c", CHECKED_CALLS], capture_output=True, text=True, timeout=300)
    assert result.stdout == "checked\n", result.stderr
