"""How much of timm opens: every architecture of its Vision Transformers, with two layers and random weights.

Run by `nox -s coverage`. Each is saved as timm saves it and opened here in PyTorch; its logits are compared with
timm's, in parts of their range. Prints a table in Markdown, and fails where one opens with other logits.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import defaultdict
from dataclasses import dataclass

import torchvision_operators  # isort: skip  # noqa: F401  # first, since timm imports torchvision
import timm
import torch
from timm.models import save_for_hf

import vit_torch

MODULES = ("vision_transformer", "deit", "beit", "eva")
LAYERS, CLASSES, PATCHES = 2, 10, 4
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Finding:
    """What became of an architecture: the largest difference of its logits, or why it was refused."""

    name: str
    difference: float | None
    reason: str = ""

    @property
    def is_right(self) -> bool:
        """Whether it opens with timm's logits."""
        return self.difference is not None and self.difference <= TOLERANCE


def built(name: str) -> tuple[torch.nn.Module, dict[str, object], int]:
    """An architecture with two layers and weights that all show in its logits, its arguments, and its image size."""
    patch = 16
    for part in name.split("_"):
        if part.startswith("patch") and part[5:].isdigit():
            patch = int(part[5:])
    arguments: dict[str, object] = {"depth": LAYERS, "num_classes": CLASSES, "img_size": PATCHES * patch}
    torch.manual_seed(0)
    model = timm.create_model(name, **arguments).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model, arguments, PATCHES * patch


def examined(name: str) -> Finding:
    """Open an architecture and compare its logits."""
    try:
        model, arguments, size = built(name)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        return Finding(name, None, f"timm does not build it with {LAYERS} layers ({type(error).__name__})")
    images = torch.randn(1, 3, size, size)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = model(images)
        save_for_hf(model, folder, model_args=arguments, safe_serialization=True)
        try:
            ours = vit_torch.AutoModelForImageClassification.from_pretrained(folder)(images).logits
        except (OSError, TypeError, ValueError) as error:
            return Finding(name, None, str(error).replace(folder, name).partition("\n")[0])
    return Finding(name, ((ours - theirs).abs().max() / (theirs.max() - theirs.min())).item())


def main(arguments: list[str] | None = None) -> int:
    """Examine all architectures whose names contain a word; the exit status is 1 where one opens wrongly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("word", nargs="?", default="", help="a part of the names that are meant; all unless given")
    word = parser.parse_args(arguments).word
    names = sorted({name for module in MODULES for name in timm.list_models(module=module) if word in name})
    findings = []
    for number, name in enumerate(names, 1):
        findings.append(examined(name))
        told = findings[-1].reason or f"{findings[-1].difference:.1e}"
        print(f"[{number}/{len(names)}] {name}: {told}", file=sys.stderr, flush=True)
    right = [each for each in findings if each.is_right]
    wrong = [each for each in findings if each.difference is not None and not each.is_right]
    refused = defaultdict(list)
    for each in findings:
        if each.difference is None:
            refused[each.reason.removeprefix(f"{each.name} ").removeprefix(f"{each.name}, ")].append(each.name)
    print(f"{len(right)} of {len(findings)} architectures of timm {timm.__version__} open with its logits.\n")
    print("| refused | why |\n|---|---|")
    for reason, which in sorted(refused.items(), key=lambda item: -len(item[1])):
        print(f"| {', '.join(f'`{name}`' for name in which)} | {reason} |")
    for each in wrong:
        print(f"\n{each.name} opens and is off by {each.difference:.1e} of the range of its logits.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
