"""transformers' Flax checkpoints: `flax_model.msgpack`, or safetensors with Flax's names, joined with dots."""

from __future__ import annotations

from conversion.formats.format import Format, Tensors
from conversion.formats.rules import KINDS, Module, rules
from conversion.formats.transformers import CONVENTIONS, UNSURE
from vit_core.layouts import FLAX

KERNEL = "embeddings.patch_embeddings.projection.kernel"  # a name that no other format has


def _with_slashes(tensors: Tensors) -> Tensors:
    if not any(name.endswith(KERNEL) for name in tensors):
        return tensors
    return {name.replace(".", "/"): tensor for name, tensor in tensors.items()}


def _modules() -> list[Module]:
    """Flax' paths are the canonical names, but for the last part of a layer's."""
    layers = dict.fromkeys(name.removesuffix(".weight").removesuffix(".bias") for name in KINDS)
    return [Module(name, name.replace(".", "/") + ("" if name in KINDS else "/{leaf}")) for name in layers]


TRANSFORMERS_FLAX = Format(
    name="transformers-flax",
    title="transformers' flax_model.msgpack",
    rules=rules(FLAX.leaves, _modules()),
    signature=("embeddings/cls_token", "embeddings/patch_embeddings/projection/kernel", "layernorm/scale"),
    conventions=CONVENTIONS,
    told=tuple(CONVENTIONS),
    unsure=UNSURE,
    files={"msgpack": "flax_model.msgpack"},
    base_prefix="vit/",
    normalised=_with_slashes,
)
