"""What token merging gains and what it costs: throughput of ViT-S/16, and agreement of the bundled reader of digits.

Throughput does not depend on the weights, which are random; agreement does, and is that of `bundled/vit-digits` on the
450 images that scikit-learn's digits have left for tests. Both are drawn over the share of tokens that layers have, on
average, of those without merging. Passes run one after the other, in another order each round; a ratio is of two passes
of one round, so that a busy machine slows both. Usage:

    python benchmarks/token_merging.py [--framework torch|tf|flax] [--rounds N] [--batch N] [--busy] [--picture FILE]

It needs scikit-learn, and matplotlib for a picture.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vit_core import AutoImageProcessor, ViTConfig
from vit_core.token_merging import Schedule, merged_counts

SMALL = ViTConfig(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536, num_labels=1000)
SPEEDS: dict[Schedule, Sequence[int]] = {"constant": (4, 8, 12, 16), "decreasing": (4, 8, 12, 14, 16)}
DIGITS: dict[Schedule, Sequence[int]] = {"constant": (2, 4, 8, 12, 15, 20, 32), "decreasing": (2, 4, 8, 12, 15)}
DIGITS_MODEL = "bundled/vit-digits"
Case = tuple[int, Schedule]
PLAIN: Case = (0, "constant")


def left(case: Case, config: ViTConfig) -> float:
    """The share of tokens that the halves of the layers have, on average, of those without merging."""
    patches = config.grid[0] * config.grid[1]
    tokens, seen = patches, []
    for count in merged_counts(*case, config.num_hidden_layers) or (0,) * config.num_hidden_layers:
        seen.append(1 + tokens)
        tokens -= min(count, tokens // 2)
        seen.append(1 + tokens)
    return statistics.mean(seen) / (1 + patches)


def runner(framework: str, model: Any, case: Case) -> Callable[[np.ndarray], np.ndarray]:
    """The model's logits where layers merge so many tokens; compiled where that is usual."""
    model.merge_tokens(*case)
    if framework == "torch":
        import torch

        def run(images: np.ndarray) -> np.ndarray:
            model.merge_tokens(*case)  # all cases share the model
            with torch.inference_mode():
                return np.asarray(model(torch.from_numpy(images)).logits)

        return run
    if framework == "tf":
        import tensorflow as tf

        graph = tf.function(lambda images: model(images).logits, autograph=False)

        def run_graph(images: np.ndarray) -> np.ndarray:
            model.merge_tokens(*case)  # which the first call traces
            return np.asarray(graph(images))

        return run_graph
    import jax

    module = model.module
    compiled = jax.jit(lambda params, images: module.apply({"params": params}, images.transpose(0, 2, 3, 1)).logits)
    return lambda images: np.asarray(compiled(model.params, images))


def measured(
    runs: dict[Case, Callable[..., Any]], images: np.ndarray, rounds: int, clock: Callable[[], float]
) -> dict[Case, list[float]]:
    """How many times as many images each case takes in a second as the plain model, in each round."""
    ratios: dict[Case, list[float]] = {case: [] for case in runs}
    for case in runs:
        runs[case](images)  # compiles
    for _ in range(rounds):
        seconds = {}
        for case in random.sample(list(runs), len(runs)):
            start = clock()
            runs[case](images)
            seconds[case] = clock() - start
        for case in runs:
            ratios[case].append(seconds[PLAIN] / seconds[case])
    return ratios


def test_digits() -> tuple[np.ndarray, np.ndarray]:
    """The images that the bundled model was not trained on, as it reads them, and what they show."""
    values, labels = load_digits(return_X_y=True)
    images = np.round(values.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    _, test, _, test_labels = train_test_split(images, labels, test_size=0.25, stratify=labels, random_state=0)
    processor = AutoImageProcessor.from_pretrained(DIGITS_MODEL)
    return processor([Image.fromarray(image) for image in test], return_tensors="np")["pixel_values"], test_labels


def cases_of(numbers: dict[Schedule, Sequence[int]]) -> list[Case]:
    """The plain model and the cases of a table."""
    return [PLAIN, *((number, schedule) for schedule, several in numbers.items() for number in several)]


def draw(path: Path, panels: dict[str, dict[Case, tuple[float, float]]]) -> None:
    """Draw a panel for each measure, over the share of tokens that layers have."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator

    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    styles: dict[Schedule, dict[str, Any]] = {
        "constant": {"color": "#00897b", "marker": "o"},
        "decreasing": {"color": "#8e24aa", "marker": "s", "linestyle": "--"},
    }
    for axes, (title, points) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for schedule, style in styles.items():
            own = {case: point for case, point in points.items() if case == PLAIN or case[1] == schedule}
            axes.plot(*zip(*own.values(), strict=True), markersize=4, label=schedule, **style)
            for (number, _), point in own.items():
                below = schedule == "decreasing"
                axes.annotate(
                    str(number) if number or below else "",
                    point,
                    (0, -11 if below else 6),
                    textcoords="offset points",
                    ha="center",
                    fontsize=7,
                    color=style["color"],
                )
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("tokens in a layer, on average, of those without merging", fontsize=8)
        axes.invert_xaxis()
        axes.margins(y=0.15)
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="best", title="tokens merged a layer", title_fontsize=8)
    figure.axes[0].yaxis.set_major_locator(MultipleLocator(0.5))
    figure.axes[0].yaxis.set_major_formatter("{x:.1f}x")
    figure.axes[1].yaxis.set_major_formatter("{x:.1%}")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, print, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", choices=("torch", "tf", "flax"), default="torch")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--busy", action="store_true", help="count this process's time alone: others use the machine")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw both")
    given = parser.parse_args()
    classes = import_module(f"vit_{given.framework}")
    model = classes.ViTForImageClassification(SMALL)
    if given.framework == "torch":
        model.eval()
    images = np.random.default_rng(0).standard_normal((given.batch, 3, *SMALL.image_shape)).astype("float32")
    runs = {case: runner(given.framework, model, case) for case in cases_of(SPEEDS)}
    ratios = measured(runs, images, given.rounds, time.process_time if given.busy else time.perf_counter)
    print(f"ViT-S/16, {given.framework}, batches of {given.batch}, {given.rounds} rounds\n")
    print("| merged a layer | schedule | tokens left | throughput, quartiles |\n|---|---|---|---|")
    speeds = {}
    for case, each in ratios.items():
        low, middle, high = statistics.quantiles(each, n=4)
        speeds[case] = (left(case, SMALL), middle)
        print(f"| {case[0]} | {case[1]} | {left(case, SMALL):.0%} | {middle:.2f} ({low:.2f} to {high:.2f}) |")

    reader = classes.ViTForImageClassification.from_pretrained(DIGITS_MODEL)
    digits, labels = test_digits()
    answers = {case: runner(given.framework, reader, case)(digits) for case in cases_of(DIGITS)}
    print(f"\n{DIGITS_MODEL}, {len(digits)} test images\n")
    print("| merged a layer | schedule | tokens left | same answer | right | logits' mean change |")
    print(f"{'|---' * 6}|")
    agreements = {}
    for case, logits in answers.items():
        same = (logits.argmax(1) == answers[PLAIN].argmax(1)).mean()
        agreements[case] = (left(case, reader.config), float(same))
        right, change = (logits.argmax(1) == labels).mean(), abs(logits - answers[PLAIN]).mean()
        share = left(case, reader.config)
        print(f"| {case[0]} | {case[1]} | {share:.0%} | {same:.1%} | {right:.1%} | {change:.3f} |")
    if given.picture:
        titles = ("images a second, ViT-S/16", f"same answer as without merging, {DIGITS_MODEL.split('/')[1]}")
        draw(given.picture, dict(zip(titles, (speeds, agreements), strict=True)))


if __name__ == "__main__":
    main()
