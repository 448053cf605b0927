"""Where KerasHub's models keep each canonical tensor, and what the paths that Keras makes up are called here.

Keras names a group by the class of its layer, with a number from the second one on, and a layer's weights by their
order: "vars/0", "vars/1". Here the first block has a number too, and weights beside layers have the names that KerasHub
gives them. Reference: the layers of keras_hub/src/models (vit, deit, dinov2, dinov3, siglip, clip) and
keras/src/saving/saving_lib.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from conversion.canonical import HEAD
from conversion.formats.format import Tensors
from conversion.formats.published_names import ATTENTION, GATE, IF_GATED, LAYER, PATCHES
from conversion.formats.rules import DropFirstAxis, Module, Shape
from vit_core.config import PretrainedConfig
from vit_core.layouts import KERAS, Leaf
from vit_core.parameters import Kind
from vit_core.renaming import renamed
from vit_core.stored_tensor import StoredTensor

VARIABLES: Mapping[str, str] = {"kernel": "vars/0", "bias": "vars/1", "gamma": "vars/0", "beta": "vars/1"}
LEAVES: Mapping[Kind, Leaf] = {
    kind: replace(leaf, name=VARIABLES[leaf.name]) if leaf.name else leaf for kind, leaf in KERAS.leaves.items()
}
#: Weights that a model may lack; those after them have smaller numbers then.
OPTIONAL = ("mask_token", "register_tokens")
#: A table of positions, of which Keras keeps the numbers of the rows, too.
TABLE, PLACES = "position_embedding/vars/0", "position_ids"
INTERPOLATED = "interpolated_position_embeddings"
#: Where the backbones lie in models that hold them.
VIT_BACKBONE, DEIT_BACKBONE = "layers/vi_t_backbone/", "layers/dei_t_backbone/"
SIGLIP_TOWER, CLIP_TOWER = "layers/sig_lip_vision_encoder/", "layers/clip_vision_encoder/"


def _places(table: StoredTensor) -> StoredTensor:
    """The numbers of a table's rows."""
    count = table.shape[0]
    return StoredTensor("I64", (1, count), lambda: np.arange(count, dtype=np.int64)[None])


def _looked_up(table: StoredTensor, places: StoredTensor) -> StoredTensor:
    """The positions that tokens get, by their numbers in the table; in a CLIP that was made from scratch all are 0."""
    if len(table.shape) != 2 or places.shape != (1, table.shape[0]) or places.dtype not in ("I32", "I64"):
        raise ValueError(f"its {PLACES} of shape {places.shape} are no numbers of positions of shape {table.shape}.")
    numbers = places.read()[0]
    if np.array_equal(numbers, np.arange(len(numbers))):
        return table
    if numbers.min() < 0 or numbers.max() >= len(numbers):
        raise ValueError(f"its {PLACES} go from {numbers.min()} to {numbers.max()}, and there are {len(numbers)}.")
    return StoredTensor(table.dtype, table.shape, lambda: table.read()[numbers])


def _as_trained(positions: StoredTensor) -> StoredTensor:
    """Positions for images of the size that they were trained for, between which nothing is interpolated."""
    return positions


@dataclass(frozen=True)
class Paths:
    """How the paths of a class of models are spelt here.

    Attributes:
        block: the class of its layers, of which the first one has no number in files.
        embeddings: the group of its embeddings.
        own: names of the weights that lie there beside layers, in the order of their numbers.
        derived: those of them that are no weights of a model here: from which one each is made, and how.
    """

    block: str
    embeddings: str = ""
    own: tuple[str, ...] = ()
    derived: Mapping[str, tuple[str, Callable[[StoredTensor], StoredTensor]]] = field(default_factory=dict)

    def normalised(self, tensors: Tensors) -> Tensors:
        """Names with a number for the first block too, and with names instead of numbers of weights."""
        if not any(f"/{self.block}/" in name for name in tensors):
            return tensors
        found = renamed(tensors, lambda name: name.replace(f"/{self.block}/", f"/{self.block}_0/"))
        first = f"{self.embeddings}/vars/0"
        for start in [name.removesuffix("vars/0") for name in found if self.own and name.endswith(first)]:
            numbered = [f"{start}vars/{number}" for number in range(len(self.own))]
            there = [name for name in numbered if name in found]
            own = dict(zip(there, self._own([found[name].shape for name in there]), strict=False))
            names = {name: start + own[name] if name in own else name for name in found}
            found = renamed(found, names.__getitem__)
            if PLACES in own.values() and start + TABLE in found:
                found[start + TABLE] = _looked_up(found[start + TABLE], found[start + PLACES])
        return found

    def _own(self, shapes: Sequence[Shape]) -> list[str]:
        """The names of the weights that are there; of the two that may be lacking, a mask token is a single token."""
        missing = len(self.own) - len(shapes)
        lacking = [name for name in OPTIONAL if name in self.own]
        if missing == 1 and lacking:
            is_mask = len(shapes) > 1 and math.prod(shapes[1]) == shapes[1][-1]
            lacking.remove("mask_token" if is_mask else "register_tokens")
        return [name for name in self.own if not missing or name not in lacking]

    def spelt(self, tensors: Tensors, config: PretrainedConfig) -> Tensors:
        """The other direction, with what KerasHub keeps beside weights."""
        start, found = f"{self.embeddings}/", dict(tensors)
        found |= {start + name: make(tensors[start + source]) for name, (source, make) in self.derived.items()}
        there = [start + name for name in self.own if start + name in found]
        numbers = {name: f"{start}vars/{number}" for number, name in enumerate(there)}
        names = {name: numbers.get(name, name).replace(f"/{self.block}_0/", f"/{self.block}/") for name in found}
        return {names[name]: tensor for name, tensor in found.items()}


VIT_PATHS = Paths("vi_t_encoder_block")
DEIT_PATHS = Paths("dei_t_encoder_block")
DINOV2_PATHS = Paths(
    "dinov2_layer",
    "layers/dinov2_embedding",
    ("cls_token", *OPTIONAL, INTERPOLATED, "position_embeddings"),
    {INTERPOLATED: ("position_embeddings", _as_trained)},
)
DINOV3_PATHS = Paths("dinov3_layer", "layers/dinov3_embedding", ("cls_token", *OPTIONAL))
SIGLIP_PATHS = Paths("sig_lip_encoder_layer", "layers/sig_lip_vision_embedding", (PLACES,), {PLACES: (TABLE, _places)})
CLIP_PATHS = Paths(
    "clip_encoder_layer", "layers/clip_vision_embedding", ("class_embedding", PLACES), {PLACES: (TABLE, _places)}
)


def vit_normalised(tensors: Tensors) -> Tensors:
    """ViT's names with those that a classifier's dense layers have: "pre_logits" and "head".

    What is before the logits is a part of the base model here, and in KerasHub of the head.
    """
    found = VIT_PATHS.normalised(tensors)
    has_two = any("layers/dense_1/" in name for name in found)  # the first of two dense layers is before the logits
    of_base = VIT_BACKBONE if any(VIT_BACKBONE in name for name in found) else ""  # which a preset has by itself
    first = f"{of_base}pre_logits/" if has_two else "head/"
    return renamed(found, lambda name: name.replace("layers/dense/", first).replace("layers/dense_1/", "head/"))


def vit_spelt(tensors: Tensors, config: PretrainedConfig) -> Tensors:
    """The other direction."""
    has_two = any(name.startswith(f"{VIT_BACKBONE}pre_logits/") for name in tensors)
    names = {f"{VIT_BACKBONE}pre_logits/": "layers/dense/", "head/": "layers/dense_1/" if has_two else "layers/dense/"}
    found = {}
    for name, tensor in tensors.items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs) if name.startswith(ours) else name
        found[name] = tensor
    return VIT_PATHS.spelt(found, config)


def _attention(of: str, theirs: str) -> list[Module]:
    """Keras' attention, which has an axis for heads."""
    return [
        Module(f"{of}.attention.attention.query", f"{theirs}/query_dense/{{leaf}}", heads="outputs"),
        Module(f"{of}.attention.attention.key", f"{theirs}/key_dense/{{leaf}}", heads="outputs"),
        Module(f"{of}.attention.attention.value", f"{theirs}/value_dense/{{leaf}}", heads="outputs"),
        Module(f"{of}.attention.output.dense", f"{theirs}/output_dense/{{leaf}}", heads="inputs"),
    ]


def _block(theirs: str, norms: tuple[str, str], attention: str, mlp: tuple[str, str]) -> list[Module]:
    """A layer with Keras' attention and a plain MLP."""
    return [
        Module(f"{LAYER}.layernorm_before", f"{theirs}/{norms[0]}/{{leaf}}"),
        *_attention(LAYER, f"{theirs}/{attention}"),
        Module(f"{LAYER}.layernorm_after", f"{theirs}/{norms[1]}/{{leaf}}"),
        Module(f"{LAYER}.intermediate.dense", f"{theirs}/{mlp[0]}/{{leaf}}"),
        Module(f"{LAYER}.output.dense", f"{theirs}/{mlp[1]}/{{leaf}}"),
    ]


NORMS = ("layer_norm_1", "layer_norm_2")
VIT_EMBEDDINGS, DEIT_EMBEDDINGS = "layers/vi_t_patching_and_embedding", "layers/dei_t_embeddings"
VIT_MODULES = [
    Module("embeddings.cls_token", f"{VIT_EMBEDDINGS}/vars/0"),
    Module("embeddings.position_embeddings", f"{VIT_EMBEDDINGS}/{TABLE}", steps=(DropFirstAxis(),)),
    Module(PATCHES, f"{VIT_EMBEDDINGS}/patch_embedding/{{leaf}}"),
    *_block("layers/vi_t_encoder/encoder_layers/vi_t_encoder_block_*", NORMS, "mha", ("mlp/dense_1", "mlp/dense_2")),
    Module("layernorm", "layers/vi_t_encoder/layer_norm/{leaf}"),
    Module("pooler.dense", "pre_logits/{leaf}"),
    Module(f"{HEAD}classifier", "head/{leaf}"),
]
DEIT_MODULES = [
    Module("embeddings.cls_token", f"{DEIT_EMBEDDINGS}/vars/0"),
    Module("embeddings.distillation_token", f"{DEIT_EMBEDDINGS}/vars/1"),
    Module("embeddings.position_embeddings", f"{DEIT_EMBEDDINGS}/vars/2"),
    Module(PATCHES, f"{DEIT_EMBEDDINGS}/patch_embedding/{{leaf}}"),
    *_block(
        "layers/dei_t_encoder/encoder_layers/dei_t_encoder_block_*", NORMS, "mha", ("mlp/dense", "output_layer/dense")
    ),
    Module("layernorm", "layers/dei_t_encoder/layer_norm/{leaf}"),
    Module(f"{HEAD}classifier", "layers/dense/{leaf}"),
]

_EMBEDDINGS, _LAYER = "layers/dinov2_embedding", "layers/dinov2_encoder/layers/dinov2_layer_*"
DINOV2_MODULES = [
    Module("embeddings.cls_token", f"{_EMBEDDINGS}/cls_token"),
    Module("embeddings.mask_token", f"{_EMBEDDINGS}/mask_token", steps=(DropFirstAxis(),)),
    Module("embeddings.register_tokens", f"{_EMBEDDINGS}/register_tokens"),
    Module("embeddings.position_embeddings", f"{_EMBEDDINGS}/position_embeddings"),
    Module(PATCHES, f"{_EMBEDDINGS}/patch_embeddings/projection/{{leaf}}"),
    Module(f"{LAYER}.layernorm_before", f"{_LAYER}/norm1/{{leaf}}"),
    *_attention(LAYER, f"{_LAYER}/attention/attention"),
    Module(f"{LAYER}.lambda_1", f"{_LAYER}/layer_scale1/vars/0"),
    Module(f"{LAYER}.layernorm_after", f"{_LAYER}/norm2/{{leaf}}"),
    Module((GATE, f"{LAYER}.intermediate.dense"), f"{_LAYER}/mlp/weights_in/{{leaf}}"),
    Module(f"{LAYER}.intermediate.dense", f"{_LAYER}/mlp/fc1/{{leaf}}", unless=IF_GATED),
    Module(f"{LAYER}.output.dense", f"{_LAYER}/mlp/fc2/{{leaf}}", unless=IF_GATED),
    Module(f"{LAYER}.output.dense", f"{_LAYER}/mlp/weights_out/{{leaf}}"),
    Module(f"{LAYER}.lambda_2", f"{_LAYER}/layer_scale2/vars/0"),
    Module("layernorm", "layers/layer_normalization/{leaf}"),
]
_EMBEDDINGS, _LAYER = "layers/dinov3_embedding", "layers/dinov3_encoder/layers/dinov3_layer_*"
DINOV3_MODULES = [
    Module("embeddings.cls_token", f"{_EMBEDDINGS}/cls_token"),
    Module("embeddings.mask_token", f"{_EMBEDDINGS}/mask_token"),
    Module("embeddings.register_tokens", f"{_EMBEDDINGS}/register_tokens"),
    Module(PATCHES, f"{_EMBEDDINGS}/patch_embeddings/projection/{{leaf}}"),
    Module(f"{LAYER}.layernorm_before", f"{_LAYER}/norm1/{{leaf}}"),
    Module(f"{ATTENTION}.query", f"{_LAYER}/attention/query_dense/{{leaf}}"),
    Module(f"{ATTENTION}.key", f"{_LAYER}/attention/key_dense/{{leaf}}"),
    Module(f"{ATTENTION}.value", f"{_LAYER}/attention/value_dense/{{leaf}}"),
    Module(f"{LAYER}.attention.output.dense", f"{_LAYER}/attention/output_dense/{{leaf}}"),
    Module(f"{LAYER}.lambda_1", f"{_LAYER}/layer_scale1/vars/0"),
    Module(f"{LAYER}.layernorm_after", f"{_LAYER}/norm2/{{leaf}}"),
    Module(GATE, f"{_LAYER}/mlp/gate_proj/{{leaf}}"),
    Module(f"{LAYER}.intermediate.dense", f"{_LAYER}/mlp/up_proj/{{leaf}}"),
    Module(f"{LAYER}.output.dense", f"{_LAYER}/mlp/down_proj/{{leaf}}"),
    Module(f"{LAYER}.lambda_2", f"{_LAYER}/layer_scale2/vars/0"),
    Module("layernorm", "layers/layer_normalization/{leaf}"),
]
_EMBEDDINGS, _POOLING = "layers/sig_lip_vision_embedding", "layers/sig_lip_multi_head_attention_pooling"
SIGLIP_MODULES = [
    Module("embeddings.position_embeddings", f"{_EMBEDDINGS}/{TABLE}", steps=(DropFirstAxis(),)),
    Module(PATCHES, f"{_EMBEDDINGS}/patch_embedding/{{leaf}}"),
    *_block("layers/sig_lip_encoder_layer_*", ("layer_norm1", "layer_norm2"), "self_attn", ("mlp/fc1", "mlp/fc2")),
    Module("layernorm", "layers/layer_normalization/{leaf}"),
    Module("pooler.probe", f"{_POOLING}/vars/0"),
    *_attention("pooler", f"{_POOLING}/attention"),
    Module("pooler.layernorm", f"{_POOLING}/layer_norm/{{leaf}}"),
    Module("pooler.intermediate.dense", f"{_POOLING}/mlp/fc1/{{leaf}}"),
    Module("pooler.output.dense", f"{_POOLING}/mlp/fc2/{{leaf}}"),
]
_EMBEDDINGS = "layers/clip_vision_embedding"
CLIP_MODULES = [
    Module("embeddings.cls_token", f"{_EMBEDDINGS}/class_embedding", steps=(DropFirstAxis(), DropFirstAxis())),
    Module("embeddings.position_embeddings", f"{_EMBEDDINGS}/{TABLE}", steps=(DropFirstAxis(),)),
    Module(PATCHES, f"{_EMBEDDINGS}/patch_embedding/{{leaf}}"),
    Module("embeddings.layernorm", "layers/layer_normalization/{leaf}"),
    *_block("layers/clip_encoder_layer_*", NORMS, "attention", ("dense_1", "dense_2")),
    Module("pooler.layernorm", "layers/layer_normalization_1/{leaf}"),
    Module(f"{HEAD}visual_projection", "layers/dense/{leaf}"),
]
