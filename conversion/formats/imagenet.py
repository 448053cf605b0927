"""The names of ImageNet-1k's classes (WordNet's words for their synsets), in the order of the 1,000 logits."""

from __future__ import annotations

from pathlib import Path

NAMES = Path(__file__).with_name("imagenet_1k.txt")
CLASS_COUNT = 1000


def imagenet_labels() -> dict[int, str]:
    """{number of the class: its names}, such as {0: "tench, Tinca tinca", ...}; two are "crane"."""
    return dict(enumerate(NAMES.read_text(encoding="utf-8").splitlines()))
