"""Tensors that timm keeps in another number or under other names than the rules have them, and the way back.

Gate and value of an MLP in one layer; the first layers of halves that read the same in one; the rotary frequencies of
all layers in one tensor.
Reference: timm/layers/mlp.py, ParallelScalingBlock in timm/models/vision_transformer.py, and RotaryEmbeddingMixed in
timm/layers/pos_embed_sincos.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from conversion.formats.format import Tensors
from vit_core.config import LARGEST_LAYER_COUNT, PretrainedConfig
from vit_core.renaming import distinct
from vit_core.stored_tensor import StoredTensor

#: The name, between those of the file and the rules, of a layer that holds gate and value.
PACKED = "fc1_packed"
#: Trained frequencies of all layers: (2, layers, heads, half a head).
_FREQUENCIES = "rope.freqs"
_LAYER = re.compile(r"(?P<layer>(.+\.)?blocks\.\d+\.)(?P<part>.+)")
#: Parts of layers with parallel halves, and what they are called in others.
_PARALLEL = {
    "in_norm.weight": "norm1.weight",
    "in_norm.bias": "norm1.bias",
    "mlp_bias": "mlp.fc1.bias",
    "q_norm.weight": "attn.q_norm.weight",
    "q_norm.bias": "attn.q_norm.bias",
    "k_norm.weight": "attn.k_norm.weight",
    "k_norm.bias": "attn.k_norm.bias",
    "attn_out_proj.weight": "attn.proj.weight",
    "attn_out_proj.bias": "attn.proj.bias",
    "mlp_out_proj.weight": "mlp.fc2.weight",
    "mlp_out_proj.bias": "mlp.fc2.bias",
    "ls.gamma": "ls1.gamma",
}


def normalised(tensors: Tensors) -> Tensors:
    """With the names and tensors of the rules."""
    return distinct(_entries(tensors))


def _entries(tensors: Tensors) -> Iterator[tuple[str, str, StoredTensor]]:
    """For each tensor its name in the file, that in the rules, and itself."""
    for name, tensor in tensors.items():
        match = _LAYER.fullmatch(name)
        layer, part = (match["layer"], match["part"]) if match else ("", name)
        if f"{layer}in_proj.weight" in tensors and match:
            yield from ((name, layer + own, each) for own, each in _of_parallel(layer, part, tensor, tensors))
        elif name.endswith(_FREQUENCIES) and len(tensor.shape) == 4 and tensor.shape[1] <= LARGEST_LAYER_COUNT:
            start = name.removesuffix(_FREQUENCIES)
            for number, each in enumerate(_by_layer(tensor)):
                yield name, f"{start}blocks.{number}.attn.rope_freqs", each
        elif part in ("mlp.fc1.weight", "mlp.fc1.bias") and _is_packed(tensor, tensors.get(f"{layer}mlp.fc2.weight")):
            yield name, layer + part.replace("fc1", PACKED), tensor
        else:
            yield name, name, tensor


def _is_packed(first: StoredTensor, second: StoredTensor | None) -> bool:
    return second is not None and len(second.shape) == 2 and first.shape[:1] == (2 * second.shape[1],)


def _of_parallel(layer: str, part: str, tensor: StoredTensor, tensors: Tensors) -> Iterator[tuple[str, StoredTensor]]:
    """What a tensor of a layer with parallel halves becomes; as it is, if it is none that such layers have."""
    second = tensors.get(f"{layer}mlp_out_proj.weight")
    if part in ("in_proj.weight", "in_proj.bias") and second is not None and len(second.shape) == 2 and tensor.shape:
        leaf, width = part.removeprefix("in_proj."), second.shape[1]
        if width < tensor.shape[0]:
            yield f"mlp.fc1.{leaf}", _rows(tensor, 0, width)
            yield f"attn.qkv.{leaf}", _rows(tensor, width, tensor.shape[0])
            return
    yield _PARALLEL.get(part, part), tensor


def _rows(tensor: StoredTensor, first: int, last: int) -> StoredTensor:
    """Some of a tensor's first axis."""
    return StoredTensor(tensor.dtype, (last - first, *tensor.shape[1:]), lambda: tensor.read()[first:last])


def _by_layer(tensor: StoredTensor) -> Iterator[StoredTensor]:
    """The parts of a tensor along its second axis."""
    shape = (tensor.shape[0], *tensor.shape[2:])
    for number in range(tensor.shape[1]):
        yield StoredTensor(tensor.dtype, shape, lambda number=number: tensor.read()[:, number])  # type: ignore[misc]


def spelt(tensors: Tensors, config: PretrainedConfig, is_eva: bool) -> Tensors:
    """With the names and tensors of timm, for a model with a config.

    Args:
        tensors: those of the rules.
        config: the model's.
        is_eva: whether it is timm's Eva.
    """
    tensors = {name.replace(f".{PACKED}.", ".fc1."): tensor for name, tensor in tensors.items()}
    tensors = _with_frequencies(tensors)
    if is_eva:
        return {
            re.sub(r"^(blocks\.\d+\.)ls([12])\.gamma$", r"\1gamma_\2", name): each for name, each in tensors.items()
        }
    return _as_parallel(tensors) if config.architecture.halves == "parallel" else tensors


def _with_frequencies(tensors: Tensors) -> Tensors:
    """The other direction of `_by_layer`."""
    parts = [tensor for name, tensor in tensors.items() if name.endswith(".attn.rope_freqs")]
    if not parts:
        return tensors
    others = {name: tensor for name, tensor in tensors.items() if not name.endswith(".attn.rope_freqs")}
    shape = (parts[0].shape[0], len(parts), *parts[0].shape[1:])
    stacked = StoredTensor(parts[0].dtype, shape, lambda: np.stack([part.read() for part in parts], axis=1))
    return {**others, _FREQUENCIES: stacked}


def _as_parallel(tensors: Tensors) -> Tensors:
    """The other direction of `_of_parallel`."""
    theirs = {own: part for part, own in _PARALLEL.items()}
    found: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        match = _LAYER.fullmatch(name)
        layer, part = (match["layer"], match["part"]) if match else ("", name)
        leaf = part.rpartition(".")[2]
        if (rest := tensors.get(f"{layer}attn.qkv.{leaf}")) is not None and part == f"mlp.fc1.{leaf}":
            found[f"{layer}in_proj.{leaf}"] = _joined(tensor, rest)
        elif not part.startswith("attn.qkv."):
            found[layer + theirs.get(part, part)] = tensor
    return found


def _joined(first: StoredTensor, second: StoredTensor) -> StoredTensor:
    """Both, one after the other along the first axis."""
    shape = (first.shape[0] + second.shape[0], *first.shape[1:])
    return StoredTensor(first.dtype, shape, lambda: np.concatenate([first.read(), second.read()]))
