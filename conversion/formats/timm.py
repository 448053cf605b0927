"""timm's Vision Transformers: fused q/k/v, and a `config.json` of its own on the Hub.

Reference: timm/models/vision_transformer.py and timm/models/_hub.py.
"""

from __future__ import annotations

from conversion.formats import timm_config
from conversion.formats.format import Format
from conversion.formats.rules import TORCH_LEAVES, Rules
from conversion.formats.timm_any import TIMM_ANY
from conversion.formats.timm_config import is_timm_config
from conversion.formats.timm_names import CLASS_TOKEN, CONVENTIONS, ENCODER, HEAD_LAYER, REFUSED, SIGNATURE
from conversion.formats.timm_relatives import TIMM_BEIT, TIMM_DEIT

TIMM = Format(
    name="timm",
    title="timm",
    rules=Rules(TORCH_LEAVES, [CLASS_TOKEN, *ENCODER, HEAD_LAYER]),
    signature=SIGNATURE,
    conventions=CONVENTIONS,
    told=("hidden_act",),
    preprocessing=timm_config.PREPROCESSING,
    files={"safetensors": "model.safetensors", "torch": "pytorch_model.bin"},
    claims=lambda model, metadata: is_timm_config(metadata) or "head.weight" in model.tensors,
    refused=REFUSED,
    others=(TIMM_DEIT, TIMM_BEIT, TIMM_ANY),
    config_fields=timm_config.config_fields,
    named_fields=timm_config.named_fields,
    preprocessing_fields=timm_config.preprocessing_fields,
    config_file=timm_config.config_file,
)
