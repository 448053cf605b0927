"""Layers as parts of a model: what they have in common, linear ones, and how one is run that a script put there."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, Self

import keras

from vit_core import PretrainedConfig, ViTConfig
from vit_core.auto import CONFIGS
from vit_tf.ours import is_ours
from vit_tf.replacing import Replaceable


class Part(Replaceable, keras.layers.Layer):
    """A part of a model.

    Its arguments are also taken by position; Keras takes tensors so, and nothing else. A functional model of parts goes
    through a `.keras` file.
    """

    _arguments: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if is_ours(cls):
            keras.saving.register_keras_serializable("trivit")(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep what the constructor is called with, for `get_config`."""
        instance = super().__new__(cls, *args, **kwargs)
        with contextlib.suppress(TypeError):  # of a wrong call, which the constructor itself explains
            bound = inspect.signature(cls.__init__).bind(instance, *args, **kwargs).arguments
            given = {**bound.pop("kwargs", {}), **bound}
            object.__setattr__(instance, "_arguments", {name: given[name] for name in given if name != "self"})
        return instance

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for `.keras` files."""
        policy = keras.dtype_policies.serialize(self.dtype_policy)
        told = {**self._arguments, "name": self.name, "dtype": policy, "trainable": self.trainable}
        return {name: each.to_dict() if isinstance(each, PretrainedConfig) else each for name, each in told.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A part from what `get_config` returned."""
        fields = config.get("config")
        if fields is None:
            return cls(**config)
        config_class = CONFIGS.get(fields.get("model_type"), ViTConfig)
        return cls(**{**config, "config": config_class.from_dict(fields)})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the part; see `call`."""
        named = dict(zip(self.call_signature_parameters[1:], args[1:], strict=False))
        if len(args) > len(self.call_signature_parameters):
            raise TypeError(
                f"{type(self).__name__} takes {', '.join(self.call_signature_parameters)}; not {len(args)} arguments."
            )
        if twice := [name for name in named if name in kwargs]:
            raise TypeError(f"{type(self).__name__} got {twice[0]!r} twice.")
        return super().__call__(*args[:1], **named, **kwargs)


class Linear(keras.layers.Dense):
    """Keras' Dense, which takes the tokens of all images as the rows of one matrix.

    TensorFlow multiplies two matrices faster than a batch of them by one.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """See `keras.layers.Dense.call`."""
        return by_rows(lambda rows: super(Linear, self).call(rows, training), inputs)

    def quantized_call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The same once the layer is quantized."""
        return by_rows(lambda rows: super(Linear, self).quantized_call(rows, *args, **kwargs), inputs)

    def quantize(self, mode: Any = None, type_check: bool = True, config: Any = None) -> None:
        """See `keras.layers.Dense.quantize`, which otherwise refuses every subclass."""
        super().quantize(mode, type_check=False, config=config)


def run_part(
    part: Any,
    hidden_states: Any,
    head_mask: Any,
    output_attentions: bool,
    own: type[Part],
    wrapper: Callable[[Any], Callable[..., Any]] | None = None,
    **options: Any,
) -> tuple[Any, ...]:
    """Run an attention or a layer, ours or what a script has put in its place; returns hidden states and attention.

    What one of ours returns besides, it returns, too.

    Args:
        part: anything that takes hidden states, with `head_mask` and `output_attentions` if it knows them, and returns
            hidden states, or a tuple of them and of attention maps.
        hidden_states: (batch, tokens, hidden).
        head_mask: of the layer.
        output_attentions: whether attention maps are wanted.
        own: our class of such parts.
        wrapper: what makes of one of ours the function that runs it, such as `recomputed`.
        **options: what else one of ours is called with.
    """
    if isinstance(part, own):
        run = wrapper(part) if wrapper else part
        returned = run(hidden_states, head_mask, output_attentions=output_attentions, **options)
    else:
        asked = {"head_mask": head_mask, "output_attentions": output_attentions}
        parameters = inspect.signature(part.call if isinstance(part, keras.layers.Layer) else part).parameters
        takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        known = {name: value for name, value in asked.items() if takes_all or name in parameters}
        returned = part(hidden_states, **known)
    hidden_states, *others = returned if isinstance(returned, list | tuple) else (returned,)
    return hidden_states, others[0] if others else None, *others[1:]


def by_rows(multiply: Callable[[Any], Any], inputs: Any) -> Any:
    """What a function of rows makes of tokens, which are the rows of one matrix for it.

    Args:
        multiply: takes and returns (rows, width), of any two widths.
        inputs: (batch, tokens, width), or already rows.
    """
    if len(inputs.shape) == 2:
        return multiply(inputs)
    *between, width = (size(inputs, axis) for axis in range(1, len(inputs.shape)))
    outputs = multiply(keras.ops.reshape(inputs, (-1, width)))
    return keras.ops.reshape(outputs, (-1, *between, outputs.shape[-1]))


def size(tensor: Any, axis: int) -> Any:
    """A tensor's size along an axis: the number where the graph knows it, which then has no operation for it."""
    known = tensor.shape[axis]
    return keras.ops.shape(tensor)[axis] if known is None else known
