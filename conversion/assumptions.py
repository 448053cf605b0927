"""A model's config from the shapes of its tensors, and what to assume where these do not tell."""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conversion.canonical import HEAD, LAYER, required, rows
from conversion.formats.imagenet import CLASS_COUNT, imagenet_labels
from conversion.formats.rules import Shape
from vit_core.architecture import PREFIX_TOKENS
from vit_core.families import FAMILIES, Family
from vit_core.parameters import POSITION_EMBEDDINGS, STACKS, Kind, Stack
from vit_core.relative_position import table_length

#: Attention heads by hidden size, of the models that were published (Dosovitskiy et al. 2020, table 1; Touvron et al.
#: 2020, table 1; Zhai et al. 2021, table 2).
PUBLISHED_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1664: 16}
USUAL_HEAD_WIDTH = 64

#: Heads of MAE's decoders, which are as wide for every encoder (He et al. 2021, section 4.1).
DECODER_HEADS = 16

PROJECTION = "embeddings.patch_embeddings.projection.weight"
SHARED_TABLE = "encoder.relative_position_bias.relative_position_bias_table"
FIRST_LAYER = f"{STACKS['encoder']}.0"
FIRST_TABLE = f"{FIRST_LAYER}.attention.attention.relative_position_bias.relative_position_bias_table"
FINAL_NORM, FIRST_GAIN = "layernorm.weight", f"{FIRST_LAYER}.lambda_1"
MASKED_DECODER = f"{HEAD}decoder.0.weight"

#: Fields of configs that are the length of an axis, by what the axis counts (see `vit_core.parameters`), for each stack
#: of layers and for what belongs to none.
LENGTHS: Mapping[Stack | None, Mapping[str, str]] = {
    None: {
        "hidden": "hidden_size",
        "channels": "num_channels",
        "labels": "num_labels",
        "vocabulary": "vocab_size",
        "decoder_hidden": "decoder_hidden_size",
        "projection": "projection_dim",
        "head": "num_attention_heads",
    },
    "encoder": {"mlp": "intermediate_size", "head": "num_attention_heads"},
    "decoder": {"mlp": "decoder_intermediate_size"},
}
#: Fields of configs that say whether there is a tensor.
SWITCHES = {
    "use_mask_token": "embeddings.mask_token",
    "use_absolute_position_embeddings": POSITION_EMBEDDINGS,
    "use_relative_position_bias": FIRST_TABLE,
    "use_shared_relative_position_bias": SHARED_TABLE,
    "vision_use_head": "pooler.probe",
}
#: Likewise, of what each layer has; where there is no layer, nothing tells.
LAYER_SWITCHES = {
    "use_swiglu_ffn": "intermediate.gate.weight",
    "use_gated_mlp": "intermediate.gate.weight",
    "query_bias": "attention.attention.query.bias",
    "key_bias": "attention.attention.key.bias",
    "value_bias": "attention.attention.value.bias",
    "proj_bias": "attention.output.dense.bias",
    "mlp_bias": "output.dense.bias",
}
REGISTERS = "embeddings.register_tokens"

#: Without these there is no model to speak of.
NEEDED: tuple[Kind, ...] = ("token", "positions", "conv")

HEAD_COUNTS = ("num_attention_heads", "decoder_num_attention_heads")
CLASSIFIERS = {
    model for family in FAMILIES.values() for task, model in family.models.items() if "classification" in task
}
LEVELS_BELOW_THE_CALLER = 7  # of `from_pretrained`, where a warning belongs


@dataclass(frozen=True)
class Assumption:
    """A field of the config that the files do not tell.

    Attributes:
        name: the field, or "preprocessing".
        value: what was assumed.
        reason: why.
    """

    name: str
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value} ({self.reason})"


def fields_from_shapes(
    family: Family,
    shapes: Mapping[str, Shape],
    names: Mapping[str, str],
    image_sizes: Sequence[Any],
    head_reads_pooler: bool,
    positioned_prefix_tokens: int | None = None,
) -> dict[str, Any]:
    """The config fields that the shapes of canonical tensors tell.

    Args:
        family: whose tensors they are.
        shapes: by key.
        names: what the file calls them, for messages.
        image_sizes: what is said of the size of images; one that fits the number of positions is taken, and otherwise
            images are square.
        head_reads_pooler: whether a classifier beside a pooler reads it, in the format at hand.
        positioned_prefix_tokens: how many tokens before the patches have a position; those that are there unless given.

    Raises:
        ValueError: tensors are missing without which there is no model, or shapes contradict each other.
    """
    table, known = rows(family.model_type), family.config_class().to_dict()
    for template, row in table.items():
        if row.kind not in NEEDED or (template not in shapes and template not in required(family.model_type)):
            continue
        if template not in shapes:
            raise ValueError(f"it lacks {template}, without which it is no Vision Transformer.")
        if len(shapes[template]) != len(row.axes) or 0 in shapes[template]:
            raise ValueError(
                f"{names[template]} has shape {shapes[template]}, where one of {len(row.axes)} axes is needed."
            )
    fields: dict[str, Any] = {}
    for template, row in table.items():
        shape = shapes.get(template.replace(LAYER, "0"), ())
        for axis, length in zip(row.axes, shape, strict=False):
            field = LENGTHS[row.stack].get(axis)
            if field and (axis != "head" or row.kind == "table"):  # of the norms of queries and keys, it is a width
                fields.setdefault(field, length)
    hidden, channels, *patch = shapes[PROJECTION]
    has_layers = "intermediate_size" in fields
    fields["hidden_size"] = hidden
    fields["patch_size"] = patch[0] if patch[0] == patch[1] else tuple(patch)
    if (size := _image_size(shapes, patch, image_sizes, positioned_prefix_tokens)) is not None:
        fields["image_size"] = size
    fields["num_hidden_layers"] = _layer_count(shapes, STACKS["encoder"])
    if "decoder_hidden_size" in fields:
        fields["decoder_num_hidden_layers"] = _layer_count(shapes, HEAD + STACKS["decoder"])
    fields |= {field: name in shapes for field, name in SWITCHES.items() if field in known}
    if has_layers:
        fields |= {field: f"{FIRST_LAYER}.{name}" in shapes for field, name in LAYER_SWITCHES.items() if field in known}
    if "num_register_tokens" in known:
        fields["num_register_tokens"] = shapes[REGISTERS][1] if REGISTERS in shapes else 0
    if "mlp_ratio" in known and has_layers:
        gated = f"{FIRST_LAYER}.intermediate.gate.weight" in shapes
        fields["mlp_ratio"] = _mlp_ratio(fields.pop("intermediate_size"), hidden, known["mlp_ratio"], gated)
    if "qkv_bias" in known and has_layers:
        fields["qkv_bias"] = f"{FIRST_LAYER}.attention.attention.query.bias" in shapes
    if "use_mean_pooling" in known:
        fields["use_mean_pooling"] = FINAL_NORM not in shapes
    if "layer_scale_init_value" in known and has_layers and FIRST_GAIN not in shapes:
        fields["layer_scale_init_value"] = 0.0
    if pooler := shapes.get("pooler.dense.weight"):
        fields["pooler_output_size"] = None if pooler[0] == hidden else pooler[0]
    if "num_labels" in fields:
        fields["classifier_uses_pooler"] = bool(pooler) and head_reads_pooler
    if decoder := shapes.get(MASKED_DECODER):
        fields["encoder_stride"] = math.isqrt(decoder[0] // channels)
    return fields


def assumed_fields(fields: Mapping[str, Any], conventions: Mapping[str, Any], title: str) -> list[Assumption]:
    """What to assume of the fields that are not known.

    Args:
        fields: what is known, widths among it.
        conventions: the format's, by field.
        title: the format's.

    Raises:
        ValueError: nothing tells the number of attention heads.
    """
    assumed = [
        Assumption(name, value, f"as {title} has it") for name, value in conventions.items() if name not in fields
    ]
    if "num_attention_heads" not in fields:
        assumed.append(_heads(fields["hidden_size"]))
    if "decoder_hidden_size" in fields and "decoder_num_attention_heads" not in fields:
        assumed.append(_decoder_heads(fields["decoder_hidden_size"]))
    if fields.get("num_labels") == CLASS_COUNT and "id2label" not in fields:
        assumed.append(Assumption("id2label", "ImageNet-1k's labels", "a head for 1000 classes"))
    return assumed


def assumed_values(assumed: list[Assumption]) -> dict[str, Any]:
    """The fields that are assumed, as a config takes them."""
    return {each.name: imagenet_labels() if each.name == "id2label" else each.value for each in assumed}


def warn_of_assumptions(
    source: str,
    unsure: Sequence[str],
    assumed: Sequence[Assumption],
    fields: Mapping[str, Any],
    given: Mapping[str, Any],
    config: str,
) -> None:
    """List in one warning what was assumed and may be otherwise, so that the model's answers would be others.

    Args:
        source: what to call the checkpoint.
        unsure: fields in which models of its format differ, beside the number of heads.
        assumed: what was assumed.
        fields: of the config that came of it.
        given: fields that the caller gives, of which nothing needs to be said.
        config: the name of the class of such configs.
    """
    listed = [str(each) for each in assumed if each.name in (*HEAD_COUNTS, *unsure) and each.name not in given]
    is_named = any(each.name == "id2label" for each in assumed) or given.keys() & {"id2label", "label2id", "num_labels"}
    if listed and "id2label" in unsure and not is_named and fields["architectures"][0] in CLASSIFIERS:
        labels = list(fields["id2label"].values())
        listed.append(f"id2label = {labels[0]} to {labels[-1]} (no file names the classes)" if labels else "")
    if listed:
        warnings.warn(
            f"{source} does not tell, and this was assumed: {', '.join(filter(None, listed))}. If the model was "
            f"trained with others, its answers are wrong: give them, as config={config}(...) or one by one.",
            stacklevel=LEVELS_BELOW_THE_CALLER,
        )


def _heads(hidden: int) -> Assumption:
    if hidden in PUBLISHED_HEADS:
        return Assumption("num_attention_heads", PUBLISHED_HEADS[hidden], f"published models of width {hidden} have it")
    if hidden % USUAL_HEAD_WIDTH == 0:
        return Assumption(
            "num_attention_heads",
            hidden // USUAL_HEAD_WIDTH,
            f"each {USUAL_HEAD_WIDTH} wide, as in most models",
        )
    raise ValueError(
        f"it does not tell the number of attention heads, and no published model of width {hidden} does; give it as "
        f"num_attention_heads."
    )


def _decoder_heads(width: int) -> Assumption:
    if width % DECODER_HEADS == 0:
        return Assumption("decoder_num_attention_heads", DECODER_HEADS, "published decoders have it")
    raise ValueError(
        f"it does not tell the number of attention heads of its decoder, and no published decoder is {width} wide; "
        f"give it as decoder_num_attention_heads."
    )


def _mlp_ratio(width: int, hidden: int, usual: float, gated: bool) -> float:
    """The ratio from which DINOv2's config computes the width of an MLP; a gated one has two thirds, in eights."""
    near = width * 3 // 2
    widths = sorted(range(near - 12, near + 13), key=lambda each: abs(each - near)) if gated else [width]
    ratios = [usual, *(each / hidden for each in widths)]
    ratios += [math.nextafter(ratio, math.inf) for ratio in ratios[1:]]
    for ratio in ratios:
        whole = int(hidden * ratio)
        if ((whole * 2 // 3 + 7) // 8 * 8 if gated else whole) == width:
            return ratio
    raise ValueError(f"its gated MLPs are {width} wide, which no DINOv2's are: they are multiples of 8.")


def _image_size(
    shapes: Mapping[str, Shape], patch: list[int], said: Sequence[Any], positioned_prefix_tokens: int | None
) -> Any:
    """The size of images that the number of positions, absolute or relative, is for; None if there are neither."""
    before = sum(f"embeddings.{name}" in shapes for name in PREFIX_TOKENS)
    if POSITION_EMBEDDINGS in shapes and positioned_prefix_tokens is not None:
        before = positioned_prefix_tokens
    table = next((shapes[name] for name in (SHARED_TABLE, FIRST_TABLE) if name in shapes), None)
    length_for: Callable[[tuple[int, int]], int]
    if POSITION_EMBEDDINGS in shapes:
        length, length_for = shapes[POSITION_EMBEDDINGS][1] - before, math.prod
    elif table:
        length, length_for = table[0], functools.partial(table_length, prefix_tokens=before)
    else:
        return None
    for size in said:
        pair = [size, size] if isinstance(size, int) else size
        if not isinstance(pair, list | tuple) or [type(length) for length in pair] != [int, int]:
            continue  # whoever builds the config says what is wrong with it
        height, width = pair
        if length_for((height // patch[0], width // patch[1])) == length:
            return size if isinstance(size, int) else (height, width)
    side = next(side for side in itertools.count(1) if length_for((side, side)) >= length)
    if length_for((side, side)) != length:
        if POSITION_EMBEDDINGS in shapes and before == 1 and math.isqrt(length + 1) ** 2 == length + 1 > 1:
            raise ValueError(
                f"it has {length + 1} positions, none of which is for the class token; it is not supported."
            )
        what = f"positions for {length} patches" if POSITION_EMBEDDINGS in shapes else f"{length} relative positions"
        raise ValueError(
            f"it has {what} of {patch[0]} x {patch[1]} pixels, which are no square image; give image_size as "
            f"[height, width]."
        )
    return side * patch[0] if patch[0] == patch[1] else (side * patch[0], side * patch[1])


def _layer_count(shapes: Mapping[str, Shape], stack: str) -> int:
    numbers = {int(name.removeprefix(f"{stack}.").split(".")[0]) for name in shapes if name.startswith(f"{stack}.")}
    return max(numbers, default=-1) + 1
