"""Preparing photographs for a model."""

from benchmarks.rows import Row, Side, Subject

BATCH = 32
OURS = {"package": "vit_core", "processor": "ViTImageProcessor", "takes_files": True}
SIDES = {
    "trivit": Side("images", options=OURS),
    "transformers 5": Side(
        "images", "transformers-5", options={"package": "transformers", "processor": "ViTImageProcessor"}
    ),
    "transformers 5, PIL": Side(
        "images", "transformers-5", options={"package": "transformers", "processor": "ViTImageProcessorPil"}
    ),
    "transformers 4": Side(
        "images", "transformers-4", options={"package": "transformers", "processor": "ViTImageProcessor"}
    ),
    "PIL alone": Side("images_least", within="trivit"),
}
SIDES_OF_ALL = ("trivit", "transformers 5", "transformers 5, PIL", "transformers 4")
#: torchvision resizes, and other versions of Pillow round, by up to a level of 255 or so otherwise.
TOLERANCE = 0.1

SUBJECT = Subject(
    "images",
    "Preparing images",
    SIDES,
    tuple(
        Row(
            f"{BATCH} {kind} of 500 x 375",
            {"kind": kind, "batch": BATCH},
            SIDES_OF_ALL,
            "PIL alone",
            "quick",
            1,
            TOLERANCE,
        )
        for kind in ("PIL images", "JPEG files")
    ),
)
