"""Fine-tunes a Vision Transformer on your own images, in a plain PyTorch training loop.

The images lie in one folder for each class, named like the class:

    photos/cat/one.jpg  photos/cat/two.jpg  photos/dog/three.jpg ...
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vit_torch import AutoImageProcessor, DeiTImageProcessor, ViTConfig, ViTForImageClassification, ViTImageProcessor

HELD_OUT = 5  # every fifth image of a class is kept for validation


class LabelledImages(Dataset[dict[str, Tensor]]):
    """Image files with their classes, as the model takes them.

    Args:
        files: image files, each with the number of its class.
        processor: the model's image processor.
    """

    def __init__(self, files: list[tuple[Path, int]], processor: ViTImageProcessor | DeiTImageProcessor) -> None:
        self.files = files
        self.processor = processor

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        path, label = self.files[index]
        pixel_values = self.processor(path, return_tensors="pt").pixel_values[0]
        return {"pixel_values": pixel_values, "labels": torch.tensor(label)}


def find_classes(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class.

    Args:
        folder: has a folder for each class.

    Returns:
        Classes in the order of their names.

    Raises:
        OSError: there is no such folder.
        ValueError: it has fewer than two classes, or a class has fewer than two images.
    """
    suffixes = Image.registered_extensions()
    classes = {
        subfolder.name: sorted(file for file in subfolder.iterdir() if file.suffix.lower() in suffixes)
        for subfolder in sorted(folder.iterdir())
        if subfolder.is_dir() and not subfolder.name.startswith(".")
    }
    if len(classes) < 2:
        raise ValueError(f"{folder} has {len(classes)} folder(s) of images; give it one for each class, two or more")
    for name, files in classes.items():
        if len(files) < 2:
            raise ValueError(
                f"{folder / name} has {len(files)} image(s); one to train on and one to validate are needed"
            )
    return classes


def split(classes: dict[str, list[Path]]) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    """Shuffle the images of each class and hold some of them out: (to train on, to validate with)."""
    train, held_out = [], []
    for label, files in enumerate(classes.values()):
        shuffled = [(file, label) for file in random.sample(files, len(files))]
        held_out += shuffled[::HELD_OUT]
        train += [item for place, item in enumerate(shuffled) if place % HELD_OUT]
    return train, held_out


def load_model(name: str, classes: Sequence[str], from_scratch: bool) -> ViTForImageClassification:
    """A pretrained model with a new head if its classes are others, or an untrained one of the same shape."""
    labels = {"id2label": dict(enumerate(classes)), "label2id": {label: i for i, label in enumerate(classes)}}
    if from_scratch:
        return ViTForImageClassification(ViTConfig.from_pretrained(name, **labels))
    return ViTForImageClassification.from_pretrained(name, **labels, ignore_mismatched_sizes=True)


def train_epoch(model: ViTForImageClassification, loader: DataLoader, optimizer: torch.optim.Optimizer) -> float:
    """Show the model each image once; returns the mean loss."""
    model.train()
    total = 0.0
    for batch in loader:
        loss = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch["labels"])
    return total / len(loader.dataset)


@torch.no_grad()
def accuracy(model: ViTForImageClassification, loader: DataLoader) -> float:
    """The fraction of images whose class the model tells."""
    model.eval()
    right = 0
    for batch in loader:
        logits = model(batch["pixel_values"].to(model.device)).logits
        right += int((logits.argmax(1).cpu() == batch["labels"]).sum())
    return right / len(loader.dataset)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder with a folder of images for each class")
    parser.add_argument(
        "--model",
        default="bundled/vit-digits",
        help="a checkpoint folder, a Hub id, or a bundled checkpoint (default: %(default)s, tiny and for gray images)",
    )
    parser.add_argument("--from-scratch", action="store_true", help="take the model's shape, not its weights")
    parser.add_argument("--output", type=Path, default=Path("finetuned"), help="folder to write (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="default: %(default)s; large models: 2e-5")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fine-tune, validate after each epoch, and save."""
    options = parse_arguments(arguments)
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    classes = find_classes(options.images)
    train_files, held_out_files = split(classes)

    processor = AutoImageProcessor.from_pretrained(options.model)
    model = load_model(options.model, list(classes), options.from_scratch)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    train_loader = DataLoader(LabelledImages(train_files, processor), options.batch_size, shuffle=True)
    held_out_loader = DataLoader(LabelledImages(held_out_files, processor), options.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)

    print(f"{len(train_files)} images to train on, {len(held_out_files)} to validate with: {', '.join(classes)}")
    for epoch in range(1, options.epochs + 1):
        loss = train_epoch(model, train_loader, optimizer)
        print(f"epoch {epoch:3}   loss {loss:.3f}   validation accuracy {accuracy(model, held_out_loader):.1%}")

    model.save_pretrained(options.output)
    processor.save_pretrained(options.output)
    print(f'wrote {options.output}; try it: trivit classify --model "{options.output}" IMAGE')


if __name__ == "__main__":
    main()
