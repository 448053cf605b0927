"""Trains the checkpoint that ships with the package, bundled/vit-digits, and writes its folder, model card included.

The data are the 1797 handwritten digits that come with scikit-learn; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional

from vit_core import parameters
from vit_torch import ViTConfig, ViTForImageClassification, ViTImageProcessor

CLASSES = 10
SHIPPED_PER_CLASS = 2  # images of the test split that go with the checkpoint

# The recipe. It was chosen on validation images (`--validate`), which are a part of the training images.
EPOCHS = 80
BATCH_SIZE = 64
LEARNING_RATE = 2e-3  # at its height: a linear warmup is followed by a cosine down to nothing
WARMUP = 0.05  # of all steps
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.1

# Augmentation: the largest of each, drawn anew for every image.
ROTATION = 10.0  # degrees
SHIFT = 0.08  # of the image's side
SHEAR = 0.1
LOG_SCALE = 0.1  # of height and width separately
NOISE = 0.05  # standard deviation, where black is -1 and white is 1


@dataclass(frozen=True)
class Split:
    """Images to train on and images to test with.

    Attributes:
        train_images: 8 x 8 images, 8-bit gray, white on black.
        train_labels: the digits that they show.
        test_images: likewise.
        test_labels: likewise.
    """

    train_images: list[Image.Image]
    train_labels: Tensor
    test_images: list[Image.Image]
    test_labels: Tensor

    @classmethod
    def of(cls, images: list[Image.Image], labels: Tensor, test_size: float) -> Split:
        """Hold a fraction of the images out, with all digits in proportion; the same ones every time."""
        train, test = train_test_split(range(len(images)), test_size=test_size, stratify=labels, random_state=0)
        return cls([images[i] for i in train], labels[train], [images[i] for i in test], labels[test])


def load_split() -> Split:
    """The digits, of which a quarter is held out for the test."""
    counts, labels = load_digits(return_X_y=True)  # of inked pixels, 0 to 16
    pixels = np.rint(counts.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return Split.of([Image.fromarray(image) for image in pixels], torch.from_numpy(labels), test_size=0.25)


def build_processor() -> ViTImageProcessor:
    """Gray images, enlarged so that a pixel of the data covers one patch, with values from -1 to 1."""
    return ViTImageProcessor(size=32, image_mean=[0.5], image_std=[0.5])


def build_model() -> ViTForImageClassification:
    """An untrained model, small enough to ship."""
    names = [str(digit) for digit in range(CLASSES)]
    config = ViTConfig(
        hidden_size=56,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=112,
        layer_norm_eps=1e-6,
        initializer_range=0.08,  # the usual 0.02 is meant for wide models; this narrow one would take long to start
        image_size=32,
        patch_size=4,
        num_channels=1,
        id2label=dict(enumerate(names)),
        label2id={name: digit for digit, name in enumerate(names)},
    )
    return ViTForImageClassification(config)


def augment(pixel_values: Tensor) -> Tensor:
    """Turn, move, shear, scale and disturb each image of a batch (batch, 1, height, width) a little, at random."""
    batch = len(pixel_values)

    def drawn(largest: float) -> Tensor:
        return torch.empty(batch).uniform_(-largest, largest)

    angle, shear = drawn(math.radians(ROTATION)), drawn(SHEAR)
    height, width = drawn(LOG_SCALE).exp(), drawn(LOG_SCALE).exp()
    across, down = drawn(2 * SHIFT), drawn(2 * SHIFT)  # a side goes from -1 to 1
    cosine, sine = angle.cos(), angle.sin()
    rows = [cosine * width, (shear - sine) * height, across, sine * width, cosine * height, down]
    grid = functional.affine_grid(
        torch.stack(rows, dim=1).view(batch, 2, 3), list(pixel_values.shape), align_corners=False
    )
    # What comes in from outside is 0 there, so black is 0 meanwhile.
    moved = functional.grid_sample(pixel_values + 1, grid, align_corners=False) - 1
    return moved + NOISE * torch.randn_like(moved)


def train(model: ViTForImageClassification, pixel_values: Tensor, labels: Tensor, epochs: int) -> None:
    """Train the model, telling of each tenth of the way.

    Args:
        model: is changed.
        pixel_values: (images, 1, height, width), as the processor makes them.
        labels: (images,), whole numbers.
        epochs: how often each image is seen, 1 or more.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * math.ceil(len(labels) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / (WARMUP * steps)) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    start = time.monotonic()
    model.train()
    for epoch in range(1, epochs + 1):
        total_loss, right = 0.0, 0
        for batch in torch.randperm(len(labels)).split(BATCH_SIZE):
            logits = model(augment(pixel_values[batch])).logits
            loss = functional.cross_entropy(logits, labels[batch], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total_loss += loss.item() * len(batch)
            right += int((logits.argmax(1) == labels[batch]).sum())
        if epoch % max(1, epochs // 10) == 0 or epoch == epochs:
            print(
                f"epoch {epoch:3} of {epochs}   loss {total_loss / len(labels):.3f}   "
                f"accuracy on augmented training images {right / len(labels):6.1%}   {time.monotonic() - start:4.0f} s",
                flush=True,
            )
    model.eval()


@torch.no_grad()
def probabilities(model: ViTForImageClassification, processor: ViTImageProcessor, images: list[Image.Image]) -> Tensor:
    """What the model thinks of each image, (images, digits)."""
    return model(processor(images, return_tensors="pt").pixel_values).logits.softmax(1)


def write_test_images(folder: Path, split: Split) -> None:
    """Write the first images of each digit in the test split, whatever the model makes of them."""
    folder.mkdir(exist_ok=True)
    for digit in range(CLASSES):
        for index in (split.test_labels == digit).nonzero().flatten()[:SHIPPED_PER_CLASS].tolist():
            split.test_images[index].save(folder / f"digit_{digit}_test_{index:04}.png", optimize=True)


MODEL_CARD = Template("""\
---
license: apache-2.0
library_name: trivit
pipeline_tag: image-classification
tags: [vit, handwritten-digits]
---

# vit-digits

A Vision Transformer of $parameters parameters that reads handwritten digits. It ships with Trivit so that there is
something to try without a network: a model small enough for a package, trained on real images.

```python
from vit_torch import AutoImageProcessor, ViTForImageClassification

processor = AutoImageProcessor.from_pretrained("bundled/vit-digits")
model = ViTForImageClassification.from_pretrained("bundled/vit-digits")
logits = model(**processor("digit.png", return_tensors="pt")).logits
print(model.config.id2label[logits.argmax().item()])
```

## Model

$num_hidden_layers layers of width $hidden_size, $num_attention_heads heads, an MLP of width $intermediate_size; \
gray images of $image_size x $image_size pixels in patches of $patch_size x $patch_size.
The processor makes any image gray and resizes it; a pixel of the 8 x 8 data comes to cover one patch.

## Data

*Optical Recognition of Handwritten Digits*, E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository,
<https://doi.org/10.24432/C50P49>, licensed under [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/).
The copy that comes with scikit-learn (`sklearn.datasets.load_digits`) is the test part of that data set:
$images images of 8 x 8 pixels by 13 writers, with values from 0 to 16.

Changes made: values were scaled to 8 bits (times 255 / 16, rounded).

The files in `test_images/` are such images, under CC BY 4.0 too: the first $shipped of each digit in the test split,
chosen without asking the model. `digit_7_test_0123.png` would show a 7 and be number 123 of the split, counted from 0.

## Split

`train_test_split(..., test_size=0.25, stratify=labels, random_state=0)`: $train images to train on, $test to test
with. The size of the model, the recipe and the augmentation were chosen on validation images, a fifth of the training
images. The test images served for nothing but the numbers below.

## Recipe

AdamW with weight decay $decay; $epochs epochs in batches of $batch; learning rate $rate after a warmup over
$warmup of the steps, then along a cosine to 0; label smoothing $smoothing; seed $seed. Each time it is seen, an image
is turned by up to $rotation degrees, moved by up to $shift of its side, sheared by up to $shear, scaled by up to
$stretch in each direction, and given noise of standard deviation $noise (black is -1, white is 1).
Two CPU cores do it in a few minutes.

## Accuracy

**$accuracy on the test images: $right of $test right** (one image is $one).

$table

## Reproduce

```
python examples/train_digits.py --output vit_core/bundled/vit-digits --seed $seed --epochs $epochs
```

in Trivit's repository writes this whole folder. One machine makes the same weights every time; another machine,
or another version of PyTorch than $torch, rounds differently and may get a few images more or less right.

## Limits

- It knows single digits, light on dark, upright, filling the image, and has only seen 8 x 8 pixels. Dark digits on
  light paper must be inverted first. Whatever it is shown, it sees a digit in it.
- The data do not say who wrote what, so the writers of the test images wrote training images as well. Expect less with
  other people's handwriting.
- Label smoothing holds its probabilities down: typically $confidence where it is right.
- It is for demonstrations. Let it read nothing that matters.

The weights are licensed under Apache-2.0, as Trivit is.
""")


def model_card(config: ViTConfig, split: Split, answers: Tensor, seed: int, epochs: int) -> str:
    """Describe the trained model and how it did.

    Args:
        config: the model's.
        split: the images.
        answers: what `probabilities` says of the test images.
        seed: with which it was trained.
        epochs: likewise.
    """
    confidence, predicted = answers.max(1)
    is_right = predicted == split.test_labels
    parameter_count = sum(math.prod(row.shape) for row in parameters(config, "image-classification"))
    return MODEL_CARD.substitute(
        config.to_dict(),
        parameters=f"{parameter_count:,}",
        images=len(split.train_images) + len(split.test_images),
        train=len(split.train_images),
        test=len(split.test_images),
        shipped=SHIPPED_PER_CLASS,
        decay=WEIGHT_DECAY,
        epochs=epochs,
        batch=BATCH_SIZE,
        rate=LEARNING_RATE,
        warmup=f"{WARMUP:.0%}",
        smoothing=LABEL_SMOOTHING,
        seed=seed,
        rotation=f"{ROTATION:.0f}",
        shift=f"{SHIFT:.0%}",
        shear=SHEAR,
        stretch=f"{math.expm1(LOG_SCALE):.0%}",
        noise=NOISE,
        accuracy=f"{is_right.float().mean():.2%}",
        right=int(is_right.sum()),
        one=f"{1 / len(is_right):.2%}",
        table=accuracy_table(split.test_labels, predicted),
        confidence=f"{confidence[is_right].median():.0%}",
        torch=torch.__version__,
    )


def accuracy_table(labels: Tensor, predicted: Tensor) -> str:
    """A Markdown table with one row for each digit."""
    lines = ["| digit | images | right | accuracy | taken for |", "|---|---|---|---|---|"]
    for digit in range(CLASSES):
        answers = predicted[labels == digit].bincount(minlength=CLASSES).tolist()
        count, right = sum(answers), answers[digit]
        wrong = [f"{other} ({times}x)" for other, times in enumerate(answers) if times and other != digit]
        lines.append(f"| {digit} | {count} | {right} | {right / count:.1%} | {', '.join(wrong) or '-'} |")
    return "\n".join(lines)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="The defaults reproduce the checkpoint that ships: a few minutes on two CPU cores. The same seed gives "
        "the same weights on the same machine.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("vit-digits"),
        metavar="FOLDER",
        help="where the checkpoint, its model card and some test images go (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (default: %(default)s)")
    parser.add_argument(
        "--epochs", type=int, default=EPOCHS, metavar="N", help="how often each image is seen (default: %(default)s)"
    )
    parser.add_argument(
        "--validate",
        action="store_true",
        help="for choosing a recipe: train on four fifths of the training images, print the accuracy on the others, "
        "leave the test images alone and write nothing",
    )
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error(f"--epochs is {options.epochs}; choose 1 or more")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, test and write, as the command line says."""
    options = parse_arguments(arguments)
    torch.set_num_threads(2)  # with another number, sums are rounded differently
    torch.manual_seed(options.seed)
    split = load_split()
    if options.validate:
        split = Split.of(split.train_images, split.train_labels, test_size=0.2)
    processor, model = build_processor(), build_model()
    print(f"training {model.num_parameters():,} parameters on {len(split.train_images)} images")
    pixel_values = processor(split.train_images, return_tensors="pt").pixel_values
    train(model, pixel_values, split.train_labels, options.epochs)

    answers = probabilities(model, processor, split.test_images)
    right = answers.argmax(1) == split.test_labels
    kind = "validation" if options.validate else "test"
    print(f"accuracy on {len(right)} {kind} images: {right.float().mean():.2%} ({int((~right).sum())} wrong)")
    if not options.validate:
        model.save_pretrained(options.output)
        processor.save_pretrained(options.output)
        write_test_images(options.output / "test_images", split)
        card = model_card(model.config, split, answers, options.seed, options.epochs)
        (options.output / "README.md").write_text(card, encoding="utf-8")
        print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
