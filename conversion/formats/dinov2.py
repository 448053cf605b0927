"""DINOv2's backbones, with and without register tokens: timm's names, scaled layers, a mask token.

Reference: facebookresearch/dinov2, dinov2/models/vision_transformer.py and dinov2/layers/swiglu_ffn.py. Positions are
resampled with DINO's offset by the models without registers, and with antialiasing by those with them (dinov2/hub).
"""

from __future__ import annotations

from typing import Any

from conversion.formats.format import Format, Found, Settings
from conversion.formats.preprocessing import IMAGENET_CROP
from conversion.formats.published_names import GATE, IF_GATED, LAYER
from conversion.formats.rules import TORCH_LEAVES, DropFirstAxis, Module, Rules
from conversion.formats.timm_names import CLASS_TOKEN, CONVENTIONS, ENCODER
from vit_core.config import PretrainedConfig

MASK_TOKEN = Module("embeddings.mask_token", "mask_token", steps=(DropFirstAxis(),))
SCALES = [
    Module(f"{LAYER}.lambda_1", "blocks.*.ls1.gamma"),
    Module(f"{LAYER}.lambda_2", "blocks.*.ls2.gamma"),
]
MLP = (f"{LAYER}.intermediate.dense", f"{LAYER}.output.dense")
#: A gated MLP, gate before value in one layer; and the plain one.
MLPS = [
    Module((GATE, MLP[0]), "blocks.*.mlp.w12.{leaf}"),
    Module(MLP[1], "blocks.*.mlp.fc2.{leaf}", unless=IF_GATED),
    Module(MLP[1], "blocks.*.mlp.w3.{leaf}"),
    Module(MLP[0], "blocks.*.mlp.fc1.{leaf}", unless=IF_GATED),
]
REST = [module for module in ENCODER if module.ours not in MLP]


def resampled_with_offset(model: Found, metadata: Settings) -> dict[str, Any]:
    """How the authors' code resamples positions; a `config.json` of ours beside the file says itself."""
    is_ours = metadata.get("model_type") in ("vit", "dinov2")
    return {} if is_ours else {"position_resampling": "offset"}


def _lacks(config: PretrainedConfig) -> str:
    """The authors' code takes positions for those of a square."""
    rows, columns = config.grid
    return "" if rows == columns else f"positions of {rows} x {columns} patches, which are no square"


def _computes(config: PretrainedConfig) -> Settings:
    return {name: value for name, value in CONVENTIONS.items() if name != "hidden_act" or not config.use_swiglu_ffn}


def _dinov2(name: str, title: str, model_type: str, modules: list[Module], signature: str, **more: Any) -> Format:
    return Format(
        name=name,
        title=title,
        rules=Rules(TORCH_LEAVES, [CLASS_TOKEN, *modules, MASK_TOKEN, *REST, *SCALES, *MLPS]),
        models={model_type: ("model",)},
        signature=("cls_token", "patch_embed.proj.weight", "mask_token", "blocks.0.ls1.gamma", signature),
        conventions=CONVENTIONS,
        preprocessing=IMAGENET_CROP,
        files={"torch": "dinov2.pth"},
        always={"use_mask_token": "a mask token"},
        lacks=_lacks,
        computes=_computes,
        **more,
    )


DINOV2_REGISTERS = _dinov2(
    "dinov2-registers",
    "DINOv2 with registers",
    "dinov2_with_registers",
    [Module("embeddings.register_tokens", "register_tokens")],
    "register_tokens",
    needs=(("embeddings.register_tokens",),),
)
DINOV2 = _dinov2(
    "dinov2",
    "DINOv2",
    "dinov2",
    [],
    "pos_embed",
    fields_of=resampled_with_offset,
    resamplings=("offset",),
    others=(DINOV2_REGISTERS,),
)
