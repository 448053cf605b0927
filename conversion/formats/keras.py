"""Keras' own files of vit_tf's models, and of transformers' TensorFlow models: `.keras`, `.weights.h5` and `.h5`.

Keras 3 (and tf-keras for `.keras`) names a group by the attribute that holds a layer, or by the layer's class, with a
number from the second one on, and a layer's weights "vars/0", "vars/1". Its older `.h5` has the names of weights, each
under the layer of the model at its top. Both become one spelling here. What else is in such a file, such as a head that
someone put on in a functional model, belongs to no ViT and is left out.
Reference: keras/src/saving/saving_lib.py and keras/src/legacy/saving/legacy_h5_format.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from conversion.containers.hdf5_structure import LARGEST_NAME
from conversion.formats.format import ALL_MODELS, Format, Tensors
from conversion.formats.rules import Module, Rules, modules_named_alike
from conversion.formats.transformers import CONVENTIONS, PREFIXES, UNSURE
from conversion.formats.transformers_tf import snake_case
from vit_core.families import FAMILIES
from vit_core.layouts import KERAS as LAYOUT
from vit_core.parameters import STACKS
from vit_core.renaming import renamed

CLASSIFIER = "tf_vi_t_for_image_classification"
#: The groups of base models in models with a head, by model type.
BASES = {name: prefix.replace(".", "/") for name, prefix in PREFIXES.items()}
_LAYERS = "(encoder/layer|decoder/decoder_layers)"


def _of_bases() -> Iterator[tuple[str, str]]:
    """Base models, by their attribute twice or by their class, and the attribute that they are here."""
    for name, base in BASES.items():
        class_name = snake_case(FAMILIES[name].models["model"].removesuffix("Model"))
        yield rf"^{base}{base}", base
        yield rf"layers/(?:tf_)?{class_name}_(?:main_layer|model)/(?:{base})?", base


#: Parts of paths, by classes and attributes of Keras 3's and tf-keras' models, and what they are called here.
_SPELLINGS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), spelling)
    for pattern, spelling in [
        (r"^model_weights/", ""),
        (r"^(?!layers/)(\w+)/[^/]+/(?=\1/)", ""),  # in .h5: the layer at the top, and the model
        *dict(_of_bases()).items(),
        (rf"({CLASSIFIER}/)layers/dense/", r"\1classifier/"),
        (rf"{_LAYERS}/\w*?layer/", r"\1_0/"),
        (rf"{_LAYERS}/\w*?layer_(\d+)/", r"\1_\2/"),
        (r"attention/self_attention/", "attention/attention/"),
        (r"attention/(?:dense_output|output_)/dense/", "attention/output/dense/"),
        (r"(?:vit_output|output_)/dense/", "output/dense/"),
        (r"layers/(?:vi_t|mean_norm)_pooler/", "pooler/"),
        (r"decoder/conv2d/|^decoder_0/", "decoder/0/"),
        (r"(layernorm\w*|decoder_norm)/vars/0$", r"\1/gamma"),
        (r"(layernorm\w*|decoder_norm)/vars/1$", r"\1/beta"),
        (r"(projection|dense|query|key|value|classifier|decoder/0|decoder_embed|decoder_pred)/vars/0$", r"\1/kernel"),
        (r"(projection|dense|query|key|value|classifier|decoder/0|decoder_embed|decoder_pred)/vars/1$", r"\1/bias"),
        (r"(relative_position_bias)/vars/0$", r"\1/relative_position_bias_table"),
        (r"(layer_\d+)/vars/0$", r"\1/lambda_1"),
        (r"(layer_\d+)/vars/1$", r"\1/lambda_2"),
        (r"^decoder/vars/0$", "decoder/mask_token"),
        (r"^decoder/vars/1$", "decoder/decoder_pos_embed"),
    ]
)
#: Of a model for visual tokens, whose last layer has no name of its own.
_SCALED, _LINEAR = "/scaled_layer/", "layers/linear/vars/"
_GAMMAS = ("layernorm/gamma", "layernorm_before/gamma")
_NORMS = (*_GAMMAS, "layernorm/vars/0", "layernorm_before/vars/0")
_VARIABLES = re.compile(r"(?P<where>.*embeddings/)vars/(?P<number>\d)")


def _normalised(tensors: Tensors) -> Tensors:
    if not any(name.endswith(_NORMS) for name in tensors):
        return tensors
    heads: list[tuple[str, str]] = []
    if any(name.startswith("vit/embeddings/vars/") for name in tensors):  # tf-keras' classifier, by itself
        heads += [("^layers/dense/", "classifier/")]
    if any(_SCALED in name for name in tensors):
        heads += [(f"^{_LINEAR}0$", "lm_head/kernel"), (f"^{_LINEAR}1$", "lm_head/bias")]
    names = {}
    for name in tensors:
        spelling = name
        for theirs, ours in heads:
            spelling = re.sub(theirs, ours, spelling)
        names[name] = _spelt(spelling)
    found = {names[name]: tensor for name, tensor in tensors.items()}
    return renamed(tensors, lambda name: _of_embeddings(names[name], found))


def _spelt(name: str) -> str:
    if len(name) > LARGEST_NAME:  # which is no layer's, and long to search
        return name
    for pattern, spelling in _SPELLINGS:
        name = pattern.sub(spelling, name, count=1)
    return name


def _of_embeddings(name: str, tensors: Tensors) -> str:
    """The name of one of the weights of the embeddings: tokens come first, and then positions, if there are any."""
    match = _VARIABLES.fullmatch(name)
    if not match:
        return name
    where, number = match["where"], int(match["number"])
    shapes = [tensors[each].shape for each in (f"{where}vars/{place}" for place in range(4)) if each in tensors]
    tokens = sum(len(shape) == 3 and shape[1] == 1 for shape in shapes)
    if number >= tokens:
        return f"{where}position_embeddings"
    positions = shapes[tokens][1] if len(shapes) > tokens and len(shapes[tokens]) == 3 else 0
    names = ["cls_token", "distillation_token", "mask_token"]
    if tokens < len(names) and not _are_for_two_tokens(positions, where):
        names.remove("distillation_token")
    return where + names[number] if number < len(names) else name


def _are_for_two_tokens(positions: int, where: str) -> bool:
    """Whether positions are for a distillation token, too: those that are left are for a square, or it is a DeiT's."""
    is_deit, side = where.endswith(f"{BASES['deit']}embeddings/"), math.isqrt(max(positions - 2, 0))
    return is_deit or side**2 == positions - 2 > 0


def _modules() -> list[Module]:
    """Paths here are the canonical names, but for numbers of layers and the last part of a layer's."""
    return modules_named_alike(_path)


def _path(name: str) -> str:
    for stack in STACKS.values():
        name = name.replace(f"{stack}.", f"{stack}_", 1)
    return name.replace(".", "/")


KERAS = Format(
    name="keras",
    title="Keras' own file",
    rules=Rules(LAYOUT.leaves, _modules),
    models=ALL_MODELS,
    signature=("embeddings/patch_embeddings/projection/kernel",),
    conventions=CONVENTIONS,
    keeps_defaults=True,
    told=tuple(CONVENTIONS),
    unsure=UNSURE,
    base_prefixes=BASES,
    claims=lambda model, metadata: any(name.endswith(_GAMMAS) for name in model.whole),
    left_out=("*",),
    normalised=_normalised,
)
