"""Where the weights are that all sides load; they are made when first asked for."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from benchmarks.models import IMAGE

#: Where a run keeps them; its processes find it in their environment.
FOLDER = "BENCHMARKS_WEIGHTS"


def folder(model: str, image: int = IMAGE, layers: int = 0, to: str = "transformers") -> Path:
    """The folder of a model in a format, as `trivit convert` writes it, with the settings of its preprocessing."""
    place = Path(os.environ[FOLDER]) / f"{model} {image} {layers}".replace("/", "-")
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / to).exists():
            from benchmarks import drawn_weights  # which imports what not everybody who only loads them needs

            drawn_weights.write(place, model, image, layers, to)
    return place / to
