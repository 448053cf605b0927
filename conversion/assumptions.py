"""A model's config from the shapes of its tensors, and what to assume where these do not tell."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conversion.formats.imagenet import CLASS_COUNT, imagenet_labels
from conversion.formats.rules import Shape
from vit_core.parameters import POSITION_EMBEDDINGS, STACKS

#: Attention heads by hidden size, of the models that were published (Dosovitskiy et al. 2020, table 1; Touvron et al.
#: 2020, table 1; Zhai et al. 2021, table 2).
PUBLISHED_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1664: 16}
USUAL_HEAD_WIDTH = 64

PROJECTION = "embeddings.patch_embeddings.projection.weight"
FIRST_LAYER = f"{STACKS['encoder']}.0"
CLASSIFIER = "ViTForImageClassification"
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
    shapes: Mapping[str, Shape], names: Mapping[str, str], image_sizes: Sequence[Any], head_reads_pooler: bool
) -> dict[str, Any]:
    """The config fields that the shapes of canonical tensors tell.

    Args:
        shapes: by name in the base model.
        names: what the file calls them, for messages.
        image_sizes: what is said of the size of images; one that fits the number of positions is taken, and otherwise
            images are square.
        head_reads_pooler: whether a classifier beside a pooler reads it, in the format at hand.

    Raises:
        ValueError: tensors are missing without which there is no model, or shapes contradict each other.
    """
    for name, rank in (("embeddings.cls_token", 3), (POSITION_EMBEDDINGS, 3), (PROJECTION, 4)):
        if name not in shapes:
            raise ValueError(f"it lacks {name}, without which it is no Vision Transformer.")
        if len(shapes[name]) != rank or 0 in shapes[name]:
            raise ValueError(f"{names[name]} has shape {shapes[name]}, where one of {rank} axes is needed.")
    hidden, channels, *patch = shapes[PROJECTION]
    fields: dict[str, Any] = {
        "hidden_size": hidden,
        "num_channels": channels,
        "patch_size": patch[0] if patch[0] == patch[1] else tuple(patch),
        "image_size": _image_size(shapes[POSITION_EMBEDDINGS][1] - 1, patch, image_sizes),
        "num_hidden_layers": _layer_count(shapes),
    }
    if intermediate := shapes.get(f"{FIRST_LAYER}.intermediate.dense.weight"):
        fields["intermediate_size"] = intermediate[0]
        fields["qkv_bias"] = f"{FIRST_LAYER}.attention.attention.query.bias" in shapes
    if pooler := shapes.get("pooler.dense.weight"):
        fields["pooler_output_size"] = None if pooler[0] == hidden else pooler[0]
    if classifier := shapes.get("classifier.weight"):
        fields["num_labels"] = classifier[0]
        fields["classifier_uses_pooler"] = bool(pooler) and head_reads_pooler
    if decoder := shapes.get("decoder.0.weight"):
        fields["encoder_stride"] = math.isqrt(decoder[0] // channels)
    return fields


def assumed_fields(
    fields: Mapping[str, Any], hidden_size: int, conventions: Mapping[str, Any], title: str
) -> list[Assumption]:
    """What to assume of the fields that are not known.

    Args:
        fields: what is known.
        hidden_size: the model's, from shapes.
        conventions: the format's, by field.
        title: the format's.

    Raises:
        ValueError: nothing tells the number of attention heads.
    """
    assumed = [
        Assumption(name, value, f"as {title} has it") for name, value in conventions.items() if name not in fields
    ]
    if "num_attention_heads" not in fields:
        assumed.append(_heads(hidden_size))
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
) -> None:
    """List in one warning what was assumed and may be otherwise, so that the model's answers would be others.

    Args:
        source: what to call the checkpoint.
        unsure: fields in which models of its format differ, beside the number of heads.
        assumed: what was assumed.
        fields: of the config that came of it.
        given: fields that the caller gives, of which nothing needs to be said.
    """
    listed = [str(each) for each in assumed if each.name in ("num_attention_heads", *unsure) and each.name not in given]
    is_named = any(each.name == "id2label" for each in assumed) or given.keys() & {"id2label", "label2id", "num_labels"}
    if listed and "id2label" in unsure and not is_named and fields["architectures"] == [CLASSIFIER]:
        labels = list(fields["id2label"].values())
        listed.append(f"id2label = {labels[0]} to {labels[-1]} (no file names the classes)" if labels else "")
    if listed:
        warnings.warn(
            f"{source} does not tell, and this was assumed: {', '.join(filter(None, listed))}. If the model was "
            f"trained with others, its answers are wrong: give them, as config=ViTConfig(...) or one by one.",
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


def _image_size(patches: int, patch: list[int], said: Sequence[Any]) -> int | tuple[int, int]:
    for size in said:
        pair = [size, size] if isinstance(size, int) else size
        if not isinstance(pair, list | tuple) or [type(length) for length in pair] != [int, int]:
            continue  # whoever builds the config says what is wrong with it
        height, width = pair
        if (height // patch[0]) * (width // patch[1]) == patches:
            return size if isinstance(size, int) else (height, width)
    side = math.isqrt(patches)
    if math.isqrt(patches + 1) ** 2 == patches + 1 > 1:
        raise ValueError(f"it has {patches + 1} positions, none of which is for the class token; it is not supported.")
    if side * side != patches or not patches:
        raise ValueError(
            f"it has positions for {patches} patches of {patch[0]} x {patch[1]} pixels, which are no square image; "
            f"give image_size as [height, width]."
        )
    return side * patch[0] if patch[0] == patch[1] else (side * patch[0], side * patch[1])


def _layer_count(shapes: Mapping[str, Shape]) -> int:
    prefix = f"{STACKS['encoder']}."
    numbers = {int(name.removeprefix(prefix).split(".")[0]) for name in shapes if name.startswith(prefix)}
    return max(numbers, default=-1) + 1
