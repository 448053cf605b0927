"""Trains a small Vision Transformer on handwritten digits with JAX, Flax and optax, from scratch or from a checkpoint.

The data are the 1797 digits that come with scikit-learn, of which a quarter is held out; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vit_flax import AutoImageProcessor, DeiTImageProcessor, ViTConfig, ViTForImageClassification, ViTImageProcessor

NAMES = [str(digit) for digit in range(10)]
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: digit for digit, name in enumerate(NAMES)}}

# Augmentation: the largest of each, drawn anew for every image.
ROTATION = math.radians(10)
SHIFT = 0.08  # of the image's side
ZOOM = 0.1


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
    train_labels: np.ndarray
    test_images: list[Image.Image]
    test_labels: np.ndarray


def load_split() -> Split:
    """The digits; the same ones are held out every time."""
    counts, labels = load_digits(return_X_y=True)  # of inked pixels, 0 to 16
    pixels = np.rint(counts.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    train, test = train_test_split(range(len(labels)), test_size=0.25, stratify=labels, random_state=0)
    images = [Image.fromarray(image) for image in pixels]
    return Split([images[i] for i in train], labels[train], [images[i] for i in test], labels[test])


def new_model(**options: Any) -> tuple[ViTForImageClassification, ViTImageProcessor]:
    """An untrained model, and a processor that enlarges a pixel of the data to a patch.

    Args:
        **options: of the model: `seed`, `dtype`, `scan_layers`.
    """
    config = ViTConfig(
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=128,
        initializer_range=0.08,  # the usual 0.02 is meant for wide models; this narrow one would take long to start
        image_size=32,
        patch_size=4,
        num_channels=1,
        **LABELS,
    )
    processor = ViTImageProcessor(size=32, image_mean=[0.5], image_std=[0.5])
    return ViTForImageClassification(config, **options), processor


def pretrained_model(
    name: str, **options: Any
) -> tuple[ViTForImageClassification, ViTImageProcessor | DeiTImageProcessor]:
    """A model from a checkpoint, with a new head if its classes are not ten, and its processor."""
    model = ViTForImageClassification.from_pretrained(name, ignore_mismatched_sizes=True, **LABELS, **options)
    return model, AutoImageProcessor.from_pretrained(name)


def augment(key: jax.Array, images: jax.Array, black: float) -> jax.Array:
    """Turn, move and zoom each image of a batch (batch, channels, height, width) a little, at random.

    Args:
        key: of the random numbers.
        images: floats.
        black: what comes in from outside.
    """
    batch, _, *size = images.shape
    middle = (jnp.array(size)[:, None, None] - 1) / 2
    places = jnp.indices(size) - middle

    def moved(image: jax.Array, angle: jax.Array, shift: jax.Array, zoom: jax.Array) -> jax.Array:
        turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
        sources = jnp.einsum("ij,jhw->ihw", turn, places * zoom[:, None, None]) + shift[:, None, None] + middle
        sample = partial(jax.scipy.ndimage.map_coordinates, coordinates=sources, order=1, cval=black)
        return jax.vmap(sample)(image)

    angle_key, shift_key, zoom_key = jax.random.split(key, 3)
    angles = jax.random.uniform(angle_key, (batch,), minval=-ROTATION, maxval=ROTATION)
    shifts = jax.random.uniform(shift_key, (batch, 2), minval=-SHIFT, maxval=SHIFT) * jnp.array(size)
    zooms = jax.random.uniform(zoom_key, (batch, 2), minval=1 - ZOOM, maxval=1 + ZOOM)
    return jax.vmap(moved)(images, angles, shifts, zooms)


def training_step(model: ViTForImageClassification, key: jax.Array, black: float) -> Callable[..., Any]:
    """A compiled step of training: from a state and a batch to the next state, the loss and the accuracy.

    The state that goes in is donated: its memory becomes that of the one that comes out.
    """

    @partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, images: jax.Array, labels: jax.Array) -> tuple[TrainState, jax.Array, jax.Array]:
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        images = augment(augment_key, images, black)

        def loss_and_logits(params: Any) -> tuple[jax.Array, jax.Array]:
            # A checkpoint's config may ask for dropout, which needs random numbers.
            outputs = model(images, params=params, dropout_rng=dropout_key, train=True, labels=labels)
            return outputs.loss, outputs.logits

        (loss, logits), gradients = jax.value_and_grad(loss_and_logits, has_aux=True)(state.params)
        return state.apply_gradients(grads=gradients), loss, (logits.argmax(-1) == labels).mean()

    return step


def shuffled_batches(
    images: np.ndarray, labels: np.ndarray, batch_size: int, random: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of one size in a new order; the images that are left over wait for another epoch."""
    order = random.permutation(len(labels))
    for start in range(0, len(labels) - batch_size + 1, batch_size):
        chosen = order[start : start + batch_size]
        yield images[chosen], labels[chosen]


def train(
    model: ViTForImageClassification, images: np.ndarray, labels: np.ndarray, options: argparse.Namespace
) -> None:
    """Train the model, telling of each epoch.

    Args:
        model: its `params` are replaced.
        images: (images, channels, height, width), as the processor makes them.
        labels: (images,), whole numbers.
        options: the command line.
    """
    steps = options.epochs * (len(labels) // options.batch_size)
    schedule = optax.warmup_cosine_decay_schedule(0.0, options.learning_rate, steps // 20, steps)
    optimizer = optax.adamw(schedule, weight_decay=0.05)
    state = TrainState.create(apply_fn=model, params=model.params, tx=optimizer)
    step = training_step(model, jax.random.key(options.seed), float(images.min()))
    random, start = np.random.default_rng(options.seed), time.monotonic()
    for epoch in range(1, options.epochs + 1):
        results = []  # left on the device until the epoch's end: nothing waits for a number
        for batch in shuffled_batches(images, labels, options.batch_size, random):
            state, *result = step(state, *batch)
            results.append(result)
        loss, accuracy = np.mean(results, axis=0)
        print(
            f"epoch {epoch:3} of {options.epochs}   loss {loss:.3f}   "
            f"accuracy on augmented training images {accuracy:6.1%}   {time.monotonic() - start:4.0f} s",
            flush=True,
        )
    model.params = state.params


def predict(model: ViTForImageClassification, images: np.ndarray, batch_size: int) -> np.ndarray:
    """The classes that the model names, (images,)."""
    classes = jax.jit(lambda params, batch: model(batch, params=params).logits.argmax(-1))
    starts = range(0, len(images), batch_size)
    return np.concatenate([classes(model.params, images[start : start + batch_size]) for start in starts])


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="The defaults train from scratch in a few minutes on two CPU cores, to about 98 %% of the test images.",
    )
    parser.add_argument(
        "--model",
        help="start from these weights: a checkpoint folder, a Hub id, or bundled/vit-digits (default: from scratch)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("digits"), metavar="FOLDER", help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="default: %(default)s; large models: 2e-5")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (default: %(default)s)")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16; weights stay in float32")
    parser.add_argument(
        "--scan-layers", action="store_true", help="compile one layer for all: deep models start sooner"
    )
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error(f"--epochs is {options.epochs}; choose 1 or more")
    if options.batch_size < 1:
        parser.error(f"--batch-size is {options.batch_size}; choose 1 or more")
    if not 0 < options.learning_rate < math.inf:
        parser.error(f"--learning-rate is {options.learning_rate}; choose a number above 0, such as 2e-3")
    if options.seed < 0:
        parser.error(f"--seed is {options.seed}; choose 0 or more")
    if options.output.exists() and not options.output.is_dir():
        parser.error(f"--output is {options.output}, which is no folder; choose another name")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, test and save."""
    options = parse_arguments(arguments)
    split = load_split()
    count = len(split.train_labels)
    if options.batch_size > count:
        raise SystemExit(
            f"--batch-size is {options.batch_size}, but there are {count} images to train on; choose fewer"
        )
    model_options = {
        "seed": options.seed,
        "dtype": jnp.bfloat16 if options.bf16 else jnp.float32,
        "scan_layers": options.scan_layers,
    }
    try:
        model, processor = (
            pretrained_model(options.model, **model_options) if options.model else new_model(**model_options)
        )
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None

    def pixels(images: list[Image.Image]) -> np.ndarray:
        return processor(images, return_tensors="np").pixel_values

    train(model, pixels(split.train_images), split.train_labels, options)
    predicted = predict(model, pixels(split.test_images), options.batch_size)
    print(f"accuracy on {len(predicted)} test images: {(predicted == split.test_labels).mean():.2%}")

    model.save_pretrained(options.output)
    processor.save_pretrained(options.output)
    print(f'wrote {options.output}; try it: trivit classify --model "{options.output}" IMAGE')


if __name__ == "__main__":
    main()
