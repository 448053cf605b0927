"""How fast forward passes are in PyTorch, beside transformers and timm: plain ViT, and rotary positions and registers.

All three have the same sizes, float32, scaled dot product attention and no compiler, as they are loaded. They run one
after the other, in another order each round, so that a busy machine slows all alike; a ratio is of the two passes of
one round. Usage:

    python benchmarks/torch_speed.py [--rounds N] [--threads N] [--busy] [NAME ...]

It needs transformers, timm and torchvision.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "interop"))
import torchvision_operators  # isort: skip  # noqa: F401  # first, since timm imports torchvision
import timm
import torch
import transformers

import vit_torch

IMAGE, BATCHES = 224, (1, 8)
SMALL: dict[str, Any] = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": IMAGE}
TOLERANCE = 1e-4  # of twelve layers with random weights


@dataclass(frozen=True)
class Family:
    """Whom a model is called by, here and in transformers, with the fields of its config; and in timm."""

    model: str
    timm: str
    fields: dict[str, Any] = field(default_factory=dict)


FAMILIES = {
    "ViT-S/16": Family("ViTModel", "vit_small_patch16_224", {"patch_size": 16, "intermediate_size": 1536}),
    "DINOv2-S/14": Family("Dinov2Model", "vit_small_patch14_dinov2", {"patch_size": 14}),
    "DINOv2-S/14 with registers": Family(
        "Dinov2WithRegistersModel", "vit_small_patch14_reg4_dinov2", {"patch_size": 14, "num_register_tokens": 4}
    ),
    "DINOv3-S/16": Family(
        "DINOv3ViTModel",
        "vit_small_patch16_dinov3",
        {"patch_size": 16, "intermediate_size": 1536, "num_register_tokens": 4},
    ),
}
Models = dict[str, torch.nn.Module]


def models_of(family: Family) -> Models:
    """The models of a family, with random weights; ours are transformers'.

    Raises:
        SystemExit: ours and transformers' answer differently.
    """
    theirs_class = getattr(transformers, family.model)
    theirs = theirs_class._from_config(theirs_class.config_class(**SMALL, **family.fields)).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = getattr(vit_torch, family.model).from_pretrained(folder).eval()
    images = torch.randn(1, 3, IMAGE, IMAGE)
    with torch.inference_mode():
        difference = (ours(images)[0] - theirs(images)[0]).abs().max().item()
    if difference > TOLERANCE:
        raise SystemExit(f"{family.model} differs from transformers' by {difference:.1e}")
    timms = timm.create_model(family.timm, img_size=IMAGE, num_classes=0).eval()
    return {"trivit": ours, "transformers": theirs, "timm": timms}


def timed(function: Callable[[], object], clock: Callable[[], float]) -> float:
    """Milliseconds that a call takes."""
    start = clock()
    function()
    return (clock() - start) * 1e3


def measured(models: Models, batch: int, rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Milliseconds of each model's forward pass in each round."""
    images = torch.randn(batch, 3, IMAGE, IMAGE)
    results: dict[str, list[float]] = {name: [] for name in models}
    for count in range(-2, rounds):  # the first ones warm up
        for name in random.sample(list(models), len(models)):
            milliseconds = timed(lambda name=name: models[name](images), clock)  # type: ignore[misc]
            if count >= 0:
                results[name].append(milliseconds)
    return results


def row(title: str, batch: int, results: dict[str, list[float]]) -> str:
    """A row of the table: medians, and ratios of passes of one round, with their quartiles."""
    ours, *others = results
    cells = [title, str(batch), *(f"{statistics.median(times):.1f}" for times in results.values())]
    for other in others:
        ratios = [mine / theirs for mine, theirs in zip(results[ours], results[other], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        cells.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
    return f"| {' | '.join(cells)} |"


@torch.inference_mode()
def main() -> None:
    """Measure each family in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"families, of {', '.join(FAMILIES)}; all by default")
    parser.add_argument("--rounds", type=int, default=60, help="of a batch of 1; of larger ones a third (60)")
    parser.add_argument("--threads", type=int, help="of PyTorch; as many as it takes by default")
    parser.add_argument("--busy", action="store_true", help="count this process's time alone: others use the machine")
    given = parser.parse_args()
    clock = time.process_time if given.busy else time.perf_counter
    if given.threads:
        torch.set_num_threads(given.threads)
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads; transformers {transformers.__version__}, ")
    print(f"timm {timm.__version__}; milliseconds, medians; ratios of passes of one round, with their quartiles\n")
    heads = ["model", "batch", "trivit", "transformers", "timm", "trivit / transformers", "trivit / timm"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name in given.names or FAMILIES:
        models = models_of(FAMILIES[name])
        for batch in BATCHES:
            rounds = given.rounds if batch == 1 else max(given.rounds // 3, 2)
            print(row(name, batch, measured(models, batch, rounds, clock)), flush=True)


if __name__ == "__main__":
    main()
