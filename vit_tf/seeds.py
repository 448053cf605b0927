"""One seed for everything that draws numbers in a Keras script."""

from __future__ import annotations

import keras
import tensorflow as tf


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seed Python's `random`, NumPy, TensorFlow and Keras; transformers 5's function of this name knows no TensorFlow.

    Args:
        seed: a whole number, 0 or more.
        deterministic: whether operations must also give the same bits each time, which may be slower.
    """
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
