"""Trains the masked autoencoder that ships with the package, bundled/mae-digits, and writes its folder.

The data are the 1797 handwritten digits that come with scikit-learn; nothing is downloaded. The split, the augmentation
and the image processor are those of train_digits.py.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from string import Template

import torch
from torch import Tensor
from train_digits import augment, build_processor, load_split

from vit_torch import ViTMAEConfig, ViTMAEForPreTraining

# The recipe.
EPOCHS = 120
BATCH_SIZE = 64
LEARNING_RATE = 2e-3  # at its height: a linear warmup is followed by a cosine down to nothing
WARMUP = 0.05  # of all steps
WEIGHT_DECAY = 0.05


def build_model() -> ViTMAEForPreTraining:
    """An untrained model, small enough to ship."""
    config = ViTMAEConfig(
        hidden_size=56,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=112,
        layer_norm_eps=1e-6,
        initializer_range=0.08,  # the usual 0.02 is meant for wide models
        image_size=32,
        patch_size=4,
        num_channels=1,
        decoder_hidden_size=40,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=80,
        mask_ratio=0.6,
    )
    return ViTMAEForPreTraining(config)


def train(model: ViTMAEForPreTraining, pixel_values: Tensor, epochs: int) -> None:
    """Train the model, telling of each tenth of the way.

    Args:
        model: is changed.
        pixel_values: (images, 1, height, width), as the processor makes them.
        epochs: how often each image is seen, 1 or more.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.95))
    steps = epochs * math.ceil(len(pixel_values) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / (WARMUP * steps)) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    start = time.monotonic()
    model.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for batch in torch.randperm(len(pixel_values)).split(BATCH_SIZE):
            loss = model(augment(pixel_values[batch])).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        if epoch % max(1, epochs // 10) == 0 or epoch == epochs:
            print(
                f"epoch {epoch:3} of {epochs}   loss {total / len(pixel_values):.4f}   "
                f"{time.monotonic() - start:4.0f} s",
                flush=True,
            )
    model.eval()


@torch.no_grad()
def errors(model: ViTMAEForPreTraining, pixel_values: Tensor, seed: int = 0) -> tuple[float, float]:
    """How far the model is off on patches that it does not see, and how far their neighbours' mean is.

    Args:
        model: the model.
        pixel_values: (images, 1, height, width), from -1 to 1.
        seed: of the choice of patches.

    Returns:
        The mean squared error of the model, and of filling in each image's mean over the patches that are seen; of
        pixels from 0 to 1.
    """
    noise = torch.rand(len(pixel_values), math.prod(model.config.grid), generator=torch.Generator().manual_seed(seed))
    output = model(pixel_values, noise=noise)
    patches, mask = model.patchify(pixel_values), output.mask[..., None]
    weights = mask.expand_as(patches)
    mean = (patches * (1 - weights)).sum((1, 2), keepdim=True) / (1 - weights).sum((1, 2), keepdim=True)
    squares = [((guess - patches) ** 2 * weights).sum() / weights.sum() for guess in (output.logits, mean)]
    return squares[0].item() / 4, squares[1].item() / 4  # -1 to 1 is twice as wide as 0 to 1


MODEL_CARD = Template("""\
---
license: apache-2.0
library_name: trivit
tags: [mae, handwritten-digits]
---

# mae-digits

A masked autoencoder (He et al. 2021, <https://arxiv.org/abs/2111.06377>) of $parameters parameters that paints what
is left out of handwritten digits. It ships with Trivit so that there is something to try without a network:

```sh
trivit reconstruct digit.png
```

## Model

$num_hidden_layers layers of width $hidden_size see $seen_share of the patches; a decoder of \
$decoder_num_hidden_layers layers of width $decoder_hidden_size paints the others.
Gray images of $image_size x $image_size pixels, in patches of $patch_size x $patch_size; a pixel of the 8 x 8 data
comes to cover one patch.

## Data, split and augmentation

Those of `bundled/vit-digits`: *Optical Recognition of Handwritten Digits*, E. Alpaydin and C. Kaynak (1998), UCI
Machine Learning Repository, <https://doi.org/10.24432/C50P49>, licensed under
[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/); $train images to train on, $test to test with.

## Recipe

AdamW with weight decay $decay and betas 0.9 and 0.95; $epochs epochs in batches of $batch; learning rate $rate after a
warmup over $warmup of the steps, then along a cosine to 0; seed $seed.

## Result

Mean squared error over the patches that were left out of the $test test images, of pixels from 0 to 1: **$error**,
which is $ratio of that of filling in the mean of the patches that were seen, $error_of_mean.

## Reproduce

```
python examples/train_mae.py --output vit_core/bundled/mae-digits --seed $seed --epochs $epochs
```

in Trivit's repository writes this whole folder. One machine makes the same weights every time; another machine,
or another version of PyTorch than $torch, rounds differently.

The weights are licensed under Apache-2.0, as Trivit is.
""")


def model_card(model: ViTMAEForPreTraining, train_count: int, test_pixels: Tensor, seed: int, epochs: int) -> str:
    """Describe the trained model and how it does."""
    error, error_of_mean = errors(model, test_pixels)
    return MODEL_CARD.substitute(
        model.config.to_dict(),
        parameters=f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        seen_share=f"{1 - model.config.mask_ratio:.0%}",
        train=train_count,
        test=len(test_pixels),
        decay=WEIGHT_DECAY,
        epochs=epochs,
        batch=BATCH_SIZE,
        rate=LEARNING_RATE,
        warmup=f"{WARMUP:.0%}",
        seed=seed,
        error=f"{error:.4f}",
        error_of_mean=f"{error_of_mean:.4f}",
        ratio=f"{error / error_of_mean:.0%}",
        torch=torch.__version__,
    )


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="The defaults reproduce the checkpoint that ships: some minutes on two CPU cores. The same seed gives "
        "the same weights on the same machine.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("mae-digits"),
        metavar="FOLDER",
        help="where the checkpoint and its model card go (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, order, masks and augmentation (default: 0)")
    parser.add_argument(
        "--epochs", type=int, default=EPOCHS, metavar="N", help="how often each image is seen (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error(f"--epochs is {options.epochs}; choose 1 or more")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure on the test images, and write the folder."""
    options = parse_arguments(arguments)
    torch.set_num_threads(2)  # with another number, sums are rounded differently
    torch.manual_seed(options.seed)
    split, processor, model = load_split(), build_processor(), build_model()
    pixels, test_pixels = (
        processor(images, return_tensors="pt").pixel_values for images in (split.train_images, split.test_images)
    )
    train(model, pixels, options.epochs)
    error, error_of_mean = errors(model, test_pixels)
    print(f"error on test images {error:.4f}; filling in the mean {error_of_mean:.4f}")
    model.save_pretrained(options.output)
    processor.save_pretrained(options.output)
    card = model_card(model, len(pixels), test_pixels, options.seed, options.epochs)
    (options.output / "README.md").write_text(card, encoding="utf-8")
    print(f"wrote {options.output}; try it: trivit reconstruct IMAGE --model {options.output}")


if __name__ == "__main__":
    main()
