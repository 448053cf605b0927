"""Preparing photographs for a model: with the pixels of PIL, with PyTorch's resize, and from drafts of large files."""

from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.rows import Length, Row, Side, Subject


def ours(package: str, processor: str, **options: object) -> Side:
    """One of our processors."""
    return Side("images", options={"package": package, "processor": processor, "takes_files": True, **options})


def theirs(environment: str, processor: str = "ViTImageProcessor", **options: str) -> Side:
    """One of transformers'."""
    return Side("images", environment, options={"package": "transformers", "processor": processor, **options})


def least(what: str, called: str) -> Side:
    """What cannot be done without."""
    return Side("images_least", within="trivit", called=called, options={"least": what})


SIDES = {
    "trivit": ours("vit_core", "ViTImageProcessor"),
    "trivit, fast": ours("vit_torch", "ViTImageProcessorFast", tensors="pt"),
    "trivit, draft": ours("vit_core", "ViTImageProcessor", draft=True),
    "transformers 5": theirs("transformers-5"),
    "transformers 5, PIL": theirs("transformers-5", "ViTImageProcessorPil"),
    "transformers 5, fast": theirs("transformers-5", tensors="pt"),
    "transformers 4": theirs("transformers-4"),
    "resize": least("resize", "PIL's resize alone"),
    "decode": least("decode", "PIL's decoding alone"),
    "decode and resize": least("decode and resize", "PIL's decoding and resize"),
    "draft and resize": least("draft and resize", "PIL's draft and resize"),
}
ALL = ("trivit", "transformers 5", "transformers 5, PIL", "transformers 4")
FAST = ("trivit, fast", "transformers 5, fast")
DRAFT = ("trivit, draft", "transformers 5", "transformers 5, PIL", "transformers 4")
PHOTO, TWELVE_MEGAPIXELS = (500, 375), (4000, 3000)
#: torchvision resizes, and other versions of Pillow round, by up to a level of 255 or so otherwise; a draft by more.
TOLERANCE, DRAFT_TOLERANCE = 0.1, 0.5


class Kind(NamedTuple):
    """Rows of one size, and what they have in common."""

    batch: int
    size: tuple[int, int]
    kind: str
    manner: str
    sides: tuple[str, ...]
    limit: str
    length: Length = "whole"
    tolerance: float = TOLERANCE


KINDS = (
    Kind(32, PHOTO, "PIL images", "", ALL, "resize", "quick"),
    Kind(32, PHOTO, "JPEG files", "", ALL, "decode and resize", "whole"),
    Kind(32, PHOTO, "PIL images", "ViTImageProcessorFast", FAST, "resize"),
    Kind(32, PHOTO, "JPEG files", "ViTImageProcessorFast", FAST, "decode"),
    Kind(4, TWELVE_MEGAPIXELS, "JPEG files", "", ALL, "decode and resize"),
    Kind(4, TWELVE_MEGAPIXELS, "JPEG files", "draft=True", DRAFT, "draft and resize", "whole", DRAFT_TOLERANCE),
)


def rows() -> Iterator[Row]:
    """Each kind."""
    for each in KINDS:
        work = {"kind": each.kind, "batch": each.batch, "size": list(each.size)}
        width, height = each.size
        title = f"{each.batch} {each.kind} of {width} x {height}" + (f", {each.manner}" if each.manner else "")
        yield Row(title, work, each.sides, each.limit, each.length, tolerance=each.tolerance)


SUBJECT = Subject("images", "Preparing images", SIDES, tuple(rows()))
