"""The names of the formats that can be written, for a command line that must not wait for the formats themselves."""

WRITABLE_NAMES = (
    "transformers",
    "transformers-bin",
    "transformers-tf",
    "transformers-flax",
    "google",
    "google-linen",
    "big-vision",
    "big-vision-siglip",
    "clip",
    "open-clip",
    "dinov3",
    "dinov2",
    "mae",
    "timm",
    "dino",
    "torchvision",
    "keras-hub",
)
