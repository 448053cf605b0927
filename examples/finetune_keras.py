"""Trains a small Vision Transformer on handwritten digits with Keras' `fit`, from scratch or from a checkpoint.

The data are the 1797 digits that come with scikit-learn, of which a quarter is held out; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vit_tf import AutoImageProcessor, DeiTImageProcessor, ViTConfig, ViTForImageClassification, ViTImageProcessor

NAMES = [str(digit) for digit in range(10)]
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: digit for digit, name in enumerate(NAMES)}}

# Augmentation: the largest of each, drawn anew for every image.
ROTATION = 10 / 360  # of a full turn
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


def new_model() -> tuple[ViTForImageClassification, ViTImageProcessor]:
    """An untrained model, and a processor that enlarges a pixel of the data to a patch."""
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
    return ViTForImageClassification(config, data_format="channels_last"), processor


def pretrained_model(name: str) -> tuple[ViTForImageClassification, ViTImageProcessor | DeiTImageProcessor]:
    """A model from a checkpoint, with a new head if its classes are not ten, and its processor."""
    model = ViTForImageClassification.from_pretrained(
        name, data_format="channels_last", ignore_mismatched_sizes=True, **LABELS
    )
    return model, AutoImageProcessor.from_pretrained(name)


def training_batches(images: np.ndarray, labels: np.ndarray, batch_size: int, seed: int) -> tf.data.Dataset:
    """Batches in a new order every epoch, each image turned, moved and zoomed a little at random."""
    black = {"fill_mode": "constant", "fill_value": float(images.min())}  # what comes in from outside
    augment = keras.Sequential(
        [
            keras.layers.RandomRotation(ROTATION, **black, seed=seed),
            keras.layers.RandomTranslation(SHIFT, SHIFT, **black, seed=seed),
            keras.layers.RandomZoom(ZOOM, ZOOM, **black, seed=seed),
        ]
    )
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(labels), seed=seed).batch(batch_size)
    return batches.map(lambda x, y: (augment(x, training=True), y), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


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
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, test and save."""
    options = parse_arguments(arguments)
    keras.utils.set_random_seed(options.seed)
    split = load_split()
    model, processor = pretrained_model(options.model) if options.model else new_model()

    def pixels(images: list[Image.Image]) -> np.ndarray:
        return processor(images, return_tensors="np", data_format="channels_last").pixel_values

    batches = training_batches(pixels(split.train_images), split.train_labels, options.batch_size, options.seed)
    steps = options.epochs * len(batches)
    warmup = steps // 20
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, warmup_target=options.learning_rate, warmup_steps=warmup
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(batches, epochs=options.epochs, shuffle=False, verbose=2)  # the dataset shuffles
    _, accuracy = model.evaluate(pixels(split.test_images), split.test_labels, batch_size=options.batch_size, verbose=0)
    print(f"accuracy on {len(split.test_labels)} test images: {accuracy:.2%}")

    model.save_pretrained(options.output)
    processor.save_pretrained(options.output)
    print(f'wrote {options.output}; try it: trivit classify --model "{options.output}" IMAGE')


if __name__ == "__main__":
    main()
