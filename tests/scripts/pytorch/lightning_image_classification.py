"""Fine-tune in a LightningModule, in the shape of the notebook that most people copy."""

import json
import sys

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from vit_torch import ViTForImageClassification, ViTImageProcessor

model_checkpoint, train_dir, output_dir = sys.argv[1:]
pl.seed_everything(0)
id2label = {0: "blue", 1: "red"}
label2id = {label: id for id, label in id2label.items()}
processor = ViTImageProcessor.from_pretrained(model_checkpoint)


class Pictures(Dataset):
    def __init__(self, folder):
        from pathlib import Path

        self.files = sorted(Path(folder).glob("*/*.png"))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        image = Image.open(self.files[index]).convert("RGB")
        pixel_values = processor(image, return_tensors="pt")["pixel_values"].squeeze(0)
        return pixel_values, label2id[self.files[index].parent.name]


def collate_fn(examples):
    return {
        "pixel_values": torch.stack([pixels for pixels, _ in examples]),
        "labels": torch.tensor([label for _, label in examples]),
    }


class ViTLightningModule(pl.LightningModule):
    def __init__(self, num_labels=2):
        super().__init__()
        self.save_hyperparameters()
        self.vit = ViTForImageClassification.from_pretrained(
            model_checkpoint,
            num_labels=num_labels,
            id2label=id2label,
            label2id=label2id,
            ignore_mismatched_sizes=True,
        )

    def forward(self, pixel_values):
        return self.vit(pixel_values=pixel_values).logits

    def common_step(self, batch, batch_idx):
        logits = self(batch["pixel_values"])
        loss = nn.CrossEntropyLoss()(logits, batch["labels"])
        correct = (logits.argmax(-1) == batch["labels"]).sum().item()
        return loss, correct / len(batch["labels"])

    def training_step(self, batch, batch_idx):
        loss, accuracy = self.common_step(batch, batch_idx)
        self.log("training_loss", loss)
        self.log("training_accuracy", accuracy)
        return loss

    def validation_step(self, batch, batch_idx):
        loss, accuracy = self.common_step(batch, batch_idx)
        self.log("validation_loss", loss, on_epoch=True)
        self.log("validation_accuracy", accuracy, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)

    def train_dataloader(self):
        return DataLoader(Pictures(train_dir), shuffle=True, collate_fn=collate_fn, batch_size=4)

    def val_dataloader(self):
        return DataLoader(Pictures(train_dir), collate_fn=collate_fn, batch_size=4)


model = ViTLightningModule()
best = ModelCheckpoint(output_dir, monitor="validation_loss")
trainer = pl.Trainer(
    max_epochs=4,
    accelerator="cpu",
    default_root_dir=output_dir,
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[EarlyStopping(monitor="validation_loss", patience=3), best],
)
trainer.fit(model)
results = trainer.validate(model, verbose=False)[0]

restored = ViTLightningModule.load_from_checkpoint(best.best_model_path, weights_only=False).eval()
pixel_values = collate_fn([Pictures(train_dir)[0]])["pixel_values"]
restored.vit.save_pretrained(f"{output_dir}/model")
processor.save_pretrained(f"{output_dir}/model")
again = ViTForImageClassification.from_pretrained(f"{output_dir}/model")
with torch.no_grad():
    difference = np.abs(again(pixel_values).logits.numpy() - restored(pixel_values).numpy()).max()
with open(f"{output_dir}/all_results.json", "w") as f:
    json.dump({**results, "loaded_difference": float(difference)}, f)
