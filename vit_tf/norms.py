"""The norm that a config's architecture names: LayerNorm, or the root mean square alone."""

from __future__ import annotations

from typing import Any

import keras
from jaxtyping import Float
from keras import layers, ops
from tensorflow import Tensor

from vit_core import PretrainedConfig
from vit_tf.parts import Part


class RMSNorm(Part):
    """LayerNorm without mean and shift (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467)."""

    def __init__(self, config: PretrainedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = config.layer_norm_eps

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones")

    def call(self, inputs: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        exact = inputs if inputs.dtype == "float64" else ops.cast(inputs, "float32")
        size = ops.mean(ops.square(exact), axis=-1, keepdims=True)
        return ops.cast(exact * ops.rsqrt(size + self.epsilon) * ops.cast(self.gamma, exact.dtype), inputs.dtype)


@keras.saving.register_keras_serializable("trivit")
class LayerNorm(layers.LayerNormalization):
    """Keras' LayerNormalization, which reads the tokens once less and takes two thirds of the operations."""

    def call(self, inputs: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Norm; computed in float32 if the inputs are in less."""
        exact = inputs if inputs.dtype == "float64" else ops.cast(inputs, "float32")
        centred = exact - ops.mean(exact, axis=-1, keepdims=True)
        size = ops.rsqrt(ops.mean(ops.square(centred), axis=-1, keepdims=True) + self.epsilon)
        gamma, beta = (ops.cast(each, exact.dtype) for each in (self.gamma, self.beta))
        return ops.cast(centred * size * gamma + beta, inputs.dtype)


def norm_of(config: PretrainedConfig, name: str, dtype: Any) -> LayerNorm | RMSNorm:
    """The norm that the architecture names; under half-precision policies it still computes in float32."""
    if config.architecture.norm == "rms":
        return RMSNorm(config, name=name, dtype=dtype)
    return LayerNorm(epsilon=config.layer_norm_eps, name=name, dtype=dtype)
