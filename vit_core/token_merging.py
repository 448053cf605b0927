"""Token merging: how many tokens each layer merges, and which models can (Bolya et al. 2022,
https://arxiv.org/abs/2210.09461, section 3).

Between the halves of a layer, the tokens at even places, counted from the class token, each find the most similar one
at an odd place; the pairs that are most similar become one token, the mean of all patches that are in it by now. Where
two pairs, or two partners, are equally similar, the first is taken. Similarity is the cosine between keys, averaged
over the heads, in float32 at least. Tokens before the patches are neither merged nor merged into. What is left stands
in the order of before: tokens before the patches, those at even places, those at odd ones. From then on attention adds
the logarithm of how many patches a token stands for to its scores (section 3, "tracking token size").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from vit_core.checks import require_choice, require_integer, shown
from vit_core.config import PretrainedConfig
from vit_core.parameters import Task

#: Whether every layer merges as many tokens, or the first twice as many and the last none, in even steps (section 4.1).
Schedule = Literal["constant", "decreasing"]
#: A number for each layer that no image comes near: more than half of the patches are never merged in one layer.
MOST_MERGED = 2**24
#: What lengths of keys are at least, so that one of zeros is like no other.
SHORTEST_KEY = 1e-12

#: Tasks whose heads read a token for each patch.
OF_EACH_PATCH: frozenset[Task] = frozenset(("masked-image-modeling", "masked-token-modeling", "pre-training"))


def merged_counts(per_layer: int | Sequence[int], schedule: Schedule, layers: int) -> tuple[int, ...]:
    """How many tokens each layer merges.

    Args:
        per_layer: how many on average, or a number for each layer.
        schedule: how that is spread over the layers; see `Schedule`.
        layers: how many there are.

    Returns:
        A number for each layer; none at all if nothing is merged.

    Raises:
        ValueError: a number is negative or no whole number, there are more or fewer than layers, or no such schedule.
    """
    require_choice("schedule", schedule, get_args(Schedule))
    if isinstance(per_layer, Sequence) and not isinstance(per_layer, str):
        if len(per_layer) != layers:
            raise ValueError(f"per_layer has {len(per_layer)} numbers; give one for each of the {layers} layers.")
        if schedule != "constant":
            raise ValueError(f"per_layer is {shown(list(per_layer))}, a schedule of its own; leave schedule out.")
        for count in per_layer:
            require_integer("per_layer", count, 0, MOST_MERGED)
        counts = tuple(map(int, per_layer))
    else:
        require_integer("per_layer", per_layer, 0, MOST_MERGED)
        counts = (int(per_layer),) * layers
        if schedule == "decreasing" and layers > 1:
            counts = tuple(2 * count * (layers - 1 - layer) // (layers - 1) for layer, count in enumerate(counts))
    return counts if any(counts) else ()


def require_mergeable(config: PretrainedConfig, task: Task | None) -> None:
    """Check that tokens of a model can be merged.

    Args:
        config: the model's.
        task: what the model is for; None for one that a script built.

    Raises:
        ValueError: they cannot; the message says why.
    """
    architecture = config.architecture
    if architecture.relative_positions is not None or architecture.rotary_positions is not None:
        kind = "relative" if architecture.relative_positions is not None else "rotary"
        raise ValueError(
            f"the model has {kind} positions, which attention needs of each token, and a merged token has no place; "
            f"only models whose positions are added to the tokens can merge them."
        )
    if architecture.halves == "parallel":
        raise ValueError(
            "the model's layers run attention and the MLP side by side, and tokens are merged between the two; it "
            "cannot merge them."
        )
    if task in OF_EACH_PATCH:
        raise ValueError(
            "the model reconstructs each patch from a token of its own; merge tokens of a model that classifies or "
            "makes features."
        )


def own_layers_only(part: str) -> ValueError:
    """What is raised where a script has put a part of its own in the place of ours.

    Args:
        part: its name.
    """
    return ValueError(
        f"{part} is not of this package, so that it does not return the keys by which tokens are merged; put the "
        f"model's own back, or leave merge_tokens out."
    )
