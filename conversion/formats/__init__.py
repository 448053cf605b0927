"""The formats, in the order in which they are tried: one that claims a part of another's files comes before it."""

from conversion.formats.clip import CLIP, OPEN_CLIP
from conversion.formats.deit import DEIT
from conversion.formats.dino import DINO
from conversion.formats.dinov2 import DINOV2, DINOV2_REGISTERS
from conversion.formats.dinov3 import DINOV3
from conversion.formats.format import Format
from conversion.formats.google import BIG_VISION, BIG_VISION_SIGLIP, GOOGLE, GOOGLE_LINEN
from conversion.formats.keras import KERAS
from conversion.formats.keras_hub import KERAS_HUB
from conversion.formats.mae import MAE
from conversion.formats.published import PUBLISHED
from conversion.formats.timm import TIMM
from conversion.formats.timm_any import TIMM_ANY
from conversion.formats.timm_relatives import DEIT_DISTILLED, TIMM_BEIT, TIMM_DEIT
from conversion.formats.torchvision import TORCHVISION
from conversion.formats.transformers import TRANSFORMERS, TRANSFORMERS_5, TRANSFORMERS_BIN
from conversion.formats.transformers_flax import FLAX_CLIP, FLAX_DINOV2, TRANSFORMERS_FLAX
from conversion.formats.transformers_tf import TF_CLIP, TRANSFORMERS_TF

FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        *PUBLISHED,
        TRANSFORMERS_5,
        TRANSFORMERS,
        TRANSFORMERS_BIN,
        TF_CLIP,
        TRANSFORMERS_TF,
        FLAX_DINOV2,
        FLAX_CLIP,
        TRANSFORMERS_FLAX,
        GOOGLE,
        GOOGLE_LINEN,
        BIG_VISION,
        BIG_VISION_SIGLIP,
        CLIP,
        OPEN_CLIP,
        DINOV3,
        DINOV2_REGISTERS,
        DINOV2,
        TIMM_ANY,
        MAE,
        DEIT_DISTILLED,
        TIMM_DEIT,
        TIMM_BEIT,
        DEIT,
        TIMM,
        DINO,
        TORCHVISION,
        *KERAS_HUB.others,
        KERAS_HUB,
        KERAS,
    )
}
_STAND_INS = {other.name for each in FORMATS.values() for other in each.others}
#: The formats that can be written; some are written as others, for models that they have not.
WRITABLE = {name: each for name, each in FORMATS.items() if each.files and name not in _STAND_INS}
