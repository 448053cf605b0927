"""transformers' Flax checkpoints: `flax_model.msgpack`, or safetensors with Flax's names, joined with dots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from conversion.formats import published_names
from conversion.formats.format import ALL_MODELS, Format, Tensors
from conversion.formats.preprocessing import IMAGENET_CROP
from conversion.formats.published import CLIP_CROP
from conversion.formats.rules import Module, Rules, modules_named_alike
from conversion.formats.transformers import CONVENTIONS, PREFIXES, UNSURE
from vit_core.config import PretrainedConfig
from vit_core.layouts import FLAX
from vit_core.parameters import Task
from vit_core.renaming import renamed

KERNEL = "embeddings.patch_embeddings.projection.kernel"  # a name that no other format has
KERNELS = (KERNEL, "embeddings.patch_embedding.kernel")  # CLIP's is the second
NORMS = ("layernorm/scale", "pooler/layernorm/scale", "encoder/layer/0/layernorm_before/scale")  # Keras has a "gamma"


def _with_slashes(tensors: Tensors) -> Tensors:
    if not any(name.endswith(KERNELS) for name in tensors):
        return tensors
    return renamed(tensors, lambda name: name.replace(".", "/"))


def _modules() -> list[Module]:
    """Flax' paths are the canonical names, but for the last part of a layer's."""
    return modules_named_alike(lambda name: name.replace(".", "/"))


def _published(modules: Iterable[Module]) -> Rules:
    """The rules of families whose published names are other ones, from those of PyTorch's files."""
    return Rules(FLAX.leaves, [replace(module, theirs=module.theirs.replace(".", "/")) for module in modules])


def _of_dinov2(config: PretrainedConfig, task: Task) -> list[str]:
    """Where transformers' own class differs from its model in PyTorch."""
    theirs = "transformers' class in Flax"
    remarks = [f"{theirs} resamples positions in a way of its own, so its answers differ for images of another size"]
    if config.use_swiglu_ffn:
        remarks.append(f"{theirs} cannot be made with a gated MLP; the file is read here")
    if config.layerscale_value != 1:
        remarks.append(
            f"{theirs} multiplies its scales by layerscale_value twice, which is {config.layerscale_value}, so its "
            f"answers differ"
        )
    return remarks


TRANSFORMERS_FLAX = Format(
    name="transformers-flax",
    title="transformers' flax_model.msgpack",
    rules=Rules(FLAX.leaves, _modules),
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
#: The models of such families that transformers 4 has in Flax.
FLAX_DINOV2 = replace(
    TRANSFORMERS_FLAX,
    name="transformers-flax-dinov2",
    title="transformers' flax_model.msgpack of DINOv2",
    rules=_published(published_names.DINOV2),
    models={"dinov2": ALL_MODELS["dinov2"]},
    preprocessing=IMAGENET_CROP,
    base_prefixes={"dinov2": "dinov2/"},
    claims=lambda model, metadata: "encoder/layer/0/norm1/scale" in model.tensors,
    always={"use_mask_token": "a mask token"},
    remarks=_of_dinov2,
)
#: What a file of both towers has beside the image tower.
OF_TEXTS = ("text_model/*", "text_projection/*", "logit_scale")
FLAX_CLIP = replace(
    TRANSFORMERS_FLAX,
    name="transformers-flax-clip",
    title="transformers' flax_model.msgpack of CLIP",
    rules=_published(published_names.clip("embedding")),
    models={"clip_vision_model": ALL_MODELS["clip_vision_model"]},
    signature=("embeddings/patch_embedding/kernel", "embeddings/class_embedding"),
    preprocessing=CLIP_CROP,
    base_prefixes={"clip_vision_model": "vision_model/"},
    claims=lambda model, metadata: "pre_layrnorm/scale" in model.tensors,
    left_out=OF_TEXTS,
    texts=OF_TEXTS,
    always_prefixed=True,
)
TRANSFORMERS_FLAX = replace(TRANSFORMERS_FLAX, others=(FLAX_DINOV2, FLAX_CLIP))
