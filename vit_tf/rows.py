"""Tokens as rows: in the encoder, those of all images are the rows of one matrix.

TensorFlow multiplies two matrices faster than a batch of them by one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from keras import layers, ops
from tensorflow import Tensor

from vit_tf.parts import Part


class TokenRows(Part):
    """A part whose `call` takes rows, and as options how many of them an image has (`tokens`).

    Called by itself, as scripts do that build a model of their own from parts, it takes and returns hidden states
    (batch, tokens, hidden): a tuple of them and, with `output_attentions`, of the attention maps.
    """

    def __call__(
        self,
        hidden_states: Any,
        head_mask: Any = None,
        output_attentions: bool = False,
        *,
        tokens: int | Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Run the part, on rows if `tokens` are given."""
        if tokens is not None:
            return super().__call__(hidden_states, head_mask, tokens=tokens, **options)
        _, tokens, width = ops.shape(hidden_states)
        rows, probabilities = super().__call__(
            ops.reshape(hidden_states, (-1, width)), head_mask, tokens=tokens, **options
        )
        hidden_states = ops.reshape(rows, (-1, tokens, rows.shape[-1]))
        return (hidden_states, probabilities) if output_attentions else (hidden_states,)


def run_on_rows(
    part: Any,
    rows: Float[Tensor, "all_tokens hidden"],
    head_mask: Any,
    output_attentions: bool,
    tokens: int | Tensor,
    class_token_only: bool = False,
    wrapper: Callable[[layers.Layer], Callable[..., Any]] | None = None,
) -> tuple[Float[Tensor, "some_tokens hidden"], Float[Tensor, "batch heads _ tokens"] | None]:
    """Run a part on rows, also one that a script has put in place of ours and that knows hidden states alone.

    Args:
        part: a `TokenRows`, or anything that takes hidden states, with `head_mask` and `output_attentions` if it knows
            them, and returns hidden states, or a tuple of them and of attention maps.
        rows: the tokens of all images.
        head_mask: of the layer.
        output_attentions: whether attention maps are wanted.
        tokens: how many rows an image has.
        class_token_only: whether a `TokenRows` is to compute the class token alone.
        wrapper: what makes of a `TokenRows` the function that runs it, such as `recomputed`.
    """
    if isinstance(part, TokenRows):
        run = wrapper(part) if wrapper else part
        return run(rows, head_mask, tokens=tokens, class_token_only=class_token_only)
    asked = {"head_mask": head_mask, "output_attentions": output_attentions}
    parameters = inspect.signature(part.call if isinstance(part, layers.Layer) else part).parameters
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    returned = part(
        ops.reshape(rows, (-1, tokens, rows.shape[-1])),
        **{name: value for name, value in asked.items() if takes_all or name in parameters},
    )
    hidden_states, *others = returned if isinstance(returned, list | tuple) else (returned,)
    return ops.reshape(hidden_states, (-1, hidden_states.shape[-1])), others[0] if others else None
