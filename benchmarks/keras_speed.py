"""How fast the Keras models are beside those of KerasHub, and how much memory they take.

Both have the same sizes, float32 weights and Keras' defaults, and do the same work on the CPU. Every row is measured in
a fresh process, in which the packages take turns: a busy machine slows both alike, and what counts is the median of the
ratios of neighbours. Usage: python benchmarks/keras_speed.py [--rounds N] [--forward-only]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
import keras
import keras_hub
import tensorflow as tf

import vit_tf

PACKAGES = ("vit_tf", "keras_hub")
CLASSES, IMAGE, BATCH = 1000, 224, 8
STEPS = 3  # of a round of training
MEMORY_STEPS = 5
FIRST_STEPS = 3  # fresh processes for each package
HUB = keras_hub.models
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}


def sizes_in_keras_hub(sizes: Mapping[str, int], **more: Any) -> dict[str, Any]:
    """What KerasHub calls the sizes of a model."""
    hidden, layers, heads = sizes.values()
    return {"hidden_dim": hidden, "num_layers": layers, "num_heads": heads, "image_shape": (IMAGE, IMAGE, 3), **more}


def vit(sizes: Mapping[str, int]) -> tuple[Callable[[], keras.Model], Callable[[], keras.Model]]:
    """A ViT of 16 x 16 patches with its classifier, of both packages."""
    width = 4 * sizes["hidden_size"]
    config = vit_tf.ViTConfig(**sizes, intermediate_size=width, image_size=IMAGE, patch_size=16, num_labels=CLASSES)
    arguments = sizes_in_keras_hub(sizes, mlp_dim=width, patch_size=16, layer_norm_epsilon=1e-12)
    return (
        lambda: vit_tf.ViTForImageClassification(config),
        lambda: HUB.ViTImageClassifier(backbone=HUB.ViTBackbone(**arguments), num_classes=CLASSES),
    )


def dinov2(config_class: type, model: type, registers: int) -> tuple[Callable[[], keras.Model], ...]:
    """A DINOv2-S/14 as it was published: its positions are for larger images."""
    more = {"num_register_tokens": registers} if registers else {}
    config = config_class(**SMALL, image_size=518, patch_size=14, **more)
    arguments = sizes_in_keras_hub(SMALL, intermediate_dim=1536, patch_size=14, position_embedding_shape=(518, 518, 3))
    return lambda: model(config), lambda: HUB.DINOV2Backbone(
        **arguments, **more, antialias_in_interpolation=registers > 0
    )


def dinov3() -> tuple[Callable[[], keras.Model], ...]:
    """A DINOv3-S/16."""
    config = vit_tf.DINOv3ViTConfig(**SMALL, intermediate_size=1536, patch_size=16, num_register_tokens=4)
    arguments = sizes_in_keras_hub(SMALL, intermediate_dim=1536, patch_size=16, use_key_bias=False)
    return lambda: vit_tf.DINOv3ViTModel(config), lambda: HUB.DINOV3Backbone(**arguments)


#: What builds a model, here and in KerasHub.
MODELS: dict[str, Callable[[], tuple[Callable[[], keras.Model], ...]]] = {
    "ViT-B/16": lambda: vit(BASE),
    "ViT-S/16": lambda: vit(SMALL),
    "DINOv2-S/14": lambda: dinov2(vit_tf.Dinov2Config, vit_tf.Dinov2Model, 0),
    "DINOv2-S/14 reg": lambda: dinov2(vit_tf.Dinov2WithRegistersConfig, vit_tf.Dinov2WithRegistersModel, 4),
    "DINOv3-S/16": dinov3,
}
TRAINED = "ViT-S/16"


def build(name: str, package: str, batch: int = BATCH) -> tuple[keras.Model, tf.Tensor]:
    """A model of a package, and a batch of images for it."""
    model = MODELS[name]()[PACKAGES.index(package)]()
    shape = (3, IMAGE, IMAGE) if package == "vit_tf" else (IMAGE, IMAGE, 3)
    return model, keras.random.normal((batch, *shape))


class Trainer:
    """A ViT that `fit` trains."""

    def __init__(self, package: str) -> None:
        self.model, self.images = build(TRAINED, package)
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


def forward(rounds: int, name: str, batch: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of a forward pass in a tf.function, and those of all threads together, the packages in turn."""

    def runner(package: str) -> Callable[[], object]:
        model, images = build(name, package, batch)
        is_named = package == "keras_hub" and isinstance(model.input, dict)
        inputs = dict.fromkeys(model.input, images) if is_named else images
        function = tf.function(lambda inputs: tf.nest.flatten(model(inputs, training=False)))
        return lambda: [each.numpy() for each in function(inputs)]

    runs = {package: runner(package) for package in PACKAGES}
    both = alternately(rounds, {package: lambda run=run: [timed(run)] for package, run in runs.items()})
    return {
        measure: {package: [each[index] for each in results] for package, results in both.items()}
        for index, measure in enumerate(("seconds", "cpu_seconds"))
    }


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


def alternately(rounds: int, measures: dict[str, Callable[[], list[Any]]]) -> dict[str, list[Any]]:
    """What each measure returns in all rounds but the first, which traces graphs and fills caches."""
    results: dict[str, list[Any]] = {name: [] for name in measures}
    for index in range(1 + rounds):
        for name, measure in measures.items():
            seconds = measure()
            results[name] += seconds if index else []
        progress(f"round {index} of {rounds}")
    return results


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds that a call takes, and those of all threads together."""
    start, cpu_start = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - cpu_start


def peak_memory() -> int:
    """The most memory that this process had in use, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM; this benchmark needs Linux.")


def progress(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def in_fresh_process(measure: str, *arguments: str | int) -> dict:
    """What a measure returns in a process of its own."""
    progress(f"{measure} {' '.join(map(str, arguments))}")
    command = [sys.executable, __file__, "--measure", measure, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure_here(measure: str, *arguments: str) -> None:
    """Print the result of a measure as JSON."""
    measures: dict[str, Callable[..., dict]] = {
        "forward": lambda rounds, name, batch: forward(int(rounds), name, int(batch)),
        "step": lambda rounds: step(int(rounds)),
        "first_step": first_step,
    }
    print(json.dumps(measures[measure](*arguments)))


def show(name: str, results: Mapping[str, list[float]], factor: float, unit: str) -> None:
    """Print a row: medians, and the ratios of neighbours: their median and quartiles."""
    ours, theirs = (statistics.median(results[package]) * factor for package in PACKAGES)
    ratios = [other / own for own, other in zip(*(results[package] for package in PACKAGES), strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"{name:40}{unit:4}{ours:9.2f}{theirs:11.2f}{middle:8.2f}   {low:.2f} to {high:.2f}, {len(ratios)} runs")


def main() -> None:
    """Measure, and print a row for each measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="forward passes of each package (default 40)")
    parser.add_argument("--fits", type=int, default=9, help="calls of fit of each package (default 9)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="whose forward passes")
    parser.add_argument("--forward-only", action="store_true", help="measure no training")
    parser.add_argument("--measure", nargs="+", metavar=("NAME", "ARGUMENT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure_here(*options.measure)
        return
    print(f"{'medians':44}{'vit_tf':>9}{'keras_hub':>11}{'ratio':>8}   its quartiles")
    for name in options.models:
        for batch in (BATCH, 1):
            results = in_fresh_process("forward", options.rounds, name, batch)
            show(f"forward, {name}, batch {batch}", results["seconds"], 1e3, "ms")
            show("  CPU time", results["cpu_seconds"], 1e3, "ms")  # hardly longer on a busy machine
    if options.forward_only:
        return
    show(f"training step, {TRAINED}, batch {BATCH}", in_fresh_process("step", options.fits), 1e3, "ms")
    firsts = {package: [] for package in PACKAGES}
    for _ in range(FIRST_STEPS):
        for package in PACKAGES:
            firsts[package].append(in_fresh_process("first_step", package))
    for name, key, factor, unit in (
        ("first step, tracing included", "seconds", 1, "s"),
        ("first step, CPU time", "cpu_seconds", 1, "s"),  # hardly longer on a busy machine
        ("peak memory of training", "bytes", 1e-6, "MB"),
    ):
        show(name, {package: [one[key] for one in results] for package, results in firsts.items()}, factor, unit)


if __name__ == "__main__":
    main()
