"""Token merging in Keras: fewer tokens after each layer (Bolya et al. 2022, https://arxiv.org/abs/2210.09461).

The rules are those of `vit_core.token_merging`. Layers know nothing of it but a function that they call between their
halves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import keras
import tensorflow as tf
from jaxtyping import Float, Int, Shaped
from keras import ops
from tensorflow import Tensor

from vit_core import PretrainedConfig
from vit_core.token_merging import SHORTEST_KEY, Schedule, merged_counts, own_layers_only, require_mergeable
from vit_tf.layers import ViTAttention, ViTLayer, ViTSelfAttention
from vit_tf.outputs import TFBaseModelOutput
from vit_tf.rematerialization import recomputed


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
        places: where each token of before went.
    """

    sizes: Float[Tensor, "batch fewer_tokens 1"]
    places: Int[Tensor, "batch tokens"]


def pairs(keys: Float[Tensor, "batch tokens heads head_dim"], count: int | Tensor, before: int) -> Pairs:
    """Find the tokens to merge.

    Args:
        keys: those of attention.
        count: how many to merge.
        before: how many tokens stand before the patches, which stay as they are.
    """
    mean = ops.mean(ops.cast(keys, _precise(keys)), axis=2)
    lengths = ops.sqrt(ops.sum(mean * mean, axis=-1, keepdims=True))
    even, odd = _even_and_odd(mean / ops.maximum(lengths, SHORTEST_KEY), before)
    similarities = ops.matmul(even, ops.transpose(odd, (0, 2, 1)))
    partners = ops.argmax(similarities, axis=-1)
    order = tf.argsort(ops.max(similarities, axis=-1), direction="DESCENDING", stable=True)
    merged = order[:, :count]
    return Pairs(merged, _taken(partners, merged), ops.sort(order[:, count:], axis=-1))


def merge(
    hidden_states: Float[Tensor, "batch tokens hidden"],
    *returned: Any,
    count: int | Tensor,
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
    found = pairs(keys, count, before)
    if sizes is None:
        sizes = ops.ones_like(hidden_states[..., :1], dtype=_precise(keys))
    even, odd = _even_and_odd(hidden_states, before)
    even_sizes, odd_sizes = _even_and_odd(sizes, before)
    moved_sizes = _taken(even_sizes, found.merged)
    joins = found.partners[:, None] == ops.arange(ops.shape(odd)[1], dtype=found.partners.dtype)[:, None]
    joins = ops.cast(joins, sizes.dtype)
    moved = ops.cast(_taken(even, found.merged), sizes.dtype) * moved_sizes
    sums = ops.cast(odd, sizes.dtype) * odd_sizes + ops.matmul(joins, moved)
    odd_sizes = odd_sizes + ops.matmul(joins, moved_sizes)
    places = _places(found, ops.shape(even)[1], ops.shape(odd)[1], before)
    odd = ops.cast(sums / odd_sizes, hidden_states.dtype)
    tokens = ops.concatenate([hidden_states[:, :before], _taken(even, found.kept), odd], axis=1)
    sizes = ops.concatenate([sizes[:, :before], _taken(even_sizes, found.kept), odd_sizes], axis=1)
    return tokens, *attentions, Merged(sizes, places)


def run_merging(
    encoder: Any,
    hidden_states: Float[Tensor, "batch tokens hidden"],
    head_mask: Shaped[Tensor, "layers heads"] | Sequence[Tensor | None] | None,
    output_attentions: bool,
    output_hidden_states: bool,
    prefix_only: bool,
    training: bool,
) -> TFBaseModelOutput:
    """Run layers that merge tokens; see `LayerStack.run_layers`.

    Every token of before has its place in the hidden states that are returned: those that were merged are equal there.
    Attention is between the tokens that each layer has.

    Args:
        encoder: whose layers they are, and which knows how many tokens each of them merges.
        hidden_states: the embedded tokens.
        head_mask: see `LayerStack.run_layers`.
        output_attentions: see `LayerStack.run_layers`.
        output_hidden_states: see `LayerStack.run_layers`.
        prefix_only: see `LayerStack.run_layers`.
        training: see `LayerStack.run_layers`.
    """
    before, last = encoder.num_prefix_tokens, len(encoder.layer) - 1
    all_hidden_states, all_attentions = [hidden_states], []
    sizes: Any = None
    sources: Any = None
    options: dict[str, Any]
    for index, (layer, most) in enumerate(zip(encoder.layer, encoder.merged_tokens, strict=True)):
        is_narrow = prefix_only and index == last
        count, options = 0 if is_narrow else _at_most_half(most, hidden_states, before), {"prefix_only": is_narrow}
        if sizes is not None:
            options["relative_position_bias"] = ops.transpose(ops.log(sizes), (0, 2, 1))[:, None]
        merges = not isinstance(count, int) or count > 0
        if merges:
            options["merge"] = partial(merge, count=count, before=before, sizes=sizes)
        run = recomputed(layer) if encoder.gradient_checkpointing and training else layer
        mask = None if head_mask is None else head_mask[index]
        hidden_states, *attentions = run(hidden_states, mask, output_attentions=output_attentions, **options)
        if merges:
            sizes, places = attentions.pop()
            sources = places if sources is None else _taken(places, sources)
        all_attentions.extend(attentions)
        is_whole = sources is None or is_narrow
        if output_hidden_states or index == last:
            all_hidden_states.append(hidden_states if is_whole else _taken(hidden_states, sources))
    return TFBaseModelOutput(
        last_hidden_state=all_hidden_states[-1],
        hidden_states=tuple(all_hidden_states) if output_hidden_states else None,
        attentions=tuple(all_attentions) if output_attentions else None,
    )


class TokenMerging:
    """Models that can merge tokens."""

    # Of PreTrainedModel
    config: PretrainedConfig
    task: ClassVar[Any]
    _base_model: Any

    def merge_tokens(self, per_layer: int | Sequence[int], schedule: Schedule = "constant") -> None:
        """Have each layer merge tokens that are alike, so that the next ones have less to do.

        The answers change a little, and nothing is trained. No file knows of it: a saved model merges nothing when it
        is loaded, and an exported one does. What `hidden_states` and `last_hidden_state` have for a patch is the token
        that it is part of. `predict`, `evaluate` and `fit` trace the model anew; a `tf.function` of your own keeps what
        it traced before.

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
        encoder = self._base_model().encoder
        for index, layer in enumerate(encoder.layer):
            attention = getattr(layer, "attention", None)
            parts = layer, attention, getattr(attention, "attention", None)
            if not all(map(isinstance, parts, (ViTLayer, ViTAttention, ViTSelfAttention))):
                raise own_layers_only(f"layer {index}")
        encoder.merged_tokens = merged_counts(per_layer, schedule, len(encoder.layer))
        self.train_function = self.test_function = self.predict_function = None


def _at_most_half(most: int, hidden_states: Tensor, before: int) -> int | Tensor:
    """How many tokens are merged of those that there are, which a graph may leave open."""
    if not most:
        return 0
    half = (ops.shape(hidden_states)[1] - before) // 2
    return min(most, half) if isinstance(half, int) else ops.minimum(most, half)


def _precise(keys: Tensor) -> str:
    """The dtype of decisions: float32 at least."""
    dtype: str = keras.backend.result_type(keras.backend.standardize_dtype(keys.dtype), "float32")
    return dtype


def _even_and_odd(
    tokens: Shaped[Tensor, "batch tokens width"], before: int
) -> tuple[Shaped[Tensor, "batch even width"], Shaped[Tensor, "batch odd width"]]:
    """The tokens at even and at odd places that are not before the patches."""
    return tokens[:, before + before % 2 :: 2], tokens[:, before + 1 - before % 2 :: 2]


def _taken(
    tokens: Shaped[Tensor, "batch tokens *width"], places: Int[Tensor, "batch places"]
) -> Shaped[Tensor, "batch places *width"]:
    """What is at some places of each image."""
    return tf.gather(tokens, places, axis=1, batch_dims=1)


def _places(found: Pairs, even: int | Tensor, odd: int | Tensor, before: int) -> Int[Tensor, "batch tokens"]:
    """Where tokens went that stood at so many even and odd places, and before them."""
    batch, kept = ops.shape(found.kept)
    left = ops.broadcast_to(ops.arange(before + kept + odd, dtype="int32"), (batch, before + kept + odd))
    of_prefix, of_kept, of_odd = left[:, :before], left[:, before : before + kept], left[:, before + kept :]
    of_even = ops.concatenate([of_kept, _taken(of_odd, found.partners)], axis=1)
    of_even = _taken(of_even, tf.argsort(ops.concatenate([found.kept, found.merged], axis=1), axis=1))
    numbers = ops.arange(even + odd, dtype="int32")
    in_order = numbers // 2 + (numbers + before) % 2 * even
    of_patches = ops.take(ops.concatenate([of_even, of_odd], axis=1), in_order, axis=1)
    return ops.concatenate([of_prefix, of_patches], axis=1)
