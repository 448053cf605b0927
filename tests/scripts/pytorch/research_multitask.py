"""Research code: a model with two heads on a pretrained Vision Transformer, and a frozen first half."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from vit_torch import ViTConfig, ViTImageProcessor, ViTModel, ViTPreTrainedModel

start, pictures, output_dir = sys.argv[1:]
torch.manual_seed(0)
LABELS = ["blue", "red"]


@dataclass
class MultiTaskOutput:
    loss: torch.Tensor | None
    logits: torch.Tensor
    brightness: torch.Tensor


class ViTForColourAndBrightness(ViTPreTrainedModel):
    """Names the colour of a picture and estimates its brightness."""

    def __init__(self, config: ViTConfig, brightness_weight: float = 1.0):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.brightness_weight = brightness_weight
        self.vit = ViTModel(config, add_pooling_layer=False)
        self.head = nn.Sequential(nn.LayerNorm(config.hidden_size), nn.Linear(config.hidden_size, config.num_labels))
        self.brightness = nn.Linear(config.hidden_size, 1)
        self.register_buffer("steps", torch.zeros(1))
        self.post_init()

    def forward(self, pixel_values, labels=None, brightness=None, output_attentions=None, return_dict=None):
        outputs = self.vit(pixel_values, output_attentions=output_attentions, return_dict=return_dict)
        sequence_output = outputs[0]
        logits = self.head(sequence_output[:, 0, :])
        estimate = self.brightness(sequence_output[:, 1:].mean(dim=1)).squeeze(-1)
        loss = None
        if labels is not None:
            self.steps += self.training
            loss = nn.functional.cross_entropy(logits.view(-1, self.num_labels), labels.view(-1))
            loss = loss + self.brightness_weight * nn.functional.mse_loss(estimate, brightness)
        return MultiTaskOutput(loss, logits, estimate)


processor = ViTImageProcessor.from_pretrained(start)


class Pictures(Dataset):
    def __init__(self, folder):
        self.files = sorted(Path(folder).glob("*/*.png"))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        image = Image.open(self.files[index])
        return {
            "pixel_values": processor(image, return_tensors="pt").pixel_values[0],
            "labels": LABELS.index(self.files[index].parent.name),
            "brightness": torch.tensor(np.asarray(image).mean() / 255, dtype=torch.float32),
        }


model = ViTForColourAndBrightness.from_pretrained(
    start, brightness_weight=2.0, num_labels=len(LABELS), id2label=dict(enumerate(LABELS)),
    label2id={label: i for i, label in enumerate(LABELS)},
)  # fmt: skip
images = torch.stack([Pictures(f"{pictures}/validation")[i]["pixel_values"] for i in (0, 5)])
with torch.no_grad():
    features = model.vit(images).last_hidden_state[:, 0]

for parameter in model.vit.embeddings.parameters():
    parameter.requires_grad = False
for layer in model.vit.encoder.layer[: model.config.num_hidden_layers // 2]:
    layer.requires_grad_(False)
model.train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
for _ in range(6):
    for batch in DataLoader(Pictures(f"{pictures}/train"), batch_size=4, shuffle=True):
        loss = model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

model.eval()
model.save_pretrained(f"{output_dir}/model")
again, info = ViTForColourAndBrightness.from_pretrained(
    f"{output_dir}/model", brightness_weight=2.0, output_loading_info=True
)
correct = difference = 0
with torch.no_grad():
    for batch in DataLoader(Pictures(f"{pictures}/validation"), batch_size=4):
        outputs, loaded = model(**batch), again(**batch)
        correct += (outputs.logits.argmax(-1) == batch["labels"]).sum().item()
        difference = max(difference, (outputs.logits - loaded.logits).abs().max().item())
results = {
    "accuracy": correct / 8,
    "loaded_difference": difference,
    "missing": len(info["missing_keys"]) + len(info["unexpected_keys"]),
    "steps": again.steps.item(),
    "label": again.config.id2label[1],
    "features": features.flatten().tolist(),
}
with open(f"{output_dir}/all_results.json", "w") as f:
    json.dump(results, f)
