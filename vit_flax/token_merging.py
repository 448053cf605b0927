"""Token merging in Flax: fewer tokens after each layer (Bolya et al. 2022, https://arxiv.org/abs/2210.09461).

The rules are those of `vit_core.token_merging`. Layers know nothing of it but a function that they call between their
halves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, Shaped

from vit_core import PretrainedConfig
from vit_core.token_merging import SHORTEST_KEY, Schedule, merged_counts, require_mergeable
from vit_flax.outputs import FlaxBaseModelOutput
from vit_flax.parts import given
from vit_flax.rematerialization import rematerialized

#: Of products, so that decisions are those of a CPU everywhere.
EXACT = jax.lax.Precision.HIGHEST


class Pairs(NamedTuple):
    """Which tokens become one, by their numbers among those at even places and those at odd ones.

    Attributes:
        merged: those at even places that are merged.
        partners: into which at odd places.
        kept: those at even places that are not.
    """

    merged: Int[Array, "batch merged"]
    partners: Int[Array, "batch merged"]
    kept: Int[Array, "batch kept"]


class Merged(NamedTuple):
    """What is known of a layer's tokens once some of them were merged.

    Attributes:
        sizes: how many patches each token stands for.
        places: where each token of before went.
    """

    sizes: Float[Array, "batch fewer_tokens 1"]
    places: Int[Array, "batch tokens"]


def pairs(keys: Float[Array, "batch tokens heads head_dim"], count: int, before: int) -> Pairs:
    """Find the tokens to merge.

    Args:
        keys: those of attention.
        count: how many to merge.
        before: how many tokens stand before the patches, which stay as they are.
    """
    mean = keys.mean(2, dtype=jnp.promote_types(keys.dtype, jnp.float32))
    lengths = jnp.sqrt((mean * mean).sum(-1, keepdims=True))
    even, odd = _even_and_odd(mean / jnp.maximum(lengths, SHORTEST_KEY), before)
    similarities = jnp.matmul(even, odd.transpose(0, 2, 1), precision=EXACT)
    partners = similarities.argmax(-1)
    order = jnp.argsort(similarities.max(-1), axis=-1, stable=True, descending=True)
    merged = order[:, :count]
    return Pairs(merged, jnp.take_along_axis(partners, merged, 1), jnp.sort(order[:, count:], axis=-1))


def merge(
    hidden_states: Float[Array, "batch tokens hidden"],
    *returned: Any,
    count: int,
    before: int,
    sizes: Float[Array, "batch tokens 1"] | None,
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
    found = pairs(keys, count, before)
    if sizes is None:
        sizes = jnp.ones_like(hidden_states[..., :1], dtype=jnp.promote_types(keys.dtype, jnp.float32))
    even, odd = _even_and_odd(hidden_states, before)
    even_sizes, odd_sizes = _even_and_odd(sizes, before)
    moved_sizes = _taken(even_sizes, found.merged)
    joins = (found.partners[:, None] == jnp.arange(odd.shape[1])[:, None]).astype(sizes.dtype)
    moved = _taken(even, found.merged) * moved_sizes
    sums = odd * odd_sizes + jnp.matmul(joins, moved, precision=EXACT)
    odd_sizes = odd_sizes + jnp.matmul(joins, moved_sizes, precision=EXACT)
    odd = (sums / odd_sizes).astype(hidden_states.dtype)
    tokens = jnp.concatenate([hidden_states[:, :before], _taken(even, found.kept), odd], axis=1)
    sizes = jnp.concatenate([sizes[:, :before], _taken(even_sizes, found.kept), odd_sizes], axis=1)
    return tokens, *attentions, Merged(sizes, _places(found, even.shape[1], odd.shape[1], before))


def run_merging(
    stack: Any,
    hidden_states: Float[Array, "batch tokens hidden"],
    deterministic: bool,
    output_attentions: bool,
    output_hidden_states: bool,
    head_mask: Shaped[Array, "layers heads"] | None,
    prefix_only: bool,
) -> FlaxBaseModelOutput:
    """Run layers that merge tokens; see `LayerStack.run`.

    Every token of before has its place in the hidden states that are returned: those that were merged are equal there.
    Attention is between the tokens that each layer has.

    Args:
        stack: the layers, a `FlaxViTLayerCollection`, which knows how many tokens each of them merges.
        hidden_states: the embedded tokens.
        deterministic: see `LayerStack.run`.
        output_attentions: see `LayerStack.run`.
        output_hidden_states: see `LayerStack.run`.
        head_mask: see `LayerStack.run`.
        prefix_only: see `LayerStack.run`.
    """
    before, last = stack.config.architecture.num_prefix_tokens, len(stack.layers) - 1
    all_hidden_states, all_attentions = [hidden_states], []
    sizes: Any = None
    sources: Any = None
    for index, (layer, most) in enumerate(zip(stack.layers, stack.merged_tokens, strict=True)):
        is_narrow = prefix_only and index == last
        count = 0 if is_narrow else min(most, (hidden_states.shape[1] - before) // 2)

        def run(
            layer: Any, x: Array, mask: Any, sizes: Any, count: int = count, is_narrow: bool = is_narrow
        ) -> tuple[Any, ...]:
            options = given(head_mask=mask, prefix_only=is_narrow, output_keys=count > 0)
            if sizes is not None:
                options["relative_position_bias"] = jnp.log(sizes).transpose(0, 2, 1)[:, None]
            if count:
                options["merge"] = partial(merge, count=count, before=before, sizes=sizes)
            return layer(x, deterministic, output_attentions, **options)

        run = rematerialized(run, stack.remat, is_scanned=False)
        mask = None if head_mask is None else head_mask[index]
        hidden_states, *attentions = run(layer, hidden_states, mask, sizes)
        if count:
            sizes, places = attentions.pop()
            sources = places if sources is None else jnp.take_along_axis(places, sources, 1)
        all_attentions.extend(attentions)
        is_whole = sources is None or is_narrow
        if output_hidden_states or index == last:
            all_hidden_states.append(hidden_states if is_whole else _taken(hidden_states, sources))
    return FlaxBaseModelOutput(
        last_hidden_state=all_hidden_states[-1],
        hidden_states=tuple(all_hidden_states) if output_hidden_states else None,
        attentions=tuple(all_attentions) or None,
    )


class TokenMerging:
    """Models that can merge tokens."""

    # Of FlaxPreTrainedModel
    config: PretrainedConfig
    task: ClassVar[Any]
    module: Any

    def merge_tokens(self, per_layer: int | Sequence[int], schedule: Schedule = "constant") -> None:
        """Have each layer merge tokens that are alike, so that the next ones have less to do.

        The answers change a little, and nothing is trained. No file knows of it: a saved model merges nothing when it
        is loaded. What `hidden_states` and `last_hidden_state` have for a patch is the token that it is part of. The
        model gets another `module`; functions that were compiled before keep the old one.

        Args:
            per_layer: how many tokens a layer merges, or a number for each layer; never more than half of the patches
                that it has. 0 merges nothing, as before.
            schedule: "constant", or "decreasing": the first layer merges twice as many and the last none, in even
                steps, which is faster.

        Raises:
            ValueError: a number is impossible; or the model has positions in its attention, layers whose halves are
                parallel or that are scanned, a task that needs each patch, or a module of a script's own.
        """
        require_mergeable(self.config, self.task)
        counts = merged_counts(per_layer, schedule, self.config.num_hidden_layers)
        if not hasattr(self.module, "merged_tokens"):
            raise ValueError(
                f"{type(self.module).__name__} has no field merged_tokens; give it one (merged_tokens: tuple[int, ...] "
                f"= ()), and pass it on to its FlaxViTModule."
            )
        if counts:
            require_unscanned(self.module.scan_layers)
        self.module = self.module.clone(merged_tokens=counts)


def require_unscanned(scan_layers: bool) -> None:
    """Check that layers are compiled one by one.

    Args:
        scan_layers: whether one compiled layer stands for all.

    Raises:
        ValueError: it does.
    """
    if scan_layers:
        raise ValueError(
            "scan_layers=True compiles one layer for all, and where tokens are merged each has another number of them; "
            "load the model without it, the checkpoint is the same."
        )


def _even_and_odd(
    tokens: Shaped[Array, "batch tokens width"], before: int
) -> tuple[Shaped[Array, "batch even width"], Shaped[Array, "batch odd width"]]:
    """The tokens at even and at odd places that are not before the patches."""
    return tokens[:, before + before % 2 :: 2], tokens[:, before + 1 - before % 2 :: 2]


def _taken(
    tokens: Shaped[Array, "batch tokens width"], places: Int[Array, "batch places"]
) -> Shaped[Array, "batch places width"]:
    """The tokens at some places."""
    return jnp.take_along_axis(tokens, places[..., None], 1)


def _places(found: Pairs, even: int, odd: int, before: int) -> Int[Array, "batch tokens"]:
    """Where tokens went that stood at so many even and odd places, and before them."""
    batch, kept = found.kept.shape
    left = jnp.broadcast_to(jnp.arange(before + kept + odd), (batch, before + kept + odd))
    of_prefix, of_kept, of_odd = left[:, :before], left[:, before : before + kept], left[:, before + kept :]
    of_even = jnp.concatenate([of_kept, jnp.take_along_axis(of_odd, found.partners, 1)], 1)
    back = jnp.argsort(jnp.concatenate([found.kept, found.merged], 1), axis=1)
    of_even = jnp.take_along_axis(of_even, back, 1)
    numbers = np.arange(even + odd)
    in_order = numbers // 2 + (numbers + before) % 2 * even
    return jnp.concatenate([of_prefix, jnp.concatenate([of_even, of_odd], 1)[:, in_order]], 1)
