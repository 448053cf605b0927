"""A Vision Transformer as one would write it with flax.linen's own layers, in a dozen lines."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.models import CLASSES, EPSILON, IMAGE, fields_of
from benchmarks.sides.flax import passes
from benchmarks.worker import Prepared


class PlainViT(nn.Module):
    """Attributes: the sizes, and the type that it computes with."""

    hidden: int
    layers: int
    heads: int
    patch: int
    dtype: Any

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """From images, channels last, to logits."""
        as_this = {"dtype": self.dtype}
        patches = (self.patch, self.patch)
        x = nn.Conv(self.hidden, patches, strides=patches, padding="VALID", **as_this)(images)
        x = x.reshape(len(images), -1, self.hidden)
        token = self.param("cls_token", nn.initializers.zeros, (1, 1, self.hidden))
        x = jnp.concatenate([jnp.broadcast_to(token, (len(images), 1, self.hidden)).astype(x.dtype), x], axis=1)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:])).astype(x.dtype)
        for _ in range(self.layers):
            x = x + nn.MultiHeadDotProductAttention(self.heads, **as_this)(nn.LayerNorm(EPSILON, **as_this)(x))
            wide = nn.Dense(4 * self.hidden, **as_this)(nn.LayerNorm(EPSILON, **as_this)(x))
            x = x + nn.Dense(self.hidden, **as_this)(nn.gelu(wide, approximate=False))
        return nn.Dense(CLASSES, **as_this)(nn.LayerNorm(EPSILON, **as_this)(x)[:, 0])


def prepare(kind: str, model: str, batch: int, dtype: str, image: int = IMAGE) -> Prepared:
    """Forward passes or training steps."""
    fields = fields_of(model, image)
    sizes = (fields[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size"))
    plain = PlainViT(*sizes, passes.DTYPES[dtype])
    params = jax.jit(plain.init)(jax.random.key(0), jnp.zeros((1, image, image, 3)))
    # Its weights are its own, so its answers are not compared.
    prepared = passes.KINDS[kind](plain.apply, params, batch, dtype, image, channels_last=True)
    return Prepared(prepared.run)
