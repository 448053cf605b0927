"""Keras' own ways to keep a model: what `.keras` files say of it, quantization, and exports for serving."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Mapping
from os import PathLike
from typing import Any, Self

import keras

from vit_core import PretrainedConfig, ViTConfig
from vit_core.layouts import KERAS
from vit_core.parameters import Parameter
from vit_tf.dtypes import default_policy
from vit_tf.ours import is_ours

#: What `get_config` tells of what was done to a model since it was built.
DONE_SINCE = ("quantized_layers", "frozen_layers", "gradient_checkpointing")
#: What Keras itself writes.
SIMPLE = (str, int, float, bool, type(None))


class KerasFiles(keras.Model):
    """What a model tells Keras of itself."""

    config: PretrainedConfig
    config_class: type[PretrainedConfig]
    main_input_name: str
    data_format: str
    is_gradient_checkpointing: Any
    gradient_checkpointing_enable: Any
    build_missing: Any
    parameter_table: Any
    _from_config: Any
    _image_shape: Any
    _followed_config: Any
    _find: Any
    _found: Any
    _own_arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep what a subclass's own constructor is called with, for `.keras` files."""
        instance = super().__new__(cls, *args, **kwargs)
        object.__setattr__(instance, "_own_arguments", _arguments_of_subclass(cls, args, kwargs))
        return instance

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments and what was done to the model since, for `.keras` files.

        That is: which linear layers are quantized, which layers are frozen, and whether gradient checkpointing is on;
        and the config follows parts that were replaced. Of a subclass's own arguments those are told that JSON has; for
        others it overrides this method, as Keras' layers do.

        LoRA is not in it: Keras adds its update to the weights that it saves, and could not go on training it.
        """
        quantized = {
            name: {
                "mode": layer.quantization_mode,
                "config": keras.saving.serialize_keras_object(layer.quantization_config),
            }
            for name, layer in self._linear_layers().items()
            if layer.quantization_mode
        }
        config = self.config if quantized else self._followed_config()
        return {
            **super().get_config(),
            **self._told_arguments(),
            "config": json.loads(config.to_json_string()),
            "data_format": self.data_format,
            "quantized_layers": quantized,
            "frozen_layers": [name for name, layer in self._layers_with_weights().items() if not layer.trainable],
            "gradient_checkpointing": self.is_gradient_checkpointing,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any] | ViTConfig, custom_objects: Any = None, **options: Any) -> Self:
        """Build a model from what `get_config` returned, or from a ViTConfig, as scripts for transformers do.

        Args:
            config: either, or what `ViTConfig.to_dict` returns.
            custom_objects: see `keras.Model.from_config`.
            **options: with a ViTConfig, those of `_from_config`.
        """
        if isinstance(config, PretrainedConfig):
            return cls._from_config(config, **options)
        if "config" not in config:
            return cls._from_config(cls.config_class.from_dict(config), **options)
        arguments = {name: value for name, value in config.items() if name not in DONE_SINCE}
        arguments["config"] = cls.config_class.from_dict(config["config"])
        with default_policy(keras.dtype_policies.get(arguments.get("dtype"))):
            model = cls(**_taken(cls, arguments))
            model.build_missing()
        linear_layers = model._linear_layers()
        for name, settings in config["quantized_layers"].items():
            quantization = keras.saving.deserialize_keras_object(settings["config"])
            linear_layers[name].quantize(settings["mode"], config=quantization)
        if config["frozen_layers"]:
            for name, layer in model._layers_with_weights().items():
                layer.trainable = name not in config["frozen_layers"]
        if config["gradient_checkpointing"]:
            model.gradient_checkpointing_enable()
        return model

    def _told_arguments(self) -> dict[str, Any]:
        """The subclass's own arguments, as far as a file can tell them; the others are said."""
        told = {name: value for name, value in self._own_arguments.items() if _is_simple(value)}
        untold = [name for name in self._own_arguments if name not in told]
        if untold and is_ours(type(self).get_config):
            warnings.warn(
                f"{type(self).__name__} was built with {', '.join(untold)}, which a .keras file does not tell; "
                f"override get_config and from_config to say how, or the model does not load.",
                stacklevel=4,
            )
        return told

    def _layers_with_weights(self) -> dict[str, keras.layers.Layer]:
        """The layers that hold parameters, and those that hold such layers, by name, the outer ones first."""
        paths = (KERAS.path(row)[:-1] for row in self._held_rows())
        found = {path[:depth]: self._find(path[:depth]) for path in paths for depth in range(1, len(path) + 1)}
        return {".".join(path): layer for path, layer in found.items() if isinstance(layer, keras.layers.Layer)}

    def _linear_layers(self) -> dict[str, keras.layers.Dense]:
        """The linear layers by the names of their weights."""
        return {row.name: self._find(KERAS.path(row)[:-1]) for row in self._held_rows() if row.kind == "linear"}

    def _held_rows(self) -> list[Parameter]:
        """The rows of the table whose parts the model still has."""
        table = self.parameter_table()
        held = self._found(table)
        return [row for row in table if row.name in held]

    def quantize(self, mode: str | None = None, config: Any = None, filters: Any = None, **kwargs: Any) -> None:
        """Quantize the linear layers, which are nearly all of the weights; see `keras.Model.quantize`.

        Args:
            mode: "int8", "int4" or "float8".
            config: Keras' quantization config instead of a mode.
            filters: which layers; the linear ones unless given.
            **kwargs: see `keras.Model.quantize`.
        """
        super().quantize(mode, config, filters or _is_linear, **kwargs)

    def export(
        self,
        filepath: str | PathLike[str],
        format: str = "tf_saved_model",
        *,
        interpolate_pos_encoding: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write the model for serving; see `keras.Model.export`.

        A SavedModel has the endpoint "serve" and the signature "serving_default". They take any number of images as
        `pixel_values` and return what is in the output by name: {"logits": ...} or, for several tensors,
        {"hidden_states_0": ...}.

        Args:
            filepath: where.
            format: "tf_saved_model", or another that Keras has.
            interpolate_pos_encoding: whether images may have any size.
            **kwargs: see `keras.Model.export`.
        """
        size = (None, None) if interpolate_pos_encoding else self.config.image_shape
        images = keras.Input(self._image_shape(size), name=self.main_input_name, dtype="float32")
        output = self(images, interpolate_pos_encoding=interpolate_pos_encoding, return_dict=True)
        named: dict[str, Any] = {}
        for name, item in output.items():
            named |= {f"{name}_{i}": each for i, each in enumerate(item)} if isinstance(item, tuple) else {name: item}
        keras.Model(images, named).export(filepath, format=format, **kwargs)


def _is_linear(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Dense)


def _arguments_of_subclass(cls: type[Any], args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a call of the constructor gives to parameters that none of our classes has, by name."""
    constructors = [each for each in cls.__mro__ if "__init__" in vars(each) and issubclass(each, KerasFiles)]
    ours = {name for each in constructors if is_ours(each) for name in inspect.signature(each).parameters}
    own = [name for each in constructors for name in inspect.signature(each).parameters if name not in ours]
    try:
        bound = inspect.signature(cls.__init__).bind(None, *args, **kwargs)
    except TypeError:  # the constructor itself will say so
        return {}
    return {name: value for name, value in {**kwargs, **bound.arguments}.items() if name in own}


def _taken(cls: type[Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a constructor takes, which in a subclass may be the config alone."""
    parameters = inspect.signature(cls.__init__).parameters
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return {name: value for name, value in arguments.items() if takes_all or name in parameters}


def _is_simple(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_simple(each) for each in value)
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_simple(each) for key, each in value.items())
    return isinstance(value, SIMPLE)
