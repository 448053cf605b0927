"""What the layers of the model are made of: parameters with named axes, and the layers that multiply by them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.errors import ScopeParamShapeError
from jax import Array
from jaxtyping import Float

from vit_core import PretrainedConfig
from vit_core.outputs import ModelOutput
from vit_flax.initialization import Initializer, normal
from vit_flax.precision import product
from vit_flax.sharding import Partitioning


def existing(module: nn.Module, name: str, shape: Sequence[int]) -> Any:
    """A parameter that a module has been given, or None.

    Flax's `param` traces the parameter's initialiser each time, for its shape alone. To be told the shape halves the
    time to trace a model, and that of a call without `jit`.

    Raises:
        flax.errors.ScopeParamShapeError: it has another shape.
    """
    if not module.has_variable("params", name):
        return None
    value: Any = nn.unbox(module.get_variable("params", name))
    found = getattr(value, "shape", ())
    if found != tuple(shape):
        raise ScopeParamShapeError(name, "/" + "/".join(module.path), found, tuple(shape))
    return value


class Part(nn.Module):
    """A part of a model.

    Attributes:
        config: the model's.
        dtype: what it computes in. Softmax, LayerNorm and losses are in float32 at least.
        param_dtype: of the parameters that `init` makes.
        partitioning: where parameters and activations lie on a mesh, if on one; then `init` returns parameters in
            Flax's boxes, which know the axes of the mesh.
    """

    config: PretrainedConfig
    dtype: Any = jnp.float32
    _: KW_ONLY  # by position come the fields that transformers has, and those of scripts' own subclasses
    param_dtype: Any = jnp.float32
    partitioning: Partitioning | None = None

    @property
    def shared(self) -> dict[str, Any]:
        """What the parts of this part have in common with it."""
        return {name: getattr(self, name) for name in ("config", "dtype", "param_dtype", "partitioning")}

    @nn.nowrap
    def parameter(self, name: str, shape: tuple[int, ...], axes: tuple[str | None, ...], start: Initializer) -> Array:
        """A parameter with a name for each axis; see `vit_flax.sharding`."""
        value = existing(self, name, shape)
        return self.param(name, self.placed(start, axes), shape, self.param_dtype) if value is None else value

    @nn.nowrap
    def placed(self, start: Initializer, axes: tuple[str | None, ...]) -> Initializer:
        """An initialiser whose parameters know where they lie on the mesh, if there is one."""
        return start if self.partitioning is None else self.partitioning.placed(start, axes, self.name)

    @nn.nowrap
    def constrain(self, array: Array, *axes: str | None) -> Array:
        """Lay an activation out on the mesh, if there is one."""
        if self.partitioning is None or self.is_initializing():  # `init` traces a single image
            return array
        return self.partitioning.constrain(array, *axes)

    @nn.nowrap
    def linear(self, features: int, axes: tuple[str, str], use_bias: bool = True) -> Linear:
        """A linear layer; `axes` are the names of its input's and its output's last axis."""
        return Linear(**self.shared, features=features, axes=axes, use_bias=use_bias)

    @nn.nowrap
    def layer_norm(self, axis: str = "hidden") -> LayerNorm | RMSNorm:
        """The norm of the model's architecture over the last axis, whose name is `axis`; in float32 at least."""
        if self.config.architecture.norm == "rms":
            return RMSNorm(
                epsilon=self.config.layer_norm_eps,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                scale_init=self.placed(nn.initializers.ones, (axis,)),
            )
        return LayerNorm(
            epsilon=self.config.layer_norm_eps,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            scale_init=self.placed(nn.initializers.ones, (axis,)),
            bias_init=self.placed(nn.initializers.zeros, (axis,)),
            use_fast_variance=False,  # the fast one is a difference of squares, which loses digits
        )

    @nn.nowrap
    def returned(self, output: ModelOutput, return_dict: bool | None) -> Any:
        """The output in the form that the call or the config asks for."""
        if return_dict is None:
            return_dict = self.config.use_return_dict
        return output if return_dict else output.to_tuple()


class Norm(nn.Module):
    """A norm that takes its parameters as the parts do."""

    @nn.nowrap
    def param(self, name: str, init_fn: Any, *init_args: Any, **options: Any) -> Any:
        """A parameter whose shape comes first among the initialiser's arguments."""
        value = existing(self, name, init_args[0])
        return super().param(name, init_fn, *init_args, **options) if value is None else value


class LayerNorm(Norm, nn.LayerNorm):
    """Flax's LayerNorm."""


class RMSNorm(Norm, nn.RMSNorm):
    """Flax's RMSNorm."""


def given(**options: Any) -> dict[str, Any]:
    """The options that are set, for parts that may be someone else's and know no others."""
    return {name: value for name, value in options.items() if value is not None and value is not False}


class Linear(Part):
    """A linear layer.

    Attributes:
        features: the width of what it returns.
        axes: the names of its input's and its output's last axis.
        use_bias: whether it has a bias.
    """

    features: int = 0
    axes: tuple[str, str] = ("hidden", "hidden")
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch features"]:
        kernel = self.parameter(
            "kernel", (x.shape[-1], self.features), self.axes, normal(self.config.initializer_range)
        )
        # The tokens of all images as rows of one matrix, which XLA multiplies faster on a CPU.
        y = product("ri,io->ro", x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), kernel, self.dtype)
        if self.use_bias:
            y = y + self.parameter("bias", (self.features,), self.axes[1:], nn.initializers.zeros)
        return y.astype(self.dtype).reshape(*x.shape[:-1], self.features)


class PatchConvolution(Part):
    """A convolution whose patches lie side by side, so that it is one matrix product.

    Attributes:
        features: the channels of what it returns.
        patch_shape: height and width of a patch.
        axes: the names of its input's and its output's channels.
        use_bias: whether it has a bias.
    """

    features: int = 0
    patch_shape: tuple[int, int] = (1, 1)
    axes: tuple[str | None, str | None] = (None, None)
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width inputs"]) -> Float[Array, "batch rows columns features"]:
        (height, width), (batch, *size, inputs) = self.patch_shape, x.shape
        kernel = self.parameter(
            "kernel",
            (height, width, inputs, self.features),
            (None, None, *self.axes),
            normal(self.config.initializer_range),
        )
        rows, columns = size[0] // height, size[1] // width  # what the patches leave of an image is not looked at
        patches = x[:, : rows * height, : columns * width].reshape(batch, rows, height, columns, width, inputs)
        patches = patches.transpose(0, 1, 3, 2, 4, 5).reshape(batch * rows * columns, height * width * inputs)
        y = product("ri,io->ro", patches, kernel.reshape(-1, self.features), self.dtype)
        if self.use_bias:
            y = y + self.parameter("bias", (self.features,), self.axes[1:], nn.initializers.zeros)
        return y.astype(self.dtype).reshape(batch, rows, columns, self.features)
