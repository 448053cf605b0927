"""Forward passes in a `tf.function` and training steps in `fit`, of any Keras model."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import pixels
from benchmarks.models import IMAGE
from benchmarks.worker import Prepared, Spent

LEARNING_RATE = 1e-4
STEPS = 3  # of a turn of training, besides the first, which includes the start of `fit`

Call = Callable[[tf.Tensor], tf.Tensor]  # from images to logits or hidden states


def forward(call: Call, batch: int, image: int = IMAGE, channels_last: bool = False) -> Prepared:
    """Forward passes for inference."""
    images = tf.constant(pixels.images(batch, image, channels_last))
    function = tf.function(call)

    def run() -> np.ndarray:
        return function(images).numpy()

    return Prepared(run, lambda: pixels.answer(run()))


def step(keras: Any, model: Any, batch: int, image: int = IMAGE, channels_last: bool = False) -> Prepared:
    """Training steps in `fit`, whose callbacks say when each ended.

    Args:
        keras: the module whose model it is: Keras 3, or the Keras 2 of older models.
        model: gives logits for images.
        batch: images of a step.
        image: their height and width.
        channels_last: where their channels are.
    """
    optimizer = keras.optimizers.AdamW(LEARNING_RATE)
    model.compile(optimizer=optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, labels = pixels.images(batch, image, channels_last), pixels.labels(batch)
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat(1 + STEPS).with_options(untuned())

    def run() -> Spent:
        times: list[float] = []
        clock = keras.callbacks.LambdaCallback(on_batch_end=lambda batch, logs: times.append(time.perf_counter()))
        model.fit(batches, verbose=0, callbacks=[clock])
        return Spent(sum(end - start for start, end in pairwise(times)) / STEPS)

    return Prepared(run)


def untuned() -> tf.data.Options:
    """Options without the thread that tunes a pipeline, for whose sleep the end of an epoch can wait."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return options
