"""Trains a small DeiT on handwritten digits by what a teacher says of them, in a plain PyTorch training loop.

The data are the 1797 digits that come with scikit-learn, of which a quarter is held out; the teacher is any checkpoint
of a model that tells the ten digits apart, by default the one that ships with the package. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

from vit_torch import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    PreTrainedModel,
)
from vit_torch.distillation import distillation_loss


def load_images() -> tuple[list[Image.Image], np.ndarray]:
    """The digits, 8 x 8 pixels of 8-bit gray, white on black, and which they are."""
    counts, labels = load_digits(return_X_y=True)  # of inked pixels, 0 to 16
    pixels = np.rint(counts.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return [Image.fromarray(image) for image in pixels], labels


def new_student(teacher: PreTrainedModel) -> DeiTForImageClassificationWithTeacher:
    """An untrained DeiT for the images and the classes of a teacher."""
    config = DeiTConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        initializer_range=0.1,  # the usual 0.02 is meant for wide models; this narrow one would take long to start
        image_size=teacher.config.image_size,
        patch_size=teacher.config.patch_size,
        num_channels=teacher.config.num_channels,
        id2label=teacher.config.id2label,
        label2id=teacher.config.label2id,
    )
    return DeiTForImageClassificationWithTeacher(config)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", default="bundled/vit-digits", help="a checkpoint (default: %(default)s)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("distilled"),
        metavar="FOLDER",
        help="folder to write (default: %(default)s)",
    )
    parser.add_argument(
        "--kind", choices=("hard", "soft"), default="hard", help="of distillation (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order (default: %(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, test and save."""
    options = parse_arguments(arguments)
    torch.manual_seed(options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    teacher = AutoModelForImageClassification.from_pretrained(options.teacher).to(device)
    processor = AutoImageProcessor.from_pretrained(options.teacher)
    images, numbers = load_images()
    pixels, labels = processor(images, return_tensors="pt").pixel_values.to(device), torch.tensor(numbers).to(device)
    train, test = train_test_split(range(len(labels)), test_size=0.25, stratify=numbers, random_state=0)

    student = new_student(teacher).to(device)
    optimizer = torch.optim.AdamW(student.parameters(), lr=options.learning_rate, weight_decay=0.05)
    loader = DataLoader(TensorDataset(pixels[train], labels[train]), options.batch_size, shuffle=True)
    for epoch in range(1, options.epochs + 1):
        for batch, their_labels in loader:
            with torch.no_grad():
                teacher_logits = teacher(batch).logits
            loss = distillation_loss(student(batch), their_labels, teacher_logits, kind=options.kind)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch:3}   loss of the last batch {loss.item():.3f}")

    with torch.no_grad():
        found = student.eval()(pixels[test]).logits.argmax(-1)
    print(f"accuracy on {len(test)} test images: {(found == labels[test]).float().mean():.2%}")
    student.save_pretrained(options.output)
    processor.save_pretrained(options.output)


if __name__ == "__main__":
    main()
