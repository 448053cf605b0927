"""How fast the Keras models are beside those of KerasHub, and how much memory they take.

Both have the same sizes, float32 weights and Keras' defaults, and do the same work on the CPU. Every row is measured in
fresh processes. Usage: python benchmarks/keras_speed.py [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
import keras
import keras_hub
import tensorflow as tf

from vit_tf import ViTConfig, ViTForImageClassification

PACKAGES = ("vit_tf", "keras_hub")
CLASSES, IMAGE, PATCH, BATCH = 1000, 224, 16, 8
BASE = {"hidden": 768, "layers": 12, "heads": 12}  # ViT-B/16
SMALL = {"hidden": 384, "layers": 12, "heads": 6}  # ViT-S/16
STEPS = 3  # of a round of training
MEMORY_STEPS = 5
FIRST_STEPS = 3  # fresh processes for each package


def vit_tf_model(hidden: int, layers: int, heads: int) -> tuple[keras.Model, tf.Tensor]:
    """A classifier of ours, and a batch of images for it."""
    config = ViTConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        image_size=IMAGE,
        patch_size=PATCH,
        num_labels=CLASSES,
    )
    return ViTForImageClassification(config), keras.random.normal((BATCH, 3, IMAGE, IMAGE))


def keras_hub_model(hidden: int, layers: int, heads: int) -> tuple[keras.Model, tf.Tensor]:
    """A classifier of KerasHub, and a batch of images for it."""
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(IMAGE, IMAGE, 3),
        patch_size=PATCH,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=hidden,
        mlp_dim=4 * hidden,
        layer_norm_epsilon=1e-12,
    )
    model = keras_hub.models.ViTImageClassifier(backbone=backbone, num_classes=CLASSES)
    return model, keras.random.normal((BATCH, IMAGE, IMAGE, 3))


BUILDERS = {"vit_tf": vit_tf_model, "keras_hub": keras_hub_model}


class Trainer:
    """A ViT-S/16 that `fit` trains."""

    def __init__(self, package: str) -> None:

        self.model, self.images = BUILDERS[package](**SMALL)
        self.model.compile(
            optimizer=keras.optimizers.AdamW(1e-4),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        self.labels = keras.ops.arange(BATCH)

    def fit(self, steps: int) -> list[float]:
        """Train; returns the seconds of each step, of which the first includes the start of `fit`."""
        images, labels = tf.repeat(self.images, steps, axis=0), tf.repeat(self.labels, steps, axis=0)
        times = [time.perf_counter()]
        clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: times.append(time.perf_counter()))
        self.model.fit(images, labels, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[clock])
        return [end - start for start, end in pairwise(times)]


def forward(rounds: int) -> dict[str, list[float]]:
    """Seconds of a forward pass of ViT-B/16 in a tf.function, the packages in turn."""

    def runner(package: str) -> Callable[[], object]:
        model, images = BUILDERS[package](**BASE)
        function = tf.function(lambda images: tf.nest.flatten(model(images, training=False)))
        return lambda: [each.numpy() for each in function(images)]

    runs = {package: runner(package) for package in PACKAGES}
    return alternately(rounds, {package: lambda run=run: [timed(run)] for package, run in runs.items()})


def step(rounds: int) -> dict[str, list[float]]:
    """Seconds of a training step of ViT-S/16 in `fit`, the packages in turn."""
    trainers = {package: Trainer(package) for package in PACKAGES}
    measures = {package: lambda each=each: each.fit(1 + STEPS)[1:] for package, each in trainers.items()}
    return alternately(rounds, measures)


def first_step(package: str) -> dict[str, float]:
    """Seconds until `fit` of ViT-S/16 has done a step, and this process' peak in bytes some steps later."""
    trainer = Trainer(package)
    cpu_start = time.process_time()
    seconds = trainer.fit(1)[0]
    cpu_seconds = time.process_time() - cpu_start
    trainer.fit(MEMORY_STEPS)
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "bytes": peak_memory()}


def alternately(rounds: int, measures: dict[str, Callable[[], list[float]]]) -> dict[str, list[float]]:
    """What each measure returns in all rounds but the first, which traces graphs and fills caches."""
    results: dict[str, list[float]] = {name: [] for name in measures}
    for index in range(1 + rounds):
        for name, measure in measures.items():
            seconds = measure()
            results[name] += seconds if index else []
        progress(f"round {index} of {rounds}")
    return results


def timed(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak_memory() -> int:
    """The most memory that this process had in use, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM; this benchmark needs Linux.")


def progress(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def in_fresh_process(measure: str, argument: str | int) -> dict:
    """What a measure returns in a process of its own."""
    progress(f"{measure} {argument}")
    command = [sys.executable, __file__, "--measure", measure, str(argument)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure_here(measure: str, argument: str) -> None:
    """Print the result of a measure as JSON."""
    measures = {"forward": lambda: forward(int(argument)), "step": lambda: step(int(argument))}
    print(json.dumps(measures[measure]() if measure in measures else first_step(argument)))


def main() -> None:
    """Measure the packages in turn, so that a busy machine slows both alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="forward passes and fits of each package (default 9)")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "ARGUMENT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure_here(*options.measure)
        return
    forwards = in_fresh_process("forward", options.rounds)
    steps = in_fresh_process("step", options.rounds)
    firsts = {package: [] for package in PACKAGES}
    for _ in range(FIRST_STEPS):
        for package in PACKAGES:
            firsts[package].append(in_fresh_process("first_step", package))

    def column(name: str) -> dict[str, list[float]]:
        return {package: [one[name] for one in results] for package, results in firsts.items()}

    rows = {
        f"forward, ViT-B/16, batch {BATCH}": (1e3, "ms", forwards),
        f"training step, ViT-S/16, batch {BATCH}": (1e3, "ms", steps),
        "first step, tracing included": (1, "s", column("seconds")),
        "first step, CPU time": (1, "s", column("cpu_seconds")),  # hardly longer on a busy machine
        "peak memory of training": (1e-6, "MB", column("bytes")),
    }
    print(f"{'medians':36}{'':4}{'vit_tf':>10}{'keras_hub':>11}{'ratio':>8}   runs")
    for name, (factor, unit, results) in rows.items():
        ours, theirs = (statistics.median(results[package]) * factor for package in PACKAGES)
        print(f"{name:36}{unit:4}{ours:10.2f}{theirs:11.2f}{theirs / ours:8.2f}   {len(results['vit_tf'])} each")


if __name__ == "__main__":
    main()
