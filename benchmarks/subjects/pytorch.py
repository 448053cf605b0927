"""PyTorch: forward passes and training steps of models as they are loaded, made ready for inference, and compiled."""

from benchmarks.models import VITS
from benchmarks.rows import Side, Subject
from benchmarks.subjects.forwards import (
    BATCHES,
    USUAL,
    WITH_MEMORY,
    grid,
    in_manner,
    large_images,
    relatives,
    training_step,
)

SIDES = {
    "trivit": Side("pytorch.from_folder", options={"package": "vit_torch"}),
    "transformers 5": Side("pytorch.from_folder", "transformers-5", options={"package": "transformers"}),
    "timm": Side("pytorch.timm", "transformers-5"),
    "onnxruntime": Side("pytorch.onnxruntime"),
    "optimized": Side("pytorch.optimized", called="trivit", options={"way": "float32"}),
    "int8": Side("pytorch.optimized", options={"way": "int8"}),
    "trivit, float32": Side("pytorch.optimized", options={"way": "float32"}),
    "torch.ao": Side("pytorch.optimized", options={"way": "dynamic"}),
    "matrix products": Side("pytorch.products", within="trivit"),
}
ALL = ("trivit", "transformers 5", "timm", "onnxruntime")
EAGER = ("trivit", "transformers 5", "timm")
INT8 = ("int8", "trivit, float32", "torch.ao", "onnxruntime")
LIMIT = "matrix products"
BASE = ("ViT-B/16", 8)
#: What whole runs have besides in PyTorch: of each size one, and of each batch.
OTHERS = {("ViT-Ti/16", 32), BASE, ("ViT-L/16", 1)}

SUBJECT = Subject(
    "pytorch",
    "PyTorch",
    SIDES,
    (
        *grid("float32", ALL, LIMIT, usual={*USUAL, *OTHERS}),
        *grid("bfloat16", EAGER, LIMIT),
        *grid("int8", INT8, "", VITS[1:2], BATCHES[:2], {WITH_MEMORY}),
        *grid("int8", INT8, "", VITS[2:3], BATCHES[:2], ()),
        *relatives(EAGER, LIMIT),
        *(
            in_manner(
                "optimized", model, batch, ("optimized", *ALL[1:]), LIMIT, "whole" if (model, batch) == BASE else "long"
            )
            for model in VITS[1:3]
            for batch in BATCHES[:2]
        ),
        in_manner("compiled", "ViT-S/16", 8, EAGER, LIMIT, "long", mode="compiled"),
        *large_images(ALL, LIMIT),
        training_step("ViT-S/16", 8, EAGER),
    ),
)
