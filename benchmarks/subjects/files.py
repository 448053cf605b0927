"""Loading and converting files."""

from benchmarks.rows import Length, Row, Side, Subject
from conversion.format_names import WRITABLE_NAMES

BASE, LARGE = "ViT-B/16", "ViT-L/16"
SIDES = {
    "trivit": Side("loading", options={"package": "vit_torch"}),
    "transformers 5": Side("loading", "transformers-5", options={"package": "transformers"}),
    "trivit convert": Side("converting", called="trivit"),
    "reading the file": Side("copying", within="trivit", options={"writes": False}),
    "copying the file": Side("copying", within="trivit convert", options={"writes": True}),
}
#: Formats of ViT's that a base model is written in, the first one in whole runs.
USUAL = ("timm", "transformers-flax", "keras-hub")
NOT_OF_VIT = ("big-vision-siglip", "clip", "open-clip", "dinov3", "dinov2", "mae")


def conversion(model: str, to: str, length: Length) -> Row:
    """A row of conversions."""
    work = {"model": model, "to": to}
    return Row(f"convert {model} to {to}", work, ("trivit convert",), "copying the file", length, 2, has_memory=True)


LOADING = ("trivit", "transformers 5")

SUBJECT = Subject(
    "files",
    "Files",
    SIDES,
    (
        Row(f"load {BASE} in PyTorch", {"model": BASE}, LOADING, "reading the file", "whole", has_memory=True),
        *(conversion(BASE, to, "whole" if to == USUAL[0] else "long") for to in USUAL),
        *(conversion(LARGE, to, "long") for to in WRITABLE_NAMES if to not in NOT_OF_VIT),
    ),
)
