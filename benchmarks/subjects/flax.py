"""JAX and Flax: compiled forward passes and training steps."""

from benchmarks.models import VITS
from benchmarks.rows import Side, Subject
from benchmarks.subjects.forwards import grid, large_images, training_step

#: An allocator whose large pieces cost a page fault for each two megabytes, rather than for each four kilobytes.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
SIDES = {
    "trivit": Side("flax.trivit"),
    "transformers 4": Side("flax.transformers_4", "transformers-4"),
    "plain linen": Side("flax.plain"),
    "trivit, huge pages": Side("flax.trivit", called="trivit", variables=HUGE_PAGES),
    "transformers 4, huge pages": Side(
        "flax.transformers_4", "transformers-4", called="transformers 4", variables=HUGE_PAGES
    ),
    "our PyTorch": Side("pytorch.from_folder", options={"package": "vit_torch"}),
    "matrix products": Side("flax.products", within="trivit"),
}
ALL = ("trivit", "transformers 4", "plain linen")
LIMIT = "matrix products"

SUBJECT = Subject(
    "flax",
    "JAX and Flax",
    SIDES,
    (
        *grid("float32", ALL, LIMIT),
        *grid("bfloat16", ALL, LIMIT, VITS[1:3], (1, 8)),
        *large_images(ALL, LIMIT),
        training_step("ViT-S/16", 8, (*ALL, "our PyTorch"), length="long"),
        training_step(
            "ViT-S/16", 8, (*(f"{name}, huge pages" for name in ALL[:2]), "our PyTorch"), "huge pages", "long"
        ),
    ),
)
