"""Poolers in Keras: what makes one summary of an image of its tokens; see `vit_core.architecture.Pooler`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from jaxtyping import Float
from keras import ops
from tensorflow import Tensor

from vit_core import PretrainedConfig
from vit_core.architecture import Pooler
from vit_tf.activations import activation
from vit_tf.initialization import Start
from vit_tf.layers import Shape, linear
from vit_tf.norms import norm_of
from vit_tf.parts import Part


class ViTPooler(Part):
    """A summary of the image from the first token, which is the class token where there is one."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_shape = (None, config.pooler_size)  # for `summary`
        self.dense = linear(config, config.pooler_size, "dense", self.dtype_policy)
        self.activation = activation(config.pooler_act)

    def build(self, input_shape: Shape) -> None:
        self.dense.build((None, input_shape[-1]))

    def call(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch pooled"]:
        return self.activation(self.dense(hidden_states[:, 0]))


class MeanNormPooler(Part):
    """A summary of the image from its patches: LayerNorm of their mean (BEiT, https://arxiv.org/abs/2106.08254)."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_shape = (None, config.hidden_size)  # for `summary`
        self.num_prefix_tokens = config.architecture.num_prefix_tokens
        self.layernorm = norm_of(config, "layernorm", self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        self.layernorm.build((None, input_shape[-1]))

    def call(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch hidden"]:
        return self.layernorm(ops.mean(hidden_states[:, self.num_prefix_tokens :], axis=1))


class ClassTokenPooler(Part):
    """The class token as a summary of the image."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_shape = (None, config.hidden_size)  # for `summary`

    def call(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch hidden"]:
        return hidden_states[:, 0]


class ClassNormPooler(Part):
    """LayerNorm of the class token as a summary of the image (CLIP, https://arxiv.org/abs/2103.00020)."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_shape = (None, config.hidden_size)  # for `summary`
        self.layernorm = norm_of(config, "layernorm", self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        self.layernorm.build((None, input_shape[-1]))

    def call(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch hidden"]:
        return self.layernorm(hidden_states[:, 0])


class PoolerProjection(Part):
    """A linear layer of the pooler that asks, under the name that it has there."""

    def __init__(self, config: PretrainedConfig, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = linear(config, units, "dense", self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        self.dense.build(input_shape)

    def call(self, hidden_states: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return self.dense(hidden_states)


class ProbeAttention(Part):
    """What a query gathers from the tokens, up to the output projection."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads, self.head_dim = config.pooler_heads, config.hidden_size // config.pooler_heads
        self.query, self.key, self.value = (
            linear(config, config.hidden_size, name, self.dtype_policy) for name in ("query", "key", "value")
        )

    def build(self, input_shape: Shape) -> None:
        for projection in (self.query, self.key, self.value):
            projection.build(input_shape)

    def call(
        self, probe: Float[Tensor, "1 1 hidden"], hidden_states: Float[Tensor, "batch tokens hidden"]
    ) -> Float[Tensor, "batch hidden"]:
        query, key, value = (
            ops.reshape(projected, (-1, ops.shape(projected)[1], self.num_heads, self.head_dim))
            for projected in (self.query(probe), self.key(hidden_states), self.value(hidden_states))
        )
        # One query for all images, so that it is computed once.
        scores = ops.einsum("hd,bthd->bht", query[0, 0], key) * self.head_dim**-0.5
        gathered = ops.einsum("bht,bthd->bhd", ops.softmax(scores), value)
        return ops.reshape(gathered, (-1, self.num_heads * self.head_dim))


class PoolerAttention(Part):
    """The attention of the pooler that asks, with its output projection."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attention = ProbeAttention(config, name="attention", dtype=self.dtype_policy)
        self.output_ = PoolerProjection(config, config.hidden_size, name="output", dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        self.attention.build(input_shape)
        self.output_.build(input_shape)

    def call(
        self, probe: Float[Tensor, "1 1 hidden"], hidden_states: Float[Tensor, "batch tokens hidden"]
    ) -> Float[Tensor, "batch hidden"]:
        return self.output_(self.attention(probe, hidden_states))


class AttentionPooler(Part):
    """A summary of the image that a trained query gathers from all tokens, with an MLP after it (SigLIP; Zhai et al.
    2021, https://arxiv.org/abs/2106.04560, section 3.2, "MAP head").
    """

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.output_shape = (None, config.hidden_size)  # for `summary`
        self.attention = PoolerAttention(config, name="attention", dtype=self.dtype_policy)
        self.layernorm = norm_of(config, "layernorm", self.dtype_policy)
        self.intermediate = PoolerProjection(
            config, config.pooler_mlp_size, name="intermediate", dtype=self.dtype_policy
        )
        self.output_ = PoolerProjection(config, config.hidden_size, name="output", dtype=self.dtype_policy)
        self.activation = activation(config.mlp_act)

    def build(self, input_shape: Shape) -> None:
        width = self.config.hidden_size
        self.probe = self.add_weight(name="probe", shape=(1, 1, width), initializer=Start(self.config))
        self.attention.build((None, None, width))
        self.layernorm.build((None, width))
        self.intermediate.build((None, width))
        self.output_.build((None, self.config.pooler_mlp_size))

    def call(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch hidden"]:
        gathered = self.attention(tf.convert_to_tensor(self.probe), hidden_states)
        return gathered + self.output_(self.activation(self.intermediate(self.layernorm(gathered))))


class PatchAttentionPooler(AttentionPooler):
    """The same of the patches alone as a summary of the image."""

    def call(self, hidden_states: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch hidden"]:
        return super().call(hidden_states[:, self.config.architecture.num_prefix_tokens :])


#: See `vit_core.architecture.Pooler`.
POOLERS: dict[Pooler, type[Part]] = {
    "dense": ViTPooler,
    "mean-norm": MeanNormPooler,
    "class-token": ClassTokenPooler,
    "class-norm": ClassNormPooler,
    "attention": AttentionPooler,
    "patch-attention": PatchAttentionPooler,
}
