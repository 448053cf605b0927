"""DINO's backbones, alone or in a training checkpoint, of which the teacher is taken: timm's names without a head.

Their positions are resampled for other sizes of images as DINO's code does it, which a config keeps in a field of its
own, `position_resampling`.
Reference: facebookresearch/dino, vision_transformer.py and main_dino.py.
"""

from __future__ import annotations

from conversion.formats.dinov2 import resampled_with_offset
from conversion.formats.format import Format
from conversion.formats.preprocessing import IMAGENET_CROP
from conversion.formats.rules import TORCH_LEAVES, Rules
from conversion.formats.timm_names import CLASS_TOKEN, CONVENTIONS, ENCODER, REFUSED, SIGNATURE

DINO = Format(
    name="dino",
    title="DINO",
    rules=Rules(TORCH_LEAVES, [CLASS_TOKEN, *ENCODER]),
    models={"vit": ("model",)},
    signature=SIGNATURE,
    conventions=CONVENTIONS,
    preprocessing=IMAGENET_CROP,
    files={"torch": "dino.pth"},
    refused=REFUSED,
    fields_of=resampled_with_offset,
    resamplings=("offset",),
)
