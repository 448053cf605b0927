"""The models of timm."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks import weights
from benchmarks.models import CLASSES, IMAGE, MODELS
from benchmarks.sides.packages import imported
from benchmarks.sides.pytorch import passes

timm = imported("timm")


def load(
    model: str, image: int = IMAGE, layers: int = 0, attention: str = "sdpa"
) -> tuple[torch.nn.Module, passes.Call]:
    """A model with the common weights, and what calls it; timm chooses attention for the whole process."""
    timm.layers.set_fused_attn(attention == "sdpa")
    said = MODELS[model]
    folder = weights.folder(model, image, layers, said.timm_weights)
    (file,) = (each for each in folder.iterdir() if each.suffix in (".safetensors", ".pth"))
    made = timm.create_model(
        said.timm,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(file), "num_classes": CLASSES if said.is_classifier else 0},
        img_size=image,
        num_classes=CLASSES if said.is_classifier else 0,
        **({"depth": layers} if layers else {}),
    )
    return made, made if said.is_classifier else made.forward_features


prepare = partial(passes.prepare, load)
