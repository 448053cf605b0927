"""What the arithmetic of a forward pass needs: matrix products, operations, and memory for what lives at once."""

from __future__ import annotations

import math
from typing import NamedTuple

from benchmarks.models import CLASSES, IMAGE, MODELS, fields_of

FLOAT = 4  # bytes


class Product(NamedTuple):
    """Matrix products of one shape: `count` times (batch, rows, inner) by (batch, inner, columns).

    With `batch` 1 the right side is a weight; otherwise both sides are activations.
    """

    count: int
    batch: int
    rows: int
    inner: int
    columns: int

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * math.prod(self)


def products(model: str, batch: int, image: int = IMAGE, layers: int = 0) -> list[Product]:
    """The matrix products of a forward pass, all tokens in all layers."""
    fields = fields_of(model, image, layers)
    hidden, heads, depth, patch = (
        fields[name] for name in ("hidden_size", "num_attention_heads", "num_hidden_layers", "patch_size")
    )
    mlp = fields.get("intermediate_size", 4 * hidden)
    patches = (image // patch) ** 2
    tokens = patches + 1 + fields.get("num_register_tokens", 0)
    head = hidden // heads
    listed = [
        Product(1, 1, batch * patches, 3 * patch**2, hidden),
        Product(4 * depth, 1, batch * tokens, hidden, hidden),
        Product(depth, batch * heads, tokens, head, tokens),
        Product(depth, batch * heads, tokens, tokens, head),
        Product(depth, 1, batch * tokens, hidden, mlp),
        Product(depth, 1, batch * tokens, mlp, hidden),
    ]
    return [*listed, Product(1, 1, batch, hidden, CLASSES)] if MODELS[model].is_classifier else listed


def operations(model: str, batch: int, image: int = IMAGE, layers: int = 0) -> int:
    """Multiplications and additions of a forward pass's matrix products."""
    return sum(product.operations for product in products(model, batch, image, layers))


def memory(model: str, batch: int, image: int = IMAGE, layers: int = 0) -> int:
    """Bytes of float32 that a forward pass needs at once besides weights, if no intermediate lives longer than it must.

    That is the most of three moments: in the MLP the tokens, and its inner width before and after the activation;
    in attention the tokens, queries, keys and values and what they give; at the start the pixels and the patches.
    Scores of attention are not counted: they need not be held at once (arXiv 2112.05682).
    """
    fields = fields_of(model, image, layers)
    hidden, patch = fields["hidden_size"], fields["patch_size"]
    mlp = fields.get("intermediate_size", 4 * hidden)
    patches = (image // patch) ** 2
    tokens = patches + 1 + fields.get("num_register_tokens", 0)
    moments = [hidden + 2 * mlp, 5 * hidden]
    return FLOAT * batch * max(tokens * max(moments), patches * (3 * patch**2 + hidden))
