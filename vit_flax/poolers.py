"""Poolers in Flax: what makes one summary of an image of its tokens; see `vit_core.architecture.Pooler`."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vit_core.architecture import Pooler
from vit_flax.activations import activation
from vit_flax.attention import attention
from vit_flax.initialization import normal
from vit_flax.parts import Part


class FlaxViTPooler(Part):
    """A summary of the image from the class token."""

    def setup(self) -> None:
        self.dense = self.linear(self.config.pooler_size, ("hidden", "pooled"))
        self.activation = activation(self.config.pooler_act)

    def __call__(self, hidden_states: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch pooled"]:
        return self.activation(self.dense(hidden_states[:, 0]))


class MeanNormPooler(Part):
    """A summary of the image: the mean of the patches, normed (BEiT, https://arxiv.org/abs/2106.08254)."""

    def setup(self) -> None:
        self.layernorm = self.layer_norm()

    def __call__(self, hidden_states: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch hidden"]:
        return self.layernorm(hidden_states[:, self.config.architecture.num_prefix_tokens :].mean(1))


class ClassTokenPooler(Part):
    """A summary of the image: the class token as it is."""

    def __call__(self, hidden_states: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch hidden"]:
        return hidden_states[:, 0]


class ClassNormPooler(Part):
    """A summary of the image: the class token, normed (CLIP, https://arxiv.org/abs/2103.00020)."""

    def setup(self) -> None:
        self.layernorm = self.layer_norm()

    def __call__(self, hidden_states: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch hidden"]:
        return self.layernorm(hidden_states[:, 0])


class PoolerProjection(Part):
    """A linear layer of the attention pooler, under the name that it has there.

    Attributes:
        features: the width of what it returns.
        axes: the names of its input's and its output's last axis.
    """

    features: int = 0
    axes: tuple[str, str] = ("hidden", "hidden")

    def setup(self) -> None:
        self.dense = self.linear(self.features, self.axes)

    def __call__(self, hidden_states: Float[Array, "*batch inputs"]) -> Float[Array, "*batch features"]:
        return self.dense(hidden_states)


class ProbeAttention(Part):
    """What one query for all images gathers from the tokens of each, up to the output projection."""

    def setup(self) -> None:
        for projection in ("query", "key", "value"):
            setattr(self, projection, self.linear(self.config.hidden_size, ("hidden", "heads")))

    def __call__(
        self, probe: Float[Array, "1 1 hidden"], hidden_states: Float[Array, "batch tokens hidden"]
    ) -> Float[Array, "batch 1 heads_width"]:
        query = self.query(probe)  # computed once, whatever the number of images
        query = jnp.broadcast_to(query, (hidden_states.shape[0], *query.shape[1:]))
        key, value = self.key(hidden_states), self.value(hidden_states)
        gathered = attention(*(self._split(each) for each in (query, key, value)))
        return gathered.reshape(*gathered.shape[:2], self.config.hidden_size)

    def _split(self, projected: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens heads head_dim"]:
        heads, (*batch, width) = self.config.pooler_heads, projected.shape
        split = projected.reshape(*batch, heads, width // heads)
        return self.constrain(split, "batch", "tokens", "heads", None)


class PoolerAttention(Part):
    """The attention of the attention pooler, with its output projection."""

    def setup(self) -> None:
        self.attention = ProbeAttention(**self.shared)
        self.output = PoolerProjection(**self.shared, features=self.config.hidden_size, axes=("heads", "hidden"))

    def __call__(
        self, probe: Float[Array, "1 1 hidden"], hidden_states: Float[Array, "batch tokens hidden"]
    ) -> Float[Array, "batch 1 hidden"]:
        return self.output(self.attention(probe, hidden_states))


class AttentionPooler(Part):
    """A summary of the image that a trained query gathers from all tokens, with an MLP after it (SigLIP; Zhai et al.
    2021, https://arxiv.org/abs/2106.04560, section 3.2, "MAP head").
    """

    def setup(self) -> None:
        config = self.config
        width, mlp = config.hidden_size, config.pooler_mlp_size
        self.probe = self.parameter("probe", (1, 1, width), (None, None, "hidden"), normal(config.initializer_range))
        self.attention = PoolerAttention(**self.shared)
        self.layernorm = self.layer_norm()
        self.intermediate = PoolerProjection(**self.shared, features=mlp, axes=("hidden", "mlp"))
        self.output = PoolerProjection(**self.shared, features=width, axes=("mlp", "hidden"))
        self.activation = activation(config.mlp_act)

    def __call__(self, hidden_states: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch hidden"]:
        gathered = self.attention(self.probe.astype(self.dtype), hidden_states)[:, 0]
        mlp = self.constrain(self.intermediate(self.layernorm(gathered)), "batch", "mlp")
        return gathered + self.output(self.activation(mlp))


class PatchAttentionPooler(AttentionPooler):
    """A summary of the image: the same of the patches alone."""

    def __call__(self, hidden_states: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch hidden"]:
        return super().__call__(hidden_states[:, self.config.architecture.num_prefix_tokens :])


#: The module of each pooler.
POOLERS: dict[Pooler, type[Part]] = {
    "dense": FlaxViTPooler,
    "mean-norm": MeanNormPooler,
    "class-token": ClassTokenPooler,
    "class-norm": ClassNormPooler,
    "attention": AttentionPooler,
    "patch-attention": PatchAttentionPooler,
}
