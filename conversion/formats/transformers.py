"""transformers' PyTorch checkpoints: the canonical names and layout, and their other spellings."""

from __future__ import annotations

from dataclasses import replace

from conversion.canonical import HEAD, in_words
from conversion.formats.format import ALL_MODELS, Format, Found, Settings, Tensors
from conversion.formats.published import CONVENTIONS, IMAGENET, PREFIXES, PUBLISHED, UNSURE
from conversion.formats.rules import TORCH_LEAVES, Module, Rule, Rules, kinds
from vit_core.parameters import STACKS
from vit_core.renaming import renamed

PATCHES = "embeddings.patch_embeddings.projection.weight"


def _is_like_vit(model: Found, metadata: Settings) -> bool:
    """Whether layers are called as ViT's: other models embed patches under the same names."""
    return any(name in model.tensors for name in ("embeddings.cls_token", "encoder.layer.0.layernorm_before.weight"))


def _as_published(tensors: Tensors) -> Tensors:
    """Tensors by the names that everyone else gives them, of a file of transformers 5.

    Version 5.24 writes the layers of MAE's decoder under the encoder's name, and those of a ViT-MSN with a head without
    what stands before its other names.
    """
    start = f"{STACKS['encoder']}."
    decoder = f"decoder.decoder_{start}"
    bare = {name for name in tensors if name.startswith(start)}
    prefix = next((each for each in PREFIXES.values() if bare and each + PATCHES in tensors), "")

    def spelling(name: str) -> str:
        if name.startswith(decoder):
            return f"{STACKS['decoder']}.{name.removeprefix(decoder)}"
        return prefix + name if name in bare else name

    return renamed(tensors, spelling)


TRANSFORMERS = Format(
    name="transformers",
    title="transformers",
    rules=Rules(TORCH_LEAVES, lambda: [Rule((name,), (in_words(name),)) for name in kinds()]),
    models=ALL_MODELS,
    signature=(PATCHES,),
    normalised=_as_published,
    conventions=CONVENTIONS,
    keeps_defaults=True,
    told=tuple(CONVENTIONS),
    unsure=UNSURE,
    preprocessing_of={"vit_mae": IMAGENET},
    files={"safetensors": "model.safetensors", "torch": "pytorch_model.bin"},
    base_prefixes=PREFIXES,
    claims=_is_like_vit,
    others=PUBLISHED,
    shards=True,
)
TRANSFORMERS_BIN = replace(
    TRANSFORMERS,
    name="transformers-bin",
    title="transformers' pytorch_model.bin",
    files={"torch": "pytorch_model.bin"},
)


#: The names of modules in transformers 5, whose checkpoints keep the old ones.
TRANSFORMERS_5 = replace(
    TRANSFORMERS,
    name="transformers-5",
    title="a state dict of transformers 5",
    rules=Rules(
        TORCH_LEAVES,
        [
            Module("embeddings.cls_token", "embeddings.cls_token"),
            Module("embeddings.mask_token", "embeddings.mask_token"),
            Module("embeddings.position_embeddings", "embeddings.position_embeddings"),
            Module("embeddings.patch_embeddings.projection", "embeddings.patch_embeddings.projection.{leaf}"),
            Module("encoder.layer.*.attention.attention.query", "layers.*.attention.q_proj.{leaf}"),
            Module("encoder.layer.*.attention.attention.key", "layers.*.attention.k_proj.{leaf}"),
            Module("encoder.layer.*.attention.attention.value", "layers.*.attention.v_proj.{leaf}"),
            Module("encoder.layer.*.attention.output.dense", "layers.*.attention.o_proj.{leaf}"),
            Module("encoder.layer.*.intermediate.dense", "layers.*.mlp.fc1.{leaf}"),
            Module("encoder.layer.*.output.dense", "layers.*.mlp.fc2.{leaf}"),
            Module("encoder.layer.*.layernorm_before", "layers.*.layernorm_before.{leaf}"),
            Module("encoder.layer.*.layernorm_after", "layers.*.layernorm_after.{leaf}"),
            Module("layernorm", "layernorm.{leaf}"),
            Module("pooler.dense", "pooler.dense.{leaf}"),
            Module(f"{HEAD}classifier", "classifier.{leaf}"),
            Module(f"{HEAD}decoder.0", "decoder.0.{leaf}"),
        ],
    ),
    models={"vit": ALL_MODELS["vit"]},
    signature=("embeddings.cls_token", *TRANSFORMERS.signature, "layers.0.attention.q_proj.weight"),
    files={},
)
