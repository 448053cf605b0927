"""Keras' side of loading, saving and everything else that models have in common."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from conversion.checkpoint import open_for_loading
from conversion.description import Description, described
from vit_core import PretrainedConfig
from vit_core.array_bytes import contiguous
from vit_core.checks import check_head_mask, require_choice
from vit_core.families import require_config
from vit_core.families.vision_transformer import VisionTransformerConfig
from vit_core.layouts import KERAS
from vit_core.loading_options import request
from vit_core.loading_plan import LoadingPlan
from vit_core.memory import explaining_shortage
from vit_core.parameters import Parameter, Task, parameters
from vit_core.pretrained import PARTS, Loading, prepare_loading
from vit_core.push import PushableModel, push_if_asked
from vit_core.stored_tensor import FLOAT_CODES, StoredTensor
from vit_tf.added_variables import added_variables
from vit_tf.checks import check_pixel_values
from vit_tf.dataset_methods import DatasetMethods
from vit_tf.dtypes import default_policy, dtype_policy
from vit_tf.fitting import FittingModel
from vit_tf.initialization import initialize, left_unfilled
from vit_tf.keras_files import KerasFiles
from vit_tf.layers import LayerStack
from vit_tf.ours import is_ours
from vit_tf.placement import single_device
from vit_tf.replacing import Replaceable
from vit_tf.saved_model import write_saved_model
from vit_tf.saving import save
from vit_tf.script_methods import ScriptMethods
from vit_tf.state_dict import stored_arrays
from vit_tf.token_merging import TokenMerging

DATA_FORMATS = ("channels_first", "channels_last")


class PreTrainedModel(
    Replaceable, KerasFiles, FittingModel, ScriptMethods, TokenMerging, PushableModel, DatasetMethods
):
    """What the models share: a config, weights from and to checkpoints, and a few conveniences."""

    task: ClassVar[Task | None] = None  # a subclass of this class has no head that the table of parameters knows
    config_class: type[PretrainedConfig] = VisionTransformerConfig
    base_model_prefix: str = VisionTransformerConfig.base_model_prefix
    main_input_name = "pixel_values"

    def __init__(
        self, config: PretrainedConfig, data_format: str = "channels_first", name: str | None = None, **kwargs: Any
    ) -> None:
        # Without autocast: labels, and images as a reconstruction's target, keep their precision.
        super().__init__(name=name or _unique_name(self._class_name()), autocast=False, **kwargs)
        require_config(config, self.config_class, type(self).__name__)
        config.validate()
        require_choice("data_format", data_format, DATA_FORMATS)
        self.config = config
        self.data_format = data_format

    @tf.autograph.experimental.do_not_convert  # which takes more than a second, and finds nothing to convert
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model; see `call`. The first argument may also be a list or tuple of arguments, or a dict of them."""
        parameters = self._parameters_of_call()
        names = [each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        if self.main_input_name not in names:  # a subclass that takes its inputs in a way of its own
            return super().__call__(*args, **kwargs)
        first = args[0] if args else None
        if isinstance(first, list | tuple):
            args = (*first, *args[1:])
        elif isinstance(first, Mapping):
            for name in kwargs:
                if first.get(name) is not None:
                    raise TypeError(f"{type(self).__name__} got {name!r} twice.")
            args, kwargs = args[1:], {**first, **kwargs}
        takes_more = any(each.kind is each.VAR_KEYWORD for each in parameters)
        arguments = self._named(names, args, kwargs, takes_more)
        pixel_values, head_mask = arguments.pop(self.main_input_name, None), arguments.get("head_mask")
        has_any_size = bool(arguments.get("interpolate_pos_encoding")) or self.config.architecture.resamples_unasked
        # Here and not in `call`, around whose errors Keras writes a page about each argument.
        check_pixel_values(pixel_values, self.config, self.data_format, has_any_size)
        if head_mask is not None:
            arguments["head_mask"] = ops.convert_to_tensor(head_mask)
            check_head_mask(arguments["head_mask"], self.config)
        for name in ("bool_masked_pos", "noise"):
            if arguments.get(name) is not None:
                arguments[name] = ops.convert_to_tensor(arguments[name])
        return super().__call__(pixel_values, **arguments)

    def _parameters_of_call(self) -> list[inspect.Parameter]:
        """What `call` takes; of one that passes on whatever it gets, what the class above takes."""
        for each in type(self).__mro__:
            if "call" in vars(each):
                parameters = list(inspect.signature(vars(each)["call"]).parameters.values())[1:]
                if {parameter.kind for parameter in parameters} != {
                    inspect.Parameter.VAR_POSITIONAL,
                    inspect.Parameter.VAR_KEYWORD,
                }:
                    return parameters
        return []

    def _named(
        self, names: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any], takes_more: bool
    ) -> dict[str, Any]:
        """Arguments of `call` by name."""
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} arguments, {', '.join(names)}; not {len(args)}.")
        given = dict(zip(names, args, strict=False))
        for name in kwargs:
            if not (takes_more or name in names):
                raise TypeError(f"{type(self).__name__} takes no {name!r}; it takes {', '.join(names)}.")
            if given.get(name) is not None:
                raise TypeError(f"{type(self).__name__} got {name!r} twice.")
        return {**given, **kwargs}

    # The model's place in the table of parameters

    def parameter_table(self, config: PretrainedConfig | None = None) -> tuple[Parameter, ...]:
        """The rows of `vit_core.parameters` that describe this model, with its own config unless another is given.

        Of a subclass without a task, they are those of the models that it holds as attributes, and of a linear layer
        that it calls `classifier`.
        """
        config = config or self.config
        if self.task is not None:
            return parameters(config, self.task)
        held = {name: part for name, part in vars(self).items() if isinstance(part, PreTrainedModel)}
        has_classifier = isinstance(vars(self).get("classifier"), keras.layers.Dense)
        head = parameters(config, "image-classification") if has_classifier else ()
        return (
            *(row.under(f"{name}.") for name, part in held.items() for row in part.parameter_table(config)),
            *(row for row in head if row.part == "head"),
        )

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

    def _found(self, table: Iterable[Parameter]) -> dict[str, Any]:
        """The variables that hold parameters, by name, as far as the parts are there that have such variables."""
        found = {}
        for row in table:
            with contextlib.suppress(AttributeError, IndexError, KeyError, TypeError, ValueError):
                variable = self.get_parameter(row)
                if len(variable.shape) == len(row.shape):
                    found[row.name] = variable
        return found

    def _added(self, table: Iterable[Parameter]) -> dict[str, Any]:
        """The variables that the table does not know, by name."""
        return added_variables(self, {KERAS.path(row)[:-1] for row in table})

    def build_missing(self) -> None:
        """Make the variables of parts that a subclass or a script added and that have not run yet."""
        if any(_waits_for_a_build(layer) for layer in self._flatten_layers(include_self=False)):
            self(self.dummy_inputs)

    @classmethod
    def _class_name(cls) -> str:
        """The name of the class in `config.json`, the same whichever framework saves."""
        return cls.__name__.removeprefix("TF")

    # Loading and saving

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str] | None,
        *model_args: Any,
        config: PretrainedConfig | str | PathLike[str] | None = None,
        cache_dir: str | PathLike[str] | None = None,
        ignore_mismatched_sizes: bool = False,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = "main",
        use_safetensors: bool | None = None,
        subfolder: str | None = "",
        variant: str | None = None,
        state_dict: Mapping[str, Any] | None = None,
        output_loading_info: bool = False,
        dtype: Any = None,
        torch_dtype: Any = None,
        attn_implementation: str | None = None,
        device_map: str | int | Mapping[str, Any] | None = None,
        mmap: bool = True,
        **config_overrides: Any,
    ) -> Any:
        """Load a model from a checkpoint.

        The weights are mapped from the file. Weights that the checkpoint lacks start at random and are named in one
        warning.

        Args:
            pretrained_model_name_or_path: a folder, a file of weights, a Hub id, or a checkpoint that ships with the
                package ("bundled/vit-digits"), in any format that `conversion.load` reads; None with `config` and
                `state_dict`.
            *model_args: further arguments of the model's constructor.
            config: a config, or where to find one, instead of the checkpoint's own.
            cache_dir: where downloads are kept; huggingface_hub's cache unless given.
            ignore_mismatched_sizes: start weights whose shape does not fit at random instead of raising.
            force_download: download again what is in the cache.
            local_files_only: never ask the network.
            token: access token for the Hub; huggingface_hub's own unless given.
            revision: branch, tag or commit on the Hub.
            use_safetensors: True reads safetensors and nothing else, False prefers any other file of weights.
            subfolder: folder inside the repository.
            variant: of the names of files, such as "fp16" for `model.fp16.safetensors`.
            state_dict: weights to load instead of the checkpoint's: arrays of any framework by canonical name.
            output_loading_info: also return the names of missing, unexpected and mismatched weights.
            dtype: a dtype or Keras policy, such as "bfloat16" or "mixed_bfloat16"; "auto" takes the dtype of the
                checkpoint. Keras' global policy unless given.
            torch_dtype: the name of `dtype` in older scripts.
            attn_implementation: "sdpa" (default) or "eager", which are the same in TensorFlow.
            device_map: where the variables go: a device such as "cpu" or "/GPU:0", or "auto", which is TensorFlow's
                choice. Operations run where TensorFlow or a `with tf.device(...)` of the caller's puts them.
            mmap: whether the weights are mapped from the file, into which nobody must then write while they are loaded.
                False reads the file into memory first.
            **config_overrides: fields of the config to set, such as `num_labels=10`, `image_size=384` (for which the
                position embeddings are resampled) or `patch_size=8` (for which the patches' projection is, too; see
                `vit_core.loading_options.PATCH_RESAMPLING`), arguments of the model's constructor, such as
                `data_format="channels_last"`, and the options of `vit_core.loading_options`.

        Returns:
            The model, or (model, loading info).

        Raises:
            OSError: there is no such checkpoint, or it cannot be reached.
            ValueError: a file is corrupt, the config is impossible, or a shape does not fit.
            TypeError: an option does not exist.
        """
        model_arguments = {
            name: config_overrides.pop(name) for name in cls._argument_names() if name in config_overrides
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
                    "use_safetensors": use_safetensors,
                    "subfolder": subfolder,
                    "variant": variant,
                    "attn_implementation": attn_implementation,
                    "mmap": mmap,
                }
            ),
            config=config,
            config_class=cls.config_class,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
            opener=open_for_loading,
            state_dict=None if state_dict is None else stored_arrays(state_dict),
        )
        device = single_device(device_map)
        policy = dtype_policy(torch_dtype if dtype is None else dtype, loading.dtype)
        if policy is not None:
            model_arguments["dtype"] = policy
        if cls.task is not None:  # says what does not fit before memory is taken
            named = dict(zip(list(inspect.signature(cls).parameters)[1:], model_args, strict=False))
            parts = {name: value for name, value in {**named, **model_arguments}.items() if name in PARTS}
            if "__init__" in vars(cls) and is_ours(cls):
                loading.plan(parameters(loading.config, cls.task, **parts))
        with explaining_shortage(f"loading {loading.source}"):
            with left_unfilled(), tf.device(device), default_policy(policy):
                model = cls(loading.config, *model_args, **model_arguments)
                model.build_missing()
            plan = model._filled(loading)
        plan.warn(
            cls.__name__,
            loading.source,
            cls._keys_to_ignore_on_load_missing or (),
            cls._keys_to_ignore_on_load_unexpected or (),
        )
        if device is not None:
            model.hf_device_map = {"": device}
        return (model, plan.loading_info()) if output_loading_info else model

    @classmethod
    def _argument_names(cls) -> list[str]:
        """The names of the constructor's arguments, those that a subclass passes on included."""
        classes = [each for each in cls.__mro__ if issubclass(each, PreTrainedModel) and "__init__" in vars(each)]
        named = [name for each in classes for name in list(inspect.signature(each).parameters)[1:]]
        return [*dict.fromkeys((*named, "trainable"))]

    def _filled(self, loading: Loading) -> LoadingPlan:
        """Give the model its weights, one at a time; only missing ones are drawn at random."""
        table = self.parameter_table()
        held = self._found(table)
        rows = [row for row in table if row.name in held]
        if self.task is None:  # whose classifier may be for another number of labels
            rows = [row for row in rows if row.part != "head" or _canonical_shape(row, held[row.name]) == row.shape]
        added = self._added(rows)
        plan = loading.plan(
            rows, {name: tuple(variable.shape) for name, variable in added.items()}, f"{self._base_name()}."
        )
        for row in rows:
            if row.name in plan.tensors:
                held[row.name].assign(KERAS.from_canonical(row, plan.tensors[row.name].numpy()))
        for name, variable in added.items():
            if name in plan.tensors:
                variable.assign(plan.tensors[name].numpy())
        initialize(self, [row for row in plan.missing if self.task is not None or row.part != "head"])
        return plan

    def save_pretrained(
        self,
        save_directory: str | PathLike[str],
        saved_model: bool = False,
        version: int = 1,
        push_to_hub: bool = False,
        signatures: Mapping[str, Any] | None = None,
        max_shard_size: int | str = "5GB",
        create_pr: bool = False,
        safe_serialization: bool = True,
        token: str | bool | None = None,
        *,
        variant: str | None = None,
        is_main_process: bool = True,
        **pushing: Any,
    ) -> None:
        """Write `config.json` and `model.safetensors`, the same bytes whichever framework saves.

        What LoRA added is saved as a part of the weights. What a subclass added is saved under the attributes that lead
        to it, such as "head.kernel", as Keras has it. Where parts of the model were replaced, the config that is
        written follows them.

        Args:
            save_directory: where; made if need be. The checkpoint that is there is replaced at once or, on failure, not
                at all.
            saved_model: also write a SavedModel, into the folder `saved_model/VERSION`.
            version: its number, which TensorFlow Serving goes by.
            push_to_hub: also upload the checkpoint to the Hub.
            signatures: of the SavedModel, by name; unless given "serving_default", which takes `pixel_values`.
            max_shard_size: largest size of a file, such as "5GB"; larger models are written in shards with an index.
            create_pr: whether to push as a pull request.
            safe_serialization: False writes `tf_model.h5`, for programs that read nothing else. transformers writes it
                unless told otherwise; here safetensors are the default, as in every framework.
            token: access token for the Hub.
            variant: of the names of files: "fp16" writes `model.fp16.safetensors`.
            is_main_process: False writes nothing, for the other processes of distributed training.
            **pushing: options of `push_to_hub`, such as `repo_id` (the folder's name unless given).

        Raises:
            OSError: it cannot be written; what was there before is untouched.
            ValueError: the model is quantized, no config gives such a model, or `tf_model.h5` has no place for it; the
                message says what to set.
        """
        if not is_main_process:
            return
        config, tensors = self._described()
        save(Path(save_directory), config, tensors, self.task, max_shard_size, variant, safe_serialization)
        if saved_model:
            write_saved_model(self, Path(save_directory) / "saved_model" / str(version), signatures)
        given = {"token": token, "create_pr": create_pr, "tags": self.model_tags, **pushing}
        push_if_asked(save_directory, push_to_hub, given)

    def _described(self) -> tuple[PretrainedConfig, dict[str, StoredTensor]]:
        """The config and the tensors as a checkpoint has them: those of the table in its order, then what was added."""
        found, held, added = self._description(self.config.replaced(architectures=[self._class_name()]))
        tensors = {row.name: _stored(row.name, held[row.name], row) for row in found.rows}
        tensors |= {name: _stored(name, added[name]) for name in found.extras if name in added}
        return found.config, tensors

    def _followed_config(self) -> PretrainedConfig:
        """The config from which the model follows as it is, with the parts that were replaced."""
        return self._description(self.config)[0].config

    def _description(self, config: PretrainedConfig) -> tuple[Description, dict[str, Any], dict[str, Any]]:
        """What `described` finds; the variables of the table, and those that were added, by name."""
        self.build_missing()
        layers = len(self._encoder_layers(config))
        probed = (
            config if layers == config.num_hidden_layers else config.replaced(num_hidden_layers=layers, pruned_heads={})
        )
        table = self.parameter_table(probed)
        held, added = self._found(table), self._added(table)
        rows = {row.name: row for row in table if row.name in held}
        shapes = {name: _canonical_shape(row, held[name]) for name, row in rows.items()}
        shapes |= {name: tuple(variable.shape) for name, variable in added.items()}
        found = described(
            config,
            self.parameter_table,
            shapes,
            type(self).__name__,
            is_own=is_ours(type(self)),
            prefix=f"{self._base_name()}.",
        )
        return found, held, added

    def _encoder_layers(self, config: PretrainedConfig) -> Sequence[Any]:
        encoder = getattr(self._base_model(), "encoder", None)
        return getattr(encoder, "layer", range(config.num_hidden_layers))

    # Training

    def gradient_checkpointing_enable(self) -> None:
        """Compute each layer's activations again in the backward pass instead of keeping them."""
        self._set_gradient_checkpointing(True)

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations again."""
        self._set_gradient_checkpointing(False)

    def _set_gradient_checkpointing(self, is_on: bool) -> None:
        for layer in self._flatten_layers():
            if isinstance(layer, LayerStack):
                layer.gradient_checkpointing = is_on

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
        return getattr(self, self._base_name(), self)

    def _base_name(self) -> str:
        """The attribute that holds the base model; a subclass may call it otherwise than `base_model_prefix`."""
        held = [name for name, part in vars(self).items() if isinstance(part, PreTrainedModel)]
        return held[0] if len(held) == 1 else self.base_model_prefix

    def _returned(self, output: Any, return_dict: bool | None) -> Any:
        """The output in the form that the call or the config asks for."""
        if return_dict is None:
            return_dict = self.config.use_return_dict
        return output if return_dict else output.to_tuple()


def _unique_name(prefix: str) -> str:
    number = keras.backend.get_uid(prefix)
    return prefix if number == 1 else f"{prefix}_{number - 1}"


def _waits_for_a_build(layer: keras.layers.Layer) -> bool:
    """Whether a layer that has variables has not made them yet."""
    return not layer.built and type(layer).build is not keras.layers.Layer.build


def _canonical_shape(row: Parameter, variable: Any) -> tuple[int, ...]:
    return KERAS.to_canonical(row, np.empty(tuple(variable.shape), np.void)).shape


def _stored(name: str, variable: Any, row: Parameter | None = None) -> StoredTensor:
    """A variable for a checkpoint, with canonical axes if it is a row of the table; it is read when it is written."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if "float" not in dtype:
        raise ValueError(
            f"{name} is quantized to {dtype}, which checkpoints do not hold; use save('model.keras'), or call "
            f"save_pretrained before quantize."
        )

    def read() -> np.ndarray:
        array = variable.numpy()
        array = contiguous(array if row is None else KERAS.to_canonical(row, array))
        return array.view(np.uint16) if dtype == "bfloat16" else array

    shape = tuple(variable.shape) if row is None else _canonical_shape(row, variable)
    return StoredTensor(FLOAT_CODES[dtype], shape, read)


def __getattr__(name: str) -> Any:
    """`ViTPreTrainedModel`, which older scripts import from here; see `vit_tf.relatives`."""
    if name != "ViTPreTrainedModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vit_tf import relatives

    return relatives.TFViTPreTrainedModel
