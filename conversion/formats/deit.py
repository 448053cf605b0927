"""DeiT's own checkpoints, without distillation: timm's names in a "model" entry, and ImageNet's preprocessing.

Reference: facebookresearch/deit, models.py.
"""

from __future__ import annotations

from dataclasses import replace

from conversion.formats.preprocessing import IMAGENET_CROP
from conversion.formats.timm import TIMM

DEIT = replace(
    TIMM,
    name="deit",
    title="DeiT",
    told=(),
    preprocessing=IMAGENET_CROP,
    files={},
    others=(),
    claims=lambda model, metadata: model.place in ("model", "model_ema") and "head.weight" in model.tensors,
)
