"""Research code: a smaller network for other classes, cut out of a trained one."""

import json
import sys

import torch
from torch import nn

from vit_torch import ViTForImageClassification

start, output_dir = sys.argv[1:]
model = ViTForImageClassification.from_pretrained(start)
model.vit.encoder.layer = model.vit.encoder.layer[:1]
model.classifier = nn.Linear(model.config.hidden_size, 7)
model.save_pretrained(f"{output_dir}/cut")

cut = ViTForImageClassification.from_pretrained(f"{output_dir}/cut")
images = torch.randn(2, 3, 32, 32)
with torch.no_grad():
    difference = (model(images).logits - cut(images).logits).abs().max().item()
results = {"difference": difference, "layers": len(cut.vit.encoder.layer), "classes": cut.config.num_labels}
with open(f"{output_dir}/all_results.json", "w") as f:
    json.dump(results, f)
