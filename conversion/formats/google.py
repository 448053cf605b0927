"""Google's checkpoints: what google-research/vision_transformer published, what its code of today writes, big_vision's.

They differ in the numbers of a block's modules, which are counted by kind (LayerNorm_0, LayerNorm_1) or, in what was
published, together (LayerNorm_0, MultiHeadDotProductAttention_1, LayerNorm_2, MlpBlock_3), and in where positions are:
big_vision's models add them before the class token comes, whose position is thus a part of the token.
Reference: vit_jax/models_vit.py of that repository, and big_vision/models/vit.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from conversion.canonical import HEAD
from conversion.formats.format import QKV_BIAS, Format, Tensors
from conversion.formats.published import SQUASHED
from conversion.formats.rules import FoldClassPosition, Module, Rule, Rules
from vit_core.config import LARGEST_LAYER_COUNT
from vit_core.layouts import FLAX
from vit_core.renaming import distinct
from vit_core.stored_tensor import StoredTensor

#: Flax' GELU is the tanh approximation unless asked otherwise, and its LayerNorm's epsilon 1e-6.
CONVENTIONS = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
ENCODER = "Transformer/encoderblock_*"
MOST_PARTS = 2**15  # of scanned tensors in a file; 48 layers with an optimizer's averages are two thousand
PATCHES = "embedding/kernel"
SCANNED = re.compile(r"(?P<before>.*Transformer/encoderblock)(?P<after>/.+)")

POSITIONS = [
    Module("embeddings.cls_token", "cls"),
    Module("embeddings.position_embeddings", "Transformer/posembed_input/pos_embedding"),
]


def _modules(attention: str, second_norm: str, mlp: str) -> Iterable[Module]:
    attention, mlp = f"{ENCODER}/{attention}", f"{ENCODER}/{mlp}"
    return [
        Module("embeddings.patch_embeddings.projection", "embedding/{leaf}"),
        Module("encoder.layer.*.layernorm_before", f"{ENCODER}/LayerNorm_0/{{leaf}}"),
        Module("encoder.layer.*.attention.attention.query", f"{attention}/query/{{leaf}}", heads="outputs"),
        Module("encoder.layer.*.attention.attention.key", f"{attention}/key/{{leaf}}", heads="outputs"),
        Module("encoder.layer.*.attention.attention.value", f"{attention}/value/{{leaf}}", heads="outputs"),
        Module("encoder.layer.*.attention.output.dense", f"{attention}/out/{{leaf}}", heads="inputs"),
        Module("encoder.layer.*.layernorm_after", f"{ENCODER}/{second_norm}/{{leaf}}"),
        Module("encoder.layer.*.intermediate.dense", f"{mlp}/Dense_0/{{leaf}}"),
        Module("encoder.layer.*.output.dense", f"{mlp}/Dense_1/{{leaf}}"),
        Module("layernorm", "Transformer/encoder_norm/{leaf}"),
        Module("pooler.dense", "pre_logits/{leaf}"),
        Module(f"{HEAD}classifier", "head/{leaf}"),
    ]


COUNTED_BY_KIND = list(_modules("MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0"))


def _unstacked(tensors: Tensors) -> Tensors:
    """Each layer's tensors, of models whose layers were scanned and lie in one array."""
    counts = (tensor.shape[0] for name, tensor in tensors.items() if _is_scanned(name, tensor))
    if not any(name.endswith(PATCHES) for name in tensors) or sum(counts) > MOST_PARTS:
        return tensors
    return distinct(entry for name, tensor in tensors.items() for entry in _layers(name, tensor))


def _layers(name: str, tensor: StoredTensor) -> Iterator[tuple[str, str, StoredTensor]]:
    """The name of a tensor, and those of its layers if it has any with something in them."""
    match = SCANNED.fullmatch(name)
    if not match or not _is_scanned(name, tensor):
        yield name, name, tensor
        return
    for layer in range(tensor.shape[0]):
        yield name, f"{match['before']}_{layer}{match['after']}", _part(tensor, layer)


def _is_scanned(name: str, tensor: StoredTensor) -> bool:
    shape = tensor.shape
    return bool(SCANNED.fullmatch(name) and shape) and 0 not in shape and shape[0] <= LARGEST_LAYER_COUNT


def _part(stack: StoredTensor, layer: int) -> StoredTensor:
    def read() -> np.ndarray:
        return stack.read()[layer]

    return StoredTensor(stack.dtype, stack.shape[1:], read)


def _google(name: str, title: str, table: Rules, signature: tuple[str, ...]) -> Format:
    return Format(
        name=name,
        title=title,
        rules=table,
        signature=("cls", PATCHES, "Transformer/encoder_norm/scale", *signature),
        conventions=CONVENTIONS,
        files={"npz": f"{name}.npz"},
        refused={
            "*conv_root*": "it is a hybrid with a ResNet in front",
            "*block_units*": "it is a hybrid with a ResNet in front",
            "MAPHead_0/*": "it pools by attention, as SigLIP does",
        },
        head_reads_pooler=True,
        always=QKV_BIAS,
        normalised=_unstacked,
    )


GOOGLE = _google(
    "google",
    "Google's published .npz",
    Rules(
        FLAX.leaves,
        [*POSITIONS, *_modules("MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3")],
    ),
    ("Transformer/posembed_input/pos_embedding", "Transformer/encoderblock_0/LayerNorm_2/scale"),
)
GOOGLE_LINEN = _google(
    "google-linen",
    "Google's .npz in today's names",
    Rules(FLAX.leaves, [*POSITIONS, *COUNTED_BY_KIND]),
    ("Transformer/posembed_input/pos_embedding",),
)
BIG_VISION = _google(
    "big-vision",
    "big_vision's .npz",
    Rules(
        FLAX.leaves,
        [
            Rule(
                ("embeddings.cls_token", "embeddings.position_embeddings"),
                ("cls", "pos_embedding"),
                (FoldClassPosition(),),
            ),
            *COUNTED_BY_KIND,
        ],
    ),
    ("pos_embedding",),
)
#: The text tower, and the temperature and the bias of what compares both.
OF_TEXTS = ("txt/*", "t", "b")
POOLER, MAP_HEAD = "pooler.attention", "MAPHead_0/MultiHeadDotProductAttention_0"
#: SigLIP's image tower in big_vision's checkpoints of both towers: no class token, and a head that pools by attention.
BIG_VISION_SIGLIP = Format(
    name="big-vision-siglip",
    title="big_vision's SigLIP",
    rules=Rules(
        FLAX.leaves,
        [
            Module("embeddings.position_embeddings", "pos_embedding"),
            *(module for module in COUNTED_BY_KIND if not module.theirs.startswith(("pre_logits", "head"))),
            Module("pooler.probe", "MAPHead_0/probe"),
            Module(f"{POOLER}.attention.query", f"{MAP_HEAD}/query/{{leaf}}", heads="outputs"),
            Module(f"{POOLER}.attention.key", f"{MAP_HEAD}/key/{{leaf}}", heads="outputs"),
            Module(f"{POOLER}.attention.value", f"{MAP_HEAD}/value/{{leaf}}", heads="outputs"),
            Module(f"{POOLER}.output.dense", f"{MAP_HEAD}/out/{{leaf}}", heads="inputs"),
            Module("pooler.layernorm", "MAPHead_0/LayerNorm_0/{leaf}"),
            Module("pooler.intermediate.dense", "MAPHead_0/MlpBlock_0/Dense_0/{leaf}"),
            Module("pooler.output.dense", "MAPHead_0/MlpBlock_0/Dense_1/{leaf}"),
        ],
    ),
    models={"siglip_vision_model": ("model",)},
    signature=("pos_embedding", PATCHES, "MAPHead_0/probe", "Transformer/encoder_norm/scale"),
    conventions=CONVENTIONS,
    preprocessing=SQUASHED,
    files={"npz": "big-vision-siglip.npz"},
    base_prefixes={"siglip_vision_model": "img/"},
    claims=lambda model, metadata: "cls" not in model.tensors,
    left_out=OF_TEXTS,
    texts=OF_TEXTS,
    normalised=_unstacked,
    spelt=lambda tensors, config: {f"params/{name}": tensor for name, tensor in tensors.items()},
    needs=(("pooler.probe",),),
    always_prefixed=True,
    carried={"big-vision-siglip": OF_TEXTS},
)
