"""MAE's pre-training checkpoints, of which the encoder is a ViT: timm's names beside a decoder.

Its position embeddings are fixed sines and cosines, kept as the file has them.
Reference: facebookresearch/mae, models_mae.py.
"""

from __future__ import annotations

from dataclasses import replace

from conversion.formats.dino import DINO

MAE = replace(
    DINO,
    name="mae",
    title="MAE",
    files={},
    claims=lambda model, metadata: "decoder_embed.weight" in model.tensors,
    left_out=("decoder_*", "mask_token"),
)
