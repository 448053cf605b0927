"""What a classifier's logits say: labels with probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def probabilities(logits: np.ndarray, problem_type: str | None) -> np.ndarray:
    """Probabilities of the classes: they sum to one, unless an image may be of several classes.

    Args:
        logits: (batch, labels).
        problem_type: of the config.

    Returns:
        float64 array of the same shape; NaN in a row whose logits are no finite numbers.
    """
    logits = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # of infinite numbers, which come out as NaN
        if problem_type == "multi_label_classification":
            return np.exp(-np.logaddexp(0.0, -logits))
        exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return exponentials / exponentials.sum(axis=-1, keepdims=True)


def top_answers(scores: np.ndarray, labels: Mapping[int, Any], count: int) -> list[tuple[str, float]]:
    """The likeliest classes of one image.

    Args:
        scores: (labels,), the probabilities.
        labels: the names of the classes by their numbers; a class without one is called by its number.
        count: how many.

    Returns:
        (label, probability), the likeliest first and equal ones in their order.
    """
    best = np.argsort(-scores, kind="stable")[:count]
    return [(str(labels.get(int(number), number)), float(scores[number])) for number in best]
