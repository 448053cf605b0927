"""How much of timm opens: every architecture of its Vision Transformers, small, in PyTorch, Keras and Flax.

Run by `nox -s coverage`. Each is built with two narrow layers and random weights, and saved as timm saves it; it is
opened here in every framework, and its logits are compared with timm's, in parts of their range. Then it is written
for timm, which builds it anew. Prints tables in Markdown, and fails where one opens with other logits than timm's, in
one framework and not in another, or is written as another model.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import torchvision_operators  # isort: skip  # noqa: F401  # first, since timm imports torchvision
import numpy as np
import timm
import torch
from timm.models import save_for_hf

import conversion
from conversion.formats.timm_config import named_fields

MODULES = ("vision_transformer", "deit", "beit", "eva")
LAYERS, WIDTH, HEADS, CLASSES, GRID = 2, 96, 4, 10, (3, 4)
TOLERANCE = 1e-4
#: How small tokens are at first, so that the epsilon of the first norm shows in the logits.
FAINT = 3e-3
#: The package for each framework.
FRAMEWORKS = {"torch": "vit_torch", "tf": "vit_tf", "flax": "vit_flax"}
REFUSALS = (OSError, TypeError, ValueError)


@dataclass
class Finding:
    """What became of an architecture: in each framework the largest difference of its logits, or why it was refused.

    Under "timm", the same of the model that timm builds from what is written for it.
    """

    name: str
    differences: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def is_right(self, framework: str) -> bool:
        """Whether it has timm's logits there."""
        return self.differences.get(framework, np.inf) <= TOLERANCE

    def wrongs(self, frameworks: list[str]) -> list[str]:
        """What must not be."""
        found = [
            f"in {framework} its logits are off by {difference:.1e} of their range"
            for framework, difference in self.differences.items()
            if not difference <= TOLERANCE
        ]
        opened = [framework for framework in frameworks if framework in self.differences]
        if 0 < len(opened) < len(frameworks):
            found.append(f"it opens in {', '.join(opened)} alone")
        return found


@cache
def opener(framework: str) -> Callable[[str, np.ndarray], np.ndarray]:
    """What opens a folder in a framework and returns the logits of images."""
    model_class: Any = importlib.import_module(FRAMEWORKS[framework]).AutoModelForImageClassification

    def logits(folder: str, images: np.ndarray) -> np.ndarray:
        model = model_class.from_pretrained(folder)
        with torch.inference_mode():
            returned = model(torch.from_numpy(images) if framework == "torch" else images).logits
        return np.asarray(returned)

    return logits


def built(name: str) -> tuple[torch.nn.Module, dict[str, Any]]:
    """An architecture, small, with weights that all show in its logits, and its arguments.

    Raises:
        ValueError: its name does not tell the heads that it has in full size.
    """
    with torch.device("meta"):
        whole = timm.create_model(name, **({} if "sapiens2" in name else {"depth": 1}))
    heads = getattr(whole.blocks[0], "attns", [whole.blocks[0]])[0]
    heads = getattr(heads, "attn", heads).num_heads
    if (known := named_fields({"architecture": name}, whole.embed_dim)) != {"num_attention_heads": heads}:
        raise ValueError(
            f"{name} is {whole.embed_dim} wide and has {heads} heads, which its name does not tell: {known}."
        )
    sides = whole.patch_embed.patch_size
    arguments: dict[str, Any] = {
        "depth": LAYERS,
        "embed_dim": WIDTH,  # one for all, so that Flax compiles few shapes
        "num_heads": HEADS,
        "num_classes": CLASSES,
        "img_size": [count * side for count, side in zip(GRID, sides, strict=True)],
    }
    if "sapiens2" in name:
        arguments["num_kv_heads"] = [HEADS, HEADS // 2]
    torch.manual_seed(0)
    model = timm.create_model(name, **arguments).eval()
    with torch.no_grad():
        for where, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            if where.startswith(("patch_embed.proj", "pos_embed")) or where.endswith("_token"):
                parameter.mul_(FAINT)
    return model, arguments


def examined(name: str, frameworks: list[str]) -> Finding:
    """Open an architecture in frameworks, write it, and compare the logits."""
    found = Finding(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, arguments = built(name)
        images = torch.randn(2, 3, *arguments["img_size"])
        with tempfile.TemporaryDirectory() as temporary, torch.inference_mode():
            folder, written = f"{temporary}/{name}", f"{temporary}/written"
            theirs = model(images).numpy()
            save_for_hf(model, folder, model_args=arguments, safe_serialization=True)

            def compare(where: str, run: Callable[[], np.ndarray]) -> None:
                try:
                    found.differences[where] = float(np.abs(run() - theirs).max() / np.ptp(theirs))
                except REFUSALS as error:
                    told = str(error).replace(folder, "").replace(name, "").partition("\n")[0]
                    found.reasons[where] = told.lstrip(" ,")

            def rebuilt() -> np.ndarray:
                conversion.convert(folder, written, "timm")
                try:
                    return timm.create_model(f"local-dir:{written}", pretrained=True).eval()(images).numpy()
                except (RuntimeError, TypeError) as error:
                    print(f"{name}, written for timm: {error}", file=sys.stderr)
                    return np.full_like(theirs, np.inf)

            for framework in frameworks:
                compare(framework, lambda framework=framework: opener(framework)(folder, images.numpy()))
            if found.differences:
                compare("timm", rebuilt)
    return found


def report(findings: list[Finding], frameworks: list[str]) -> int:
    """Print what was found; returns how many findings must not be."""
    print(f"Of {len(findings)} architectures of timm {timm.__version__}:\n")
    print("| | with timm's logits | largest difference, in parts of their range |\n|---|---|---|")
    titles = {**{each: f"open in {each}" for each in frameworks}, "timm": "are built by timm from what is written"}
    for where, title in titles.items():
        right = [each.differences[where] for each in findings if each.is_right(where)]
        print(f"| {title} | {len(right)} | {max(right, default=0):.1e} |")
    for title, first in (("refused", frameworks[0]), ("not written for timm", "timm")):
        refused = defaultdict(list)
        for each in findings:
            if first in each.reasons:
                refused[each.reasons[first]].append(each.name)
        print(f"\n| {title} | why |\n|---|---|")
        for reason, which in sorted(refused.items(), key=lambda item: -len(item[1])):
            print(f"| {', '.join(f'`{name}`' for name in which)} | {reason} |")
    wrongs = [f"{each.name}: {wrong}" for each in findings for wrong in each.wrongs(frameworks)]
    print(*("", *wrongs) if wrongs else "", sep="\n")
    return len(wrongs)


def main(arguments: list[str] | None = None) -> int:
    """Examine all architectures whose names contain a word; the exit status is 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("word", nargs="?", default="", help="a part of the names that are meant; all unless given")
    parser.add_argument(
        "--framework",
        action="append",
        choices=FRAMEWORKS,
        help="where to open them, several times; in all unless given",
    )
    chosen = parser.parse_args(arguments)
    frameworks = chosen.framework or list(FRAMEWORKS)
    names = sorted({name for module in MODULES for name in timm.list_models(module=module) if chosen.word in name})
    findings, began = [], time.monotonic()
    for number, name in enumerate(names, 1):
        findings.append(examined(name, frameworks))
        told = {**{where: f"{each:.1e}" for where, each in findings[-1].differences.items()}, **findings[-1].reasons}
        print(f"[{number}/{len(names)}] {name}: {told}", file=sys.stderr, flush=True)
    wrongs = report(findings, frameworks)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    return 1 if wrongs else 0


if __name__ == "__main__":
    sys.exit(main())
