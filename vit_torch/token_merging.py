"""Token merging in PyTorch: fewer tokens after each layer (Bolya et al. 2022, https://arxiv.org/abs/2210.09461).

The rules are those of `vit_core.token_merging`. Layers know nothing of it but a function that they call between their
halves.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from vit_core import PretrainedConfig
from vit_core.token_merging import SHORTEST_KEY, Schedule, merged_counts, own_layers_only, require_mergeable
from vit_torch.layers import ViTAttention, ViTLayer, ViTSelfAttention
from vit_torch.outputs import BaseModelOutput


class Pairs(NamedTuple):
    """Which tokens become one, by their numbers among those at even places and those at odd ones.

    Attributes:
        merged: those at even places that are merged.
        partners: into which at odd places.
        kept: those at even places that are not.
    """

    merged: Int[Tensor, "batch merged"]
    partners: Int[Tensor, "batch merged"]
    kept: Int[Tensor, "batch kept"]


class Merged(NamedTuple):
    """What is known of a layer's tokens once some of them were merged.

    Attributes:
        sizes: how many patches each token stands for.
        found: which tokens these were.
    """

    sizes: Float[Tensor, "batch fewer_tokens 1"]
    found: Pairs


def pairs(keys: Float[Tensor, "batch heads tokens head_width"], count: int, before: int) -> Pairs:
    """Find the tokens to merge.

    Args:
        keys: those of attention.
        count: how many to merge.
        before: how many tokens stand before the patches, which stay as they are.
    """
    mean = keys.mean(1, dtype=torch.promote_types(keys.dtype, torch.float32))
    even, odd = _even_and_odd(functional.normalize(mean, dim=-1, eps=SHORTEST_KEY), before)
    similarities, partners = (even @ odd.transpose(1, 2)).max(-1)
    stable = {} if torch.onnx.is_in_onnx_export() else {"stable": True}  # ONNX has none, and takes the first anyway
    order = similarities.argsort(dim=-1, descending=True, **stable)
    merged = order[:, :count]
    return Pairs(merged, partners.gather(1, merged), order[:, count:].sort().values)


def merge(
    hidden_states: Float[Tensor, "batch tokens hidden"],
    *returned: Any,
    count: int,
    before: int,
    sizes: Float[Tensor, "batch tokens 1"] | None,
) -> tuple[Any, ...]:
    """Merge tokens between the halves of a layer.

    Args:
        hidden_states: the tokens.
        *returned: what attention returned beside them, its keys last.
        count: see `pairs`.
        before: see `pairs`.
        sizes: how many patches each token stands for; one unless given.

    Returns:
        The tokens that are left, what attention returned without its keys, and `Merged`.
    """
    *attentions, keys = returned
    with _full_precision(keys.device.type):
        found = pairs(keys, count, before)
        if sizes is None:
            sizes = torch.ones_like(hidden_states[..., :1], dtype=torch.promote_types(keys.dtype, torch.float32))
        first, odd = before + before % 2, hidden_states[:, before + 1 - before % 2 :: 2]
        even_sizes, odd_sizes = _even_and_odd(sizes, before)
        moved_sizes = even_sizes.gather(1, found.merged[..., None])
        joins = found.partners[:, None] == torch.arange(odd.shape[1], device=odd.device)[:, None]
        joins = joins.to(sizes.dtype)
        sums = odd * odd_sizes + joins @ (_taken(hidden_states, first + 2 * found.merged) * moved_sizes)
        odd_sizes = odd_sizes + joins @ moved_sizes
        odd = (sums / odd_sizes).to(hidden_states.dtype)
    kept_sizes = even_sizes.gather(1, found.kept[..., None])
    tokens = torch.cat([hidden_states[:, :before], _taken(hidden_states, first + 2 * found.kept), odd], dim=1)
    return tokens, *attentions, Merged(torch.cat([sizes[:, :before], kept_sizes, odd_sizes], dim=1), found)


def run_merging(
    encoder: Any,
    hidden_states: Float[Tensor, "batch tokens hidden"],
    head_mask: Shaped[Tensor, "layers ..."] | Sequence[Any] | None,
    output_attentions: bool,
    output_hidden_states: bool,
    prefix_only: bool,
) -> BaseModelOutput:
    """Run layers that merge tokens; see `LayerStack.run`.

    Every token of before has its place in the hidden states that are returned: those that were merged are equal there.
    Attention is between the tokens that each layer has.

    Args:
        encoder: whose layers they are, and which knows how many tokens each of them merges.
        hidden_states: the embedded tokens.
        head_mask: see `LayerStack.run`.
        output_attentions: see `LayerStack.run`.
        output_hidden_states: see `LayerStack.run`.
        prefix_only: see `LayerStack.run`.
    """
    before, last = encoder.config.architecture.num_prefix_tokens, len(encoder.layer) - 1
    all_hidden_states, all_attentions = [hidden_states], []
    sizes: Any = None
    sources: Any = None
    options: dict[str, Any]
    for index, (layer, most) in enumerate(zip(encoder.layer, encoder.merged_tokens, strict=True)):
        is_narrow = prefix_only and index == last
        count = 0 if is_narrow else min(most, (hidden_states.shape[1] - before) // 2)
        options = {"prefix_only": True} if is_narrow else {}
        if sizes is not None:
            options["relative_position_bias"] = sizes.log().transpose(1, 2)[:, None]
        if count:
            options["output_keys"] = True
            options["merge"] = partial(merge, count=count, before=before, sizes=sizes)
        checkpoints = encoder.gradient_checkpointing and encoder.training
        run = partial(encoder._gradient_checkpointing_func, layer) if checkpoints else layer
        mask = None if head_mask is None else head_mask[index]
        hidden_states, *attentions = run(hidden_states, mask, output_attentions, **options)
        if count:
            sizes, found = attentions.pop()
            if output_hidden_states or not prefix_only:
                places = _places(found, hidden_states.shape[1], before)
                sources = places if sources is None else places.gather(1, sources)
        all_attentions.append(attentions[0] if attentions else None)
        is_whole = sources is None or is_narrow
        if output_hidden_states or index == last:
            all_hidden_states.append(hidden_states if is_whole else _taken(hidden_states, sources))
    return BaseModelOutput(
        last_hidden_state=all_hidden_states[-1],
        hidden_states=tuple(all_hidden_states) if output_hidden_states else None,
        attentions=tuple(all_attentions) if output_attentions else None,
    )


class TokenMerging:
    """Models that can merge tokens."""

    # Of PreTrainedModel
    config: PretrainedConfig
    task: ClassVar[Any]
    base_model: Any

    def merge_tokens(self, per_layer: int | Sequence[int], schedule: Schedule = "constant") -> None:
        """Have each layer merge tokens that are alike, so that the next ones have less to do.

        The answers change a little, and nothing is trained. No file knows of it: a saved model merges nothing when it
        is loaded. What `hidden_states` and `last_hidden_state` have for a patch is the token that it is part of.

        Args:
            per_layer: how many tokens a layer merges, or a number for each layer; never more than half of the patches
                that it has. 0 merges nothing, as before.
            schedule: "constant", or "decreasing": the first layer merges twice as many and the last none, in even
                steps, which is faster.

        Raises:
            ValueError: a number is impossible; or the model has positions in its attention, layers whose halves are
                parallel, a task that needs each patch, or parts of a script's own.
        """
        require_mergeable(self.config, self.task)
        encoder = self.base_model.encoder
        for index, layer in enumerate(encoder.layer):
            attention = getattr(layer, "attention", None)
            parts = layer, attention, getattr(attention, "attention", None)
            if not all(map(isinstance, parts, (ViTLayer, ViTAttention, ViTSelfAttention))):
                raise own_layers_only(f"layer {index}")
        encoder.merged_tokens = merged_counts(per_layer, schedule, len(encoder.layer))


def _full_precision(device: str) -> AbstractContextManager[Any]:
    """Where autocast does not multiply in half precision."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _even_and_odd(
    tokens: Shaped[Tensor, "batch tokens width"], before: int
) -> tuple[Shaped[Tensor, "batch even width"], Shaped[Tensor, "batch odd width"]]:
    """The tokens at even and at odd places that are not before the patches."""
    return tokens[:, before + before % 2 :: 2], tokens[:, before + 1 - before % 2 :: 2]


def _taken(
    tokens: Shaped[Tensor, "batch tokens width"], places: Int[Tensor, "batch places"]
) -> Shaped[Tensor, "batch places width"]:
    """The tokens at some places; whole rows of a matrix are copied faster than numbers are gathered."""
    batch, count, width = tokens.shape
    rows = places + torch.arange(batch, device=places.device)[:, None] * count
    return tokens.reshape(-1, width).index_select(0, rows.flatten()).view(batch, -1, width)


def _places(found: Pairs, left: int, before: int) -> Int[Tensor, "batch tokens"]:
    """Where tokens went of which so many are left."""
    batch, kept = found.kept.shape
    even, odd = kept + found.merged.shape[1], left - before - kept
    numbers = torch.arange(left, device=found.kept.device).expand(batch, -1)
    of_prefix, of_kept, of_odd = numbers.split([before, kept, odd], 1)
    of_even = torch.cat([of_kept, of_odd.gather(1, found.partners)], 1)
    of_even = of_even.gather(1, torch.cat([found.kept, found.merged], 1).argsort(1))
    patches = torch.arange(even + odd, device=numbers.device)
    in_order = patches // 2 + (patches + before) % 2 * even
    return torch.cat([of_prefix, torch.cat([of_even, of_odd], 1)[:, in_order]], 1)
