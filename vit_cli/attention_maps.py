"""How much the class token looks at each patch: by head, through all layers, and where most of it lies.

Where a model has no class token, as I-JEPA, the patches' mean stands for it, since that is what its classifier reads.
Other tokens before the patches, such as a distillation token, are not in the maps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: What float32 may lack of a share that is reached exactly, relative to it.
ROUNDING = 1e-7


def class_token_attention(attention: np.ndarray, prefix_tokens: int = 1) -> np.ndarray:
    """How much the class token attends to each patch, by head.

    What Caron et al. 2021 (DINO, https://arxiv.org/abs/2104.14294, figures 1 and 8 to 10) draw of the last layer.

    Args:
        attention: of one layer, (batch, heads, tokens, tokens); rows sum to one.
        prefix_tokens: how many tokens stand before the patches, of which the first is the class token.

    Returns:
        (batch, heads, patches); non-negative, and at most one in sum, since the rest goes to the tokens before them.
    """
    asking = attention[:, :, 0] if prefix_tokens else attention.mean(axis=2)
    return asking[:, :, prefix_tokens:]


def class_token_rollout(attentions: Sequence[np.ndarray], prefix_tokens: int = 1) -> np.ndarray:
    """How much of the class token, after the last layer, comes from each patch.

    Attention rollout (Abnar & Zuidema 2020, https://arxiv.org/abs/2005.00928): a layer mixes tokens by the mean of its
    heads' attention and passes half of each token on unchanged through the residual connection; the product over the
    layers says where a token comes from. Only the class token's row of that product is computed.

    Args:
        attentions: for each layer (batch, heads, tokens, tokens); rows sum to one.
        prefix_tokens: as in `class_token_attention`.

    Returns:
        (batch, patches); non-negative, and at most one in sum, since the rest comes from the tokens before them.

    Raises:
        ValueError: there is no layer.
    """
    if not attentions:
        raise ValueError("a model without layers looks nowhere; there are no attentions to follow")
    batch, _, tokens, _ = attentions[0].shape
    row = np.zeros((batch, 1, tokens))
    if prefix_tokens:
        row[:, :, 0] = 1.0
    else:
        row[:] = 1 / tokens
    for attention in reversed(attentions):
        mixing = attention.mean(axis=1, dtype=np.float64) + np.eye(tokens)
        row = row @ (mixing / mixing.sum(axis=-1, keepdims=True))
    return row[:, 0, prefix_tokens:]


def patches_with_mass(weights: np.ndarray, mass: float) -> np.ndarray:
    """The smallest set of patches on which a share of the attention lies.

    As `visualize_attention.py` of DINO selects them with `--threshold`; of equal patches the first are taken.

    Args:
        weights: (patches,), non-negative.
        mass: the share of their sum, above 0 and up to 1.

    Returns:
        (patches,), bool; no patch where there is no attention at all.
    """
    weights = weights.astype(np.float64)
    largest_first = np.argsort(-weights, kind="stable")
    before = np.cumsum(weights[largest_first]) - weights[largest_first]  # the mass without this patch
    kept = np.zeros(weights.shape, dtype=bool)
    kept[largest_first] = before < mass * (1 - ROUNDING) * weights.sum()
    return kept
