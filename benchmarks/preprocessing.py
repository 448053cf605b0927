"""Preprocessing speed: ViTImageProcessor here against the slow processor of transformers.

Prepares batches of 32 photos of 500 x 375 pixels for a 224 x 224 model, from PIL images and from JPEG bytes, the two
libraries by turns, and prints the median times and their ratio. It needs transformers 4.47 and this repository:

    PYTHONPATH=. python benchmarks/preprocessing.py [--rounds 15] [--batch 32] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import PIL
import transformers
from PIL import Image

from vit_core.image_batch import core_count
from vit_core.image_processing import ViTImageProcessor

PHOTO_SIZE = (500, 375)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def photo(seed: int) -> Image.Image:
    """A picture as rough as a photograph: noise of several scales on a gradient."""
    rng = np.random.default_rng(seed)
    width, height = PHOTO_SIZE
    pixels = np.zeros((height, width, 3), np.float32)
    for scale, weight in ((4, 30), (16, 50), (64, 90)):
        noise = Image.fromarray(rng.integers(0, 256, (height // scale + 2, width // scale + 2, 3), dtype=np.uint8))
        pixels += weight / 170 * np.asarray(noise.resize(PHOTO_SIZE, Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def jpeg(picture: Image.Image) -> bytes:
    """The picture as a JPEG file of usual quality."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def seconds(function: Callable[[], Any]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Median seconds of both, called by turns so that what else the machine does hits both, and their ratio."""
    if not np.array_equal(ours()["pixel_values"], theirs()["pixel_values"]):
        raise SystemExit("the two processors disagree; their times mean nothing.")
    times = [(seconds(theirs), seconds(ours)) for _ in range(rounds)]
    theirs_median, ours_median = (statistics.median(column) for column in zip(*times, strict=True))
    return {"transformers": theirs_median, "trivit": ours_median, "ratio": theirs_median / ours_median}


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()

    pictures = [photo(seed) for seed in range(options.batch)]
    files = [jpeg(picture) for picture in pictures]
    ours, theirs = ViTImageProcessor(), transformers.ViTImageProcessor()

    def opened() -> list[Image.Image]:
        return [Image.open(BytesIO(file)) for file in files]

    results = {
        "PIL images": compare(
            lambda: ours(pictures, return_tensors="np"), lambda: theirs(pictures, return_tensors="np"), options.rounds
        ),
        "JPEG bytes": compare(
            lambda: ours(files, return_tensors="np"), lambda: theirs(opened(), return_tensors="np"), options.rounds
        ),
    }
    environment = {
        "cores": core_count(),
        "pillow": PIL.__version__,
        "numpy": np.__version__,
        "transformers": transformers.__version__,
        **{name: os.environ.get(name, "not set") for name in THREAD_VARIABLES},
    }
    if options.json:
        print(json.dumps({"environment": environment, "batch": options.batch, "results": results}, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in environment.items()))
    for name, result in results.items():
        print(
            f"{options.batch} photos from {name}: transformers {result['transformers'] * 1e3:.1f} ms, "
            f"trivit {result['trivit'] * 1e3:.1f} ms, {result['ratio']:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
