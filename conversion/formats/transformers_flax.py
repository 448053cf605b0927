"""transformers' Flax checkpoints: `flax_model.msgpack`, or safetensors with Flax's names, joined with dots."""

from __future__ import annotations

from conversion.canonical import in_words
from conversion.formats.format import ALL_MODELS, Format, Tensors
from conversion.formats.rules import KINDS, Module, rules
from conversion.formats.transformers import CONVENTIONS, PREFIXES, UNSURE
from vit_core.layouts import FLAX

KERNEL = "embeddings.patch_embeddings.projection.kernel"  # a name that no other format has
NORMS = ("layernorm/scale", "pooler/layernorm/scale", "encoder/layer/0/layernorm_before/scale")  # Keras has a "gamma"


def _with_slashes(tensors: Tensors) -> Tensors:
    if not any(name.endswith(KERNEL) for name in tensors):
        return tensors
    return {name.replace(".", "/"): tensor for name, tensor in tensors.items()}


def _modules() -> list[Module]:
    """Flax' paths are the canonical names, but for the last part of a layer's."""
    layers = dict.fromkeys(name.removesuffix(".weight").removesuffix(".bias") for name in KINDS)
    paths = {name: in_words(name).replace(".", "/") for name in layers}
    return [Module(name, path if name in KINDS else f"{path}/{{leaf}}") for name, path in paths.items()]


TRANSFORMERS_FLAX = Format(
    name="transformers-flax",
    title="transformers' flax_model.msgpack",
    rules=rules(FLAX.leaves, _modules()),
    models=ALL_MODELS,
    signature=("embeddings/patch_embeddings/projection/kernel",),
    conventions=CONVENTIONS,
    keeps_defaults=True,
    told=tuple(CONVENTIONS),
    unsure=UNSURE,
    files={"msgpack": "flax_model.msgpack"},
    base_prefixes={name: prefix.replace(".", "/") for name, prefix in PREFIXES.items()},
    claims=lambda model, metadata: any(name in model.tensors for name in NORMS),
    normalised=_with_slashes,
)
