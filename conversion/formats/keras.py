"""Keras' own files of vit_tf's models, and of transformers' TensorFlow models: `.keras`, `.weights.h5` and `.h5`.

Keras 3 (and tf-keras for `.keras`) names a group by the attribute that holds a layer, or by the layer's class, with a
number from the second one on, and a layer's weights "vars/0", "vars/1". Its older `.h5` has the names of weights, each
under the layer of the model at its top. Both become one spelling here. What else is in such a file, such as a head that
someone put on in a functional model, belongs to no ViT and is left out.
Reference: keras/src/saving/saving_lib.py and keras/src/legacy/saving/legacy_h5_format.py.
"""

from __future__ import annotations

import re

from conversion.canonical import HEAD
from conversion.containers.hdf5_structure import LARGEST_NAME
from conversion.formats.format import ALL_MODELS, Format, Tensors
from conversion.formats.rules import Module, rules
from conversion.formats.transformers import CONVENTIONS, UNSURE
from vit_core.layouts import KERAS as LAYOUT

LAYER = "encoder/layer_*"
CLASSIFIER = "tf_vi_t_for_image_classification"

#: Parts of paths, by classes and attributes of Keras 3's and tf-keras' models, and what they are called here.
_SPELLINGS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), spelling)
    for pattern, spelling in [
        (r"^model_weights/", ""),
        (r"^(?!layers/)(\w+)/[^/]+/(?=\1/)", ""),  # in .h5: the layer at the top, and the model
        (r"^vit/vit/", "vit/"),
        (r"layers/(?:tf_)?vi_t_(?:main_layer|model)/(?:vit/)?", "vit/"),
        (rf"({CLASSIFIER}/)layers/dense/", r"\1classifier/"),
        (r"encoder/layer/(?:tf_)?vi_t_layer/", "encoder/layer_0/"),
        (r"encoder/layer/(?:tf_)?vi_t_layer_(\d+)/", r"encoder/layer_\1/"),
        (r"attention/self_attention/", "attention/attention/"),
        (r"attention/(?:dense_output|output_)/dense/", "attention/output/dense/"),
        (r"(?:vit_output|output_)/dense/", "output/dense/"),
        (r"layers/vi_t_pooler/", "pooler/"),
        (r"decoder/conv2d/", "decoder_0/"),
        (r"(layernorm\w*)/vars/0$", r"\1/gamma"),
        (r"(layernorm\w*)/vars/1$", r"\1/beta"),
        (r"(projection|dense|query|key|value|classifier|decoder_0)/vars/0$", r"\1/kernel"),
        (r"(projection|dense|query|key|value|classifier|decoder_0)/vars/1$", r"\1/bias"),
        (r"embeddings/vars/0$", "embeddings/cls_token"),
    ]
)


def _normalised(tensors: Tensors) -> Tensors:
    if not any(name.endswith(("layernorm/vars/0", "layernorm/gamma")) for name in tensors):
        return tensors
    if any(name.startswith("vit/embeddings/vars/") for name in tensors):  # tf-keras' classifier, by itself
        tensors = {re.sub("^layers/dense/", "classifier/", name): tensor for name, tensor in tensors.items()}
    found = {_spelt(name): tensor for name, tensor in tensors.items()}
    return {_with_token(name, found): tensor for name, tensor in found.items()}


def _spelt(name: str) -> str:
    if len(name) > LARGEST_NAME:  # which is no layer's, and long to search
        return name
    for pattern, spelling in _SPELLINGS:
        name = pattern.sub(spelling, name, count=1)
    return name


def _with_token(name: str, tensors: Tensors) -> str:
    """The name of the last weights of the embeddings: a mask token comes before the positions, if there is one."""
    for mask in (f"{name[: -len(last)]}vars/2" for last in ("vars/1", "vars/2") if name.endswith(f"embeddings/{last}")):
        is_mask = name.endswith("1") and mask in tensors
        return name[: -len("vars/1")] + ("mask_token" if is_mask else "position_embeddings")
    return name


KERAS = Format(
    name="keras",
    title="Keras' own file",
    rules=rules(
        LAYOUT.leaves,
        [
            Module("embeddings.cls_token", "embeddings/cls_token"),
            Module("embeddings.mask_token", "embeddings/mask_token"),
            Module("embeddings.position_embeddings", "embeddings/position_embeddings"),
            Module("embeddings.patch_embeddings.projection", "embeddings/patch_embeddings/projection/{leaf}"),
            Module("encoder.layer.*.attention.attention.query", f"{LAYER}/attention/attention/query/{{leaf}}"),
            Module("encoder.layer.*.attention.attention.key", f"{LAYER}/attention/attention/key/{{leaf}}"),
            Module("encoder.layer.*.attention.attention.value", f"{LAYER}/attention/attention/value/{{leaf}}"),
            Module("encoder.layer.*.attention.output.dense", f"{LAYER}/attention/output/dense/{{leaf}}"),
            Module("encoder.layer.*.intermediate.dense", f"{LAYER}/intermediate/dense/{{leaf}}"),
            Module("encoder.layer.*.output.dense", f"{LAYER}/output/dense/{{leaf}}"),
            Module("encoder.layer.*.layernorm_before", f"{LAYER}/layernorm_before/{{leaf}}"),
            Module("encoder.layer.*.layernorm_after", f"{LAYER}/layernorm_after/{{leaf}}"),
            Module("layernorm", "layernorm/{leaf}"),
            Module("pooler.dense", "pooler/dense/{leaf}"),
            Module(f"{HEAD}classifier", "classifier/{leaf}"),
            Module(f"{HEAD}decoder.0", "decoder_0/{leaf}"),
        ],
    ),
    signature=("embeddings/cls_token", "embeddings/patch_embeddings/projection/kernel", "layernorm/gamma"),
    models={"vit": ALL_MODELS["vit"]},
    conventions=CONVENTIONS,
    told=tuple(CONVENTIONS),
    unsure=UNSURE,
    base_prefixes={"vit": "vit/"},
    left_out=("*",),
    normalised=_normalised,
)
