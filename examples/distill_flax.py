"""Trains a small DeiT on handwritten digits by what a teacher says of them, with JAX, Flax and optax.

The data are the 1797 digits that come with scikit-learn, of which a quarter is held out; the teacher is any checkpoint
of a model that tells the ten digits apart, by default the one that ships with the package. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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

from vit_flax import (
    AutoImageProcessor,
    DeiTConfig,
    FlaxAutoModelForImageClassification,
    FlaxDeiTForImageClassificationWithTeacher,
    distillation_loss,
)


def load_images() -> tuple[list[Image.Image], np.ndarray]:
    """The digits, 8 x 8 pixels of 8-bit gray, white on black, and which they are."""
    counts, labels = load_digits(return_X_y=True)  # of inked pixels, 0 to 16
    pixels = np.rint(counts.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return [Image.fromarray(image) for image in pixels], labels


def new_student(teacher: Any, seed: int) -> FlaxDeiTForImageClassificationWithTeacher:
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
    return FlaxDeiTForImageClassificationWithTeacher(config, seed=seed)


@partial(jax.jit, static_argnames="kind")
def train_step(
    state: TrainState, images: jax.Array, labels: jax.Array, told: jax.Array, kind: str
) -> tuple[TrainState, jax.Array]:
    """One step of the optimizer; `told` are the teacher's logits."""

    def loss_of(params: Any) -> jax.Array:
        return distillation_loss(state.apply_fn(images, params=params, train=True), labels, told, kind)

    loss, gradients = jax.value_and_grad(loss_of)(state.params)
    return state.apply_gradients(grads=gradients), loss


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
    teacher = FlaxAutoModelForImageClassification.from_pretrained(options.teacher)
    processor = AutoImageProcessor.from_pretrained(options.teacher)
    images, labels = load_images()
    pixels = processor(images, return_tensors="np").pixel_values
    train, test = train_test_split(np.arange(len(labels)), test_size=0.25, stratify=labels, random_state=0)
    told = np.asarray(jax.jit(teacher)(jnp.asarray(pixels)).logits)

    student = new_student(teacher, options.seed)
    optimizer = optax.adamw(options.learning_rate, weight_decay=0.05)
    state = TrainState.create(apply_fn=student.__call__, params=student.params, tx=optimizer)
    order = np.random.default_rng(options.seed)
    for epoch in range(1, options.epochs + 1):
        shuffled = order.permutation(train)
        whole = len(shuffled) - len(shuffled) % options.batch_size  # a smaller batch would be compiled anew
        losses = []
        for batch in np.split(shuffled[:whole], whole // options.batch_size):
            state, loss = train_step(state, pixels[batch], labels[batch], told[batch], options.kind)
            losses.append(loss)
        print(f"epoch {epoch} of {options.epochs}: loss {np.mean(losses):.4f}")

    found = np.asarray(jax.jit(student)(pixels[test], params=state.params).logits).argmax(axis=-1)
    print(f"accuracy on {len(test)} test images: {(found == labels[test]).mean():.2%}")
    student.save_pretrained(options.output, params=state.params)
    processor.save_pretrained(options.output)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
