"""Keras' side of loading, saving and everything else that models have in common."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

from conversion.checkpoint import open_for_loading
from vit_core import ViTConfig
from vit_core.array_bytes import contiguous
from vit_core.checkpoint import save_checkpoint
from vit_core.checks import check_head_mask, require_choice
from vit_core.layouts import KERAS
from vit_core.loading_options import request
from vit_core.loading_plan import LoadingPlan
from vit_core.parameters import BASE_MODEL_PREFIX, Parameter, Task, parameters
from vit_core.pretrained import ARCHITECTURES, PARTS, prepare_loading
from vit_core.push import Pushable
from vit_core.safetensors_file import FLOAT_CODES, StoredTensor
from vit_tf.checks import check_pixel_values
from vit_tf.dataset_methods import DatasetMethods
from vit_tf.fitting import FittingModel
from vit_tf.initialization import initialize, left_unfilled

DATA_FORMATS = ("channels_first", "channels_last")


class ViTPreTrainedModel(FittingModel, Pushable, DatasetMethods):
    """What the models share: a config, weights from and to checkpoints, and a few conveniences."""

    task: ClassVar[Task]
    config_class = ViTConfig
    base_model_prefix = BASE_MODEL_PREFIX.rstrip(".")
    main_input_name = "pixel_values"

    def __init__(self, config: ViTConfig, data_format: str, name: str | None = None, **kwargs: Any) -> None:
        # Without autocast: labels, and images as a reconstruction's target, keep their precision.
        super().__init__(name=name or _unique_name(ARCHITECTURES[self.task]), autocast=False, **kwargs)
        if not isinstance(config, ViTConfig):
            raise TypeError(
                f"{type(self).__name__} takes a ViTConfig, not a {type(config).__name__}; to load a checkpoint call "
                f"{type(self).__name__}.from_pretrained."
            )
        config.validate()
        require_choice("data_format", data_format, DATA_FORMATS)
        self.config = config
        self.data_format = data_format

    def __call__(self, pixel_values: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Run the model; see `call`. The first argument may also be a list or tuple of arguments, or a dict of them."""
        if isinstance(pixel_values, list | tuple):
            arguments = self._named((*pixel_values, *args), kwargs)
        elif isinstance(pixel_values, Mapping):
            if twice := [name for name in kwargs if pixel_values.get(name) is not None]:
                raise TypeError(f"{type(self).__name__} got {twice[0]!r} twice.")
            arguments = self._named(args, {**pixel_values, **kwargs})
        else:
            arguments = self._named((pixel_values, *args), kwargs)
        pixel_values, head_mask = arguments.pop("pixel_values", None), arguments.get("head_mask")
        interpolate_pos_encoding = bool(arguments.get("interpolate_pos_encoding"))
        # Here and not in `call`, around whose errors Keras writes a page about each argument.
        check_pixel_values(pixel_values, self.config, self.data_format, interpolate_pos_encoding)
        if head_mask is not None:
            arguments["head_mask"] = ops.convert_to_tensor(head_mask)
            check_head_mask(arguments["head_mask"], self.config)
        if arguments.get("bool_masked_pos") is not None:
            arguments["bool_masked_pos"] = ops.convert_to_tensor(arguments["bool_masked_pos"])
        return super().__call__(pixel_values, **arguments)

    def _named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of `call` by name."""
        names = list(inspect.signature(self.call).parameters)
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} arguments, {', '.join(names)}; not {len(args)}.")
        if unknown := [name for name in kwargs if name not in names]:
            raise TypeError(f"{type(self).__name__} takes no {unknown[0]!r}; it takes {', '.join(names)}.")
        given = dict(zip(names, args, strict=False))
        if twice := [name for name in kwargs if given.get(name) is not None]:
            raise TypeError(f"{type(self).__name__} got {twice[0]!r} twice.")
        return {**given, **kwargs}

    # The model's place in the table of parameters

    def parameter_table(self) -> tuple[Parameter, ...]:
        """The rows of `vit_core.parameters` that describe this model."""
        return parameters(self.config, self.task)

    def head_table(self) -> tuple[Parameter, ...]:
        """The rows that the head adds to the base model."""
        return tuple(row for row in self.parameter_table() if row.part == "head")

    def get_parameter(self, row: Parameter) -> Any:
        """The variable that holds a parameter, or, where LoRA adds to it, the tensor."""
        return self._find(KERAS.path(row))

    def _find(self, path: tuple[str, ...]) -> Any:
        found: Any = self
        for part in path:
            found = found[int(part)] if part.isdecimal() else getattr(found, part)
        return found

    # Loading and saving

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str],
        *,
        config: ViTConfig | str | PathLike[str] | None = None,
        revision: str | None = "main",
        cache_dir: str | PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        subfolder: str | None = "",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        dtype: Any = None,
        torch_dtype: Any = None,
        attn_implementation: str | None = None,
        **config_overrides: Any,
    ) -> Any:
        """Load a model from a checkpoint.

        The weights are mapped from the file. Weights that the checkpoint lacks start at random and are named in one
        warning.

        Args:
            pretrained_model_name_or_path: a folder, a file of weights, a Hub id, or a checkpoint that ships with the
                package ("bundled/vit-digits"), in any format that `conversion.load` reads.
            config: a config, or where to find one, instead of the checkpoint's own.
            revision: branch, tag or commit on the Hub.
            cache_dir: where downloads are kept; huggingface_hub's cache unless given.
            token: access token for the Hub; huggingface_hub's own unless given.
            local_files_only: never ask the network.
            force_download: download again what is in the cache.
            subfolder: folder inside the repository.
            ignore_mismatched_sizes: start weights whose shape does not fit at random instead of raising.
            output_loading_info: also return the names of missing, unexpected and mismatched weights.
            dtype: a dtype or Keras policy, such as "bfloat16" or "mixed_bfloat16"; "auto" takes the dtype of the
                checkpoint. Keras' global policy unless given.
            torch_dtype: the name of `dtype` in older scripts.
            attn_implementation: "sdpa" (default) or "eager", which are the same in TensorFlow.
            **config_overrides: fields of the config to set, such as `num_labels=10` or `image_size=384` (for which the
                position embeddings are resampled), and arguments of the model's constructor, such as
                `data_format="channels_last"`.

        Returns:
            The model, or (model, loading info).

        Raises:
            OSError: there is no such checkpoint, or it cannot be reached.
            ValueError: a file is corrupt, the config is impossible, or a shape does not fit.
            TypeError: an option does not exist.
        """
        model_arguments = {
            name: config_overrides.pop(name)
            for name in (*inspect.signature(cls.__init__).parameters, "name", "trainable")
            if name in config_overrides
        }

        loading = prepare_loading(
            pretrained_model_name_or_path,
            request(
                {
                    **config_overrides,
                    "cache_dir": cache_dir,
                    "force_download": force_download,
                    "local_files_only": local_files_only,
                    "token": token,
                    "revision": revision,
                    "subfolder": subfolder,
                    "attn_implementation": attn_implementation,
                }
            ),
            config=config,
            config_class=cls.config_class,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
            opener=open_for_loading,
        )
        policy = _dtype_policy(torch_dtype if dtype is None else dtype, loading.dtype)
        parts = {name: value for name, value in model_arguments.items() if name in PARTS}
        plan = loading.plan(parameters(loading.config, cls.task, **parts))
        model = cls._filled(loading.config, {**model_arguments, "dtype": policy}, plan)
        plan.warn(cls.__name__, loading.source)
        return (model, plan.loading_info()) if output_loading_info else model

    @classmethod
    def _filled(cls, config: ViTConfig, model_arguments: Mapping[str, Any], plan: LoadingPlan) -> Self:
        """Build the model and give it the planned weights, one at a time; only missing ones are drawn at random."""
        with left_unfilled():
            model = cls(config, **model_arguments)
        for row in model.parameter_table():
            if row.name in plan.tensors:
                model.get_parameter(row).assign(KERAS.from_canonical(row, plan.tensors[row.name].numpy()))
        initialize(model, plan.missing)
        return model

    def save_pretrained(
        self,
        folder: str | PathLike[str],
        max_shard_size: int | str = "5GB",
        *,
        is_main_process: bool = True,
        safe_serialization: bool = True,
    ) -> None:
        """Write `config.json` and `model.safetensors`, the same bytes whichever framework saves.

        What LoRA added is saved as a part of the weights.

        Args:
            folder: where; made if need be. The checkpoint that is there is replaced at once or, on failure, not at all.
            max_shard_size: largest size of a file, such as "5GB"; larger models are written in shards with an index.
            is_main_process: False writes nothing, for the other processes of distributed training.
            safe_serialization: must be True; weights are written as safetensors only.

        Raises:
            OSError: it cannot be written; what was there before is untouched.
            ValueError: the model is quantized.
        """
        if not safe_serialization:
            raise ValueError("safe_serialization=False asks for HDF5 weights; only safetensors are written.")
        if not is_main_process:
            return
        weights = {row.name: self._stored(row) for row in self.parameter_table()}
        config = self.config.replaced(architectures=[ARCHITECTURES[self.task]])
        save_checkpoint(Path(folder), config, weights, max_shard_size)

    def _stored(self, row: Parameter) -> StoredTensor:
        """A parameter for a checkpoint; it becomes an array when it is written."""
        parameter = self.get_parameter(row)
        dtype = keras.backend.standardize_dtype(parameter.dtype)
        if "float" not in dtype:
            raise ValueError(
                f"{row.name} is quantized to {dtype}, which checkpoints do not hold; use save('model.keras'), or call "
                f"save_pretrained before quantize."
            )

        def read() -> np.ndarray:
            array = contiguous(KERAS.to_canonical(row, parameter.numpy()))
            return array.view(np.uint16) if dtype == "bfloat16" else array

        return StoredTensor(FLOAT_CODES[dtype], row.shape, read)

    # Keras files

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments and what was done to the model since, for `.keras` files.

        That is: which linear layers are quantized, which layers are frozen, and whether gradient checkpointing is on.
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
        return {
            **super().get_config(),
            "config": json.loads(self.config.to_json_string()),
            "data_format": self.data_format,
            "quantized_layers": quantized,
            "frozen_layers": [name for name, layer in self._layers_with_weights().items() if not layer.trainable],
            "gradient_checkpointing": self.is_gradient_checkpointing,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """Build a model from what `get_config` returned."""
        done = ("quantized_layers", "frozen_layers", "gradient_checkpointing")
        arguments = {name: value for name, value in config.items() if name not in done}
        model = cls(**{**arguments, "config": ViTConfig.from_dict(config["config"])})
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

    def _layers_with_weights(self) -> dict[str, keras.layers.Layer]:
        """The layers that hold parameters, and those that hold such layers, by name, the outer ones first."""
        paths = (KERAS.path(row)[:-1] for row in self.parameter_table())
        found = {path[:depth]: self._find(path[:depth]) for path in paths for depth in range(1, len(path) + 1)}
        return {".".join(path): layer for path, layer in found.items() if isinstance(layer, keras.layers.Layer)}

    def _linear_layers(self) -> dict[str, keras.layers.Dense]:
        """The linear layers by the names of their weights."""
        return {row.name: self._find(KERAS.path(row)[:-1]) for row in self.parameter_table() if row.kind == "linear"}

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

    # Training

    def gradient_checkpointing_enable(self) -> None:
        """Compute each layer's activations again in the backward pass instead of keeping them."""
        self._base_model().encoder.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations again."""
        self._base_model().encoder.gradient_checkpointing = False

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether gradient checkpointing is on."""
        return self._base_model().encoder.gradient_checkpointing

    # Conveniences

    def get_input_embeddings(self) -> keras.layers.Layer:
        """The layer that turns pixels into tokens."""
        return self._base_model().embeddings.patch_embeddings

    def num_parameters(self, only_trainable: bool = False) -> int:
        """The number of parameters.

        Args:
            only_trainable: count those that training changes.
        """
        variables = self.trainable_weights if only_trainable else self.weights
        return sum(math.prod(variable.shape) for variable in variables)

    @property
    def image_batch_shape(self) -> tuple[int | None, ...]:
        """The shape of the images that the model takes, with None for any number of them."""
        return (None, *self._image_shape(self.config.image_shape))

    def _image_shape(self, size: tuple[int | None, int | None]) -> tuple[int | None, ...]:
        channels = self.config.num_channels
        return (channels, *size) if self.data_format == "channels_first" else (*size, channels)

    def _base_model(self) -> Any:
        # No property: Keras would take it for a part of the model, and save its weights there.
        return getattr(self, self.base_model_prefix, self)

    def _returned(self, output: Any, return_dict: bool | None) -> Any:
        """The output in the form that the call or the config asks for."""
        if return_dict is None:
            return_dict = self.config.use_return_dict
        return output if return_dict else output.to_tuple()


def _unique_name(prefix: str) -> str:
    number = keras.backend.get_uid(prefix)
    return prefix if number == 1 else f"{prefix}_{number - 1}"


def _is_linear(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Dense)


def _dtype_policy(dtype: Any, stored: str | None) -> Any:
    if isinstance(dtype, str) and dtype == "auto":
        dtype = stored
    if dtype is None or isinstance(dtype, keras.DTypePolicy):
        return dtype
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or str(dtype)
    name = name.removeprefix("torch.")
    if name.removeprefix("mixed_") not in FLOAT_CODES:
        raise ValueError(
            f"dtype is {dtype!r}; choose a floating-point type or policy such as 'float32', 'bfloat16', "
            f"'mixed_bfloat16' or 'auto'."
        )
    return name
