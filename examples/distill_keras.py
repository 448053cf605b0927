"""Trains a small DeiT on handwritten digits by what a teacher says of them, with Keras' `fit`.

The data are the 1797 digits that come with scikit-learn, of which a quarter is held out; the teacher is any checkpoint
of a model that tells the ten digits apart, by default the one that ships with the package. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vit_tf import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
)
from vit_tf.distillation import Distiller


def load_images() -> tuple[list[Image.Image], np.ndarray]:
    """The digits, 8 x 8 pixels of 8-bit gray, white on black, and which they are."""
    counts, labels = load_digits(return_X_y=True)  # of inked pixels, 0 to 16
    pixels = np.rint(counts.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return [Image.fromarray(image) for image in pixels], labels


def new_student(teacher: keras.Model) -> DeiTForImageClassificationWithTeacher:
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
    keras.utils.set_random_seed(options.seed)
    teacher = AutoModelForImageClassification.from_pretrained(options.teacher)
    processor = AutoImageProcessor.from_pretrained(options.teacher)
    images, labels = load_images()
    pixels = processor(images, return_tensors="np").pixel_values
    train, test = train_test_split(range(len(labels)), test_size=0.25, stratify=labels, random_state=0)

    student = new_student(teacher)
    distiller = Distiller(student, teacher, kind=options.kind)
    distiller.compile(keras.optimizers.AdamW(options.learning_rate, weight_decay=0.05), metrics=["accuracy"])
    distiller.fit(pixels[train], labels[train], batch_size=options.batch_size, epochs=options.epochs, verbose=2)

    found = student.predict(pixels[test], batch_size=options.batch_size, verbose=0).logits.argmax(axis=-1)
    print(f"accuracy on {len(test)} test images: {(found == labels[test]).mean():.2%}")
    student.save_pretrained(options.output)
    processor.save_pretrained(options.output)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
