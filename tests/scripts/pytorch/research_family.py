"""Research code: a config and a model of one's own, known to the Auto classes."""

import json
import sys

import torch
from torch import nn

from vit_torch import (
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

start, output_dir = sys.argv[1:]
torch.manual_seed(0)


class GatedViTConfig(ViTConfig):
    model_type = "gated_vit"

    def __init__(self, gate_bias=0.5, **kwargs):
        super().__init__(**kwargs)
        self.gate_bias = gate_bias


class GatedViTForImageClassification(ViTForImageClassification):
    config_class = GatedViTConfig

    def __init__(self, config):
        super().__init__(config)
        self.gate = nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()
        nn.init.constant_(self.gate.bias, config.gate_bias)

    def forward(self, pixel_values=None, labels=None, **kwargs):
        hidden = self.vit(pixel_values, **kwargs).last_hidden_state[:, 0]
        return self.classifier(hidden * self.gate(hidden).sigmoid())


AutoConfig.register("gated_vit", GatedViTConfig)
AutoModelForImageClassification.register(GatedViTConfig, GatedViTForImageClassification)

config = GatedViTConfig.from_pretrained(start, gate_bias=0.25, num_labels=3)
gated = GatedViTForImageClassification.from_pretrained(start, config=config, ignore_mismatched_sizes=True).eval()
gated.save_pretrained(f"{output_dir}/gated")
loaded = AutoModelForImageClassification.from_pretrained(f"{output_dir}/gated").eval()
images = torch.randn(2, 3, 32, 32)

# Features from the middle of the network, by a hook and by the output.
backbone = AutoModel.from_pretrained(start, add_pooling_layer=False)
seen = []
backbone.encoder.layer[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
with torch.no_grad():
    outputs = backbone(images, output_hidden_states=True)
    hooked = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    results = {
        "type": type(loaded).__name__,
        "gate_bias": loaded.config.gate_bias,
        "gated_difference": (gated(images) - loaded(images)).abs().max().item(),
        "hook_difference": (hooked - outputs.hidden_states[1]).abs().max().item(),
        "is_a_model": isinstance(backbone, ViTModel),
    }
with open(f"{output_dir}/all_results.json", "w") as f:
    json.dump(results, f)
