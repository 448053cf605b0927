"""MAE's pre-training checkpoints: timm's names for the encoder, and for the decoder the same behind "decoder_".

Their position embeddings are fixed sines and cosines, kept as the file has them.
Reference: facebookresearch/mae, models_mae.py and util/misc.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from conversion.canonical import HEAD
from conversion.formats.format import Format
from conversion.formats.preprocessing import IMAGENET_CROP
from conversion.formats.rules import LAYER, TORCH_LEAVES, Module, Rules
from conversion.formats.timm_names import CLASS_TOKEN, CONVENTIONS, ENCODER, REFUSED, SIGNATURE
from vit_core.parameters import STACKS

DECODER = [
    Module(f"{HEAD}decoder.mask_token", "mask_token"),
    Module(f"{HEAD}decoder.decoder_pos_embed", "decoder_pos_embed"),
    Module(f"{HEAD}decoder.decoder_embed", "decoder_embed.{leaf}"),
    Module(f"{HEAD}decoder.decoder_norm", "decoder_norm.{leaf}"),
    Module(f"{HEAD}decoder.decoder_pred", "decoder_pred.{leaf}"),
]


def _of_decoder(modules: list[Module]) -> Iterator[Module]:
    """The rows of layers of the encoder as those of the decoder, which has the same layers."""
    for module in modules:
        names = (module.ours,) if isinstance(module.ours, str) else module.ours
        if LAYER in names[0]:
            ours = tuple(HEAD + name.replace(STACKS["encoder"], STACKS["decoder"], 1) for name in names)
            yield Module(ours, f"decoder_{module.theirs}")


MAE = Format(
    name="mae",
    title="MAE",
    rules=Rules(TORCH_LEAVES, [CLASS_TOKEN, *ENCODER, *_of_decoder(ENCODER), *DECODER]),
    models={"vit_mae": ("pre-training",)},
    signature=SIGNATURE,
    needs=((f"{HEAD}decoder.decoder_embed.weight",),),
    conventions=CONVENTIONS,
    preprocessing=IMAGENET_CROP,
    files={"torch": "mae.pth"},
    claims=lambda model, metadata: "decoder_embed.weight" in model.tensors,
    refused=REFUSED,
    inside="model",  # where MAE's code looks for them
)
