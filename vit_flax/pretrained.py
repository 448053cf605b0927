"""Flax' side of loading and saving."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import warnings
from collections.abc import Collection, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict
from jax import Array
from jax.experimental import multihost_utils

from conversion.checkpoint import open_for_loading
from conversion.containers.msgpack_file import write_msgpack
from conversion.description import Description, described
from conversion.formats.transformers_flax import TRANSFORMERS_FLAX
from conversion.published import as_flax_published, as_published
from vit_core import PretrainedConfig
from vit_core.checkpoint import OpenCheckpoint, save_checkpoint
from vit_core.file_names import FLAX_NAME
from vit_core.hub import ModelSource
from vit_core.loading_options import request
from vit_core.loading_plan import LoadingPlan
from vit_core.memory import explaining_shortage
from vit_core.parameters import Parameter
from vit_core.pretrained import Loading, prepare_loading
from vit_core.push import PushableModel, push_if_asked
from vit_flax.model import Model
from vit_flax.parameter_tree import ParameterTree, canonical, flatten, shapes_of, stored_arrays
from vit_flax.parameter_tree import Path as TreePath
from vit_flax.placement import single_device
from vit_flax.precision import float_dtype, is_half
from vit_flax.script_methods import ScriptMethods
from vit_flax.torch_names import with_flax_names


class FlaxPreTrainedModel(Model, ScriptMethods, PushableModel):
    """A `flax.linen.Module` with its parameters, and what the models share.

    A subclass has a `module_class` of its own, whose fields are `config`, `dtype` and what more it needs, and which is
    called with images (batch, height, width, channels), `deterministic`, `output_attentions`, `output_hidden_states`
    and `return_dict`. Where it holds a `FlaxViTModule` under the name `base_model_prefix`, the weights of any
    checkpoint find their places; what else it has starts by its own initialisers and is saved under its own names.

    Args:
        config: its sizes and settings.
        input_shape: accepted for scripts that give it, (batch, height, width, channels); sizes follow from the config.
            A module of one's own is initialised with images of that shape.
        seed: of the parameters' random start.
        dtype: what the model computes in, such as `jnp.bfloat16`; parameters stay in `param_dtype`.
        _do_init: False makes no parameters: pass them to each call.
        **kwargs: fields of the module: `param_dtype` (float32), `scan_layers`, `remat`, `partitioning`, and for
            base models `add_pooling_layer` and `use_mask_token`.

    Raises:
        TypeError: there is no such option.
        ValueError: the config or an option is impossible, or the module has other variables than parameters.
    """

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str] | None,
        dtype: Any = None,
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
        torch_dtype: Any = None,
        attn_implementation: str | None = None,
        device_map: str | int | jax.Device | Mapping[str, Any] | None = None,
        mmap: bool = True,
        **config_overrides: Any,
    ) -> Any:
        """Load a model from a checkpoint.

        The weights are mapped from the file; on a mesh, each device reads its part. Weights that the checkpoint lacks
        start at random and are named in one warning.

        Args:
            pretrained_model_name_or_path: a folder, a file of weights, a Hub id, or a checkpoint that ships with the
                package ("bundled/vit-digits"), in any format that `conversion.load` reads; None with `config` and
                `state_dict`.
            dtype: what the model computes in, such as `jnp.bfloat16`; "auto" takes the dtype of the checkpoint.
                float32 unless given. It is not the dtype of the parameters, which is `param_dtype`.
            *model_args: further arguments of the constructor by position: `input_shape`, `seed`.
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
            state_dict: weights to load instead of the checkpoint's: arrays by canonical name, or a nested dict such as
                `model.params`.
            output_loading_info: also return the names of missing, unexpected and mismatched weights.
            torch_dtype: another name of `dtype`.
            attn_implementation: "sdpa" (default), which is JAX's own attention, or "eager", step by step.
            device_map: where the parameters go: a device of JAX's such as "cpu", "gpu:1" or `jax.devices()[1]`, or
                "auto", which is JAX's default, too. What computes with them runs there.
            mmap: whether the weights are mapped from the file, into which nobody must then write while the model lives:
                it may follow, or the system end the process. False reads the file into memory.
            **config_overrides: fields of the config to set, such as `num_labels=10`, `image_size=384` (for which the
                position embeddings are resampled) or `patch_size=8` (for which the patches' projection is, too; see
                `vit_core.loading_options.PATCH_RESAMPLING`); options of the model: `seed`, `input_shape`, `_do_init`,
                `scan_layers`, `remat`, `partitioning`, and `param_dtype`, without which weights in half precision stay
                so, with a warning, and all others become float32; and the options of `vit_core.loading_options`.

        Returns:
            The model; with `_do_init=False` (model, params), where params lack what the checkpoint lacks; and last
            the loading info, if asked for.

        Raises:
            OSError: there is no such checkpoint, or it cannot be reached.
            ValueError: a file is corrupt, the config is impossible, or a shape does not fit.
            TypeError: an option does not exist.
        """
        do_init = config_overrides.pop("_do_init", True)
        model_arguments, config_overrides = cls._model_arguments(config_overrides, config)
        param_dtype = model_arguments.get("param_dtype", config_overrides.pop("param_dtype", None))
        if param_dtype is not None:  # which a module of one's own need not have
            param_dtype = float_dtype("param_dtype", param_dtype)
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
            opener=cls._open,
            state_dict=None
            if state_dict is None
            else canonical(stored_arrays(state_dict), cls.base_model_prefix, cls.config_class),
        )
        device = single_device(device_map)
        dtype = torch_dtype if dtype is None else dtype
        is_auto = isinstance(dtype, str) and dtype == "auto"
        if dtype is None or is_auto:
            dtype = (loading.dtype if is_auto else None) or jnp.float32
        build: Any = cls
        model: Self = build(loading.config, *model_args, dtype=dtype, _do_init=False, **model_arguments)
        plan = model._plan(loading)
        if device is not None and model.partitioning is not None:
            raise ValueError("device_map and partitioning both say where the model's arrays lie; give one of them.")
        with explaining_shortage(f"loading {loading.source}"):
            with contextlib.nullcontext() if device is None else jax.default_device(device):
                leaves = model._loaded(plan, do_init, param_dtype)
            if device is not None:  # to stay there, whatever is computed with them
                leaves = jax.device_put(leaves, device)
                model.hf_device_map = {"": device}
        plan.warn(cls.__name__, loading.source, (), cls._keys_to_ignore_on_load_unexpected or ())
        if not is_auto and param_dtype is None:
            _warn_of_half_precision(cls.__name__, loading.source, leaves)
        params = unflatten_dict(leaves)
        if do_init:
            model._params = params
        model._missing_keys = set() if do_init else model.required_params - leaves.keys()
        returned = (model,) if do_init else (model, params)
        if output_loading_info:
            returned = (*returned, plan.loading_info())
        return returned if len(returned) > 1 else model

    @classmethod
    def _open(cls, source: ModelSource, config_fields: Mapping[str, Any], **options: Any) -> OpenCheckpoint:
        """See `conversion.checkpoint.open_for_loading`, which passes a subclass' own files on as they are."""
        opened = open_for_loading(source, config_fields, own_format=TRANSFORMERS_FLAX.name, **options)
        return dataclasses.replace(opened, tensors=canonical(opened.tensors, cls.base_model_prefix, cls.config_class))

    def _plan(self, loading: Loading) -> LoadingPlan:
        """Which tensor of the checkpoint fills which parameter."""
        plan = loading.plan(self.parameter_table(), self.tree.extra_shapes, self._prefix)
        if not (plan.missing_extras and plan.unexpected):
            return plan
        checkpoint = loading.checkpoint
        tensors = with_flax_names(checkpoint.tensors, self.tree.extras, plan.missing_extras, plan.unexpected)
        loading = dataclasses.replace(loading, checkpoint=dataclasses.replace(checkpoint, tensors=tensors))
        return loading.plan(self.parameter_table(), self.tree.extra_shapes, self._prefix)

    def _loaded(self, plan: LoadingPlan, do_init: bool, dtype: Any) -> dict[TreePath, Any]:
        """Parameters with the planned weights; with `do_init`, missing ones are drawn at random.

        Args:
            plan: which weights.
            do_init: whether parameters that are missing are made.
            dtype: of the parameters; None for what `parameter_tree.loaded_dtype` says, and theirs for missing ones.
        """
        leaves, lacking = {}, []
        for path in self.tree.shapes:
            found = [name in plan.tensors for name in self.tree.names(path)]
            if all(found):
                leaves[path] = self.tree.loaded(path, plan.tensors, dtype, self._sharding(path))
            elif any(found) or do_init:
                lacking.append(path)
        for path, start in self._start_of(lacking).items():
            leaf = start if dtype is None else start.astype(dtype)
            leaves[path] = self.tree.with_layers(path, leaf, plan.tensors)  # of a stack, some layers may be there
        return {path: leaves[path] for path in self.tree.shapes if path in leaves}

    def _start_of(self, paths: Collection[TreePath]) -> dict[TreePath, Array]:
        """The random start of some parameters, as a subclass may have it in an `init_weights` of its own."""
        if type(self).init_weights is FlaxPreTrainedModel.init_weights or not paths:
            return self._initialized(paths, self.key)
        leaves = flatten(self.init_weights(self.key, self.input_shape))
        return {path: leaves[path] for path in paths}

    def save_pretrained(
        self,
        save_directory: str | PathLike[str],
        params: Mapping[str, Any] | None = None,
        push_to_hub: bool = False,
        max_shard_size: int | str = "5GB",
        token: str | bool | None = None,
        safe_serialization: bool = True,
        *,
        is_main_process: bool | None = None,
        **pushing: Any,
    ) -> None:
        """Write `config.json` and `model.safetensors`, the same bytes whichever framework saves.

        The config that is written is one from which the parameters follow: with another classifier in `params` it has
        another number of labels, and so on. What a subclass added is saved under its own names, beside the table's.

        Args:
            save_directory: where; made if need be. The checkpoint that is there is replaced at once or, on failure, not
                at all.
            params: what to save, such as those of a TrainState; the model's unless given.
            push_to_hub: also upload it to the Hub.
            max_shard_size: largest size of a file, such as "5GB"; larger models are written in shards with an index.
            token: access token for the Hub, to push with.
            safe_serialization: False writes `flax_model.msgpack`, for programs that read nothing else. transformers
                writes it unless told otherwise; here safetensors are the default, as in every framework.
            is_main_process: whether this process writes; that of index 0 unless given. Where parameters are spread
                over several hosts, all of them must call this.
            **pushing: `repo_id` (the folder's name unless given) and other options of `push_to_hub`.

        Raises:
            OSError: it cannot be written, in which case what was there before is untouched; or not be pushed.
            ValueError: `params` are no such model's as any config gives.
        """
        params = self.params if params is None else params
        shapes = shapes_of(params)
        params = jax.tree.map(_gathered, params)
        if not (jax.process_index() == 0 if is_main_process is None else is_main_process):
            return
        tree = self.tree if shapes == self.tree.shapes else self._tree_of(shapes)
        description = self._described(tree)
        config = description.config.replaced(architectures=[type(self).__name__.removeprefix("Flax")])
        if safe_serialization:
            tensors = tree.stored(params)
            names = [*(row.name for row in description.rows), *description.extras]
            stored = as_published({name: tensors[name] for name in names}, config)
            save_checkpoint(Path(save_directory), config, stored, max_shard_size)
        else:
            stored = tree.stored_as_flax(params)
            if self._is_described() and not description.extras:  # other models' names are their own
                stored = as_flax_published(tree.stored(params), config, self.task) or stored
            save_checkpoint(
                Path(save_directory),
                config,
                stored,
                max_shard_size,
                weights_name=FLAX_NAME,
                write=write_msgpack,
            )
        push_if_asked(save_directory, push_to_hub, {"token": token, "tags": self.model_tags, **pushing})

    def _tree_of(self, shapes: Mapping[TreePath, tuple[int, ...]]) -> ParameterTree:
        """The tree of changed parameters; what a subclass added stays what it is."""
        added = {path: shape for path, shape in shapes.items() if path in self.tree.extras}
        tree = ParameterTree.of_shapes(
            {path: shape for path, shape in shapes.items() if path not in added},
            self.base_model_prefix,
            type(self.config),
        )
        return dataclasses.replace(
            tree, extras={**tree.extras, **{path: self.tree.extras[path] for path in added}}, shapes=dict(shapes)
        )

    def _described(self, tree: ParameterTree) -> Description:
        """The config from which parameters follow, and which of them the table describes."""
        if self._is_described():
            return described(self.config, self._own_table, tree.tensor_shapes, type(self).__name__)
        if tree is self.tree:
            return Description(self.config, self.parameter_table(), tuple(tree.extras.values()))
        shapes = tree.tensor_shapes

        def table_of(config: PretrainedConfig) -> list[Parameter]:
            return [row for row in self._candidates(config) if row.name in shapes]

        return described(self.config, table_of, shapes, type(self).__name__, is_own=False, prefix=self._prefix)

    @classmethod
    def _model_arguments(cls, options: Mapping[str, Any], config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The options that are arguments of the constructor, and the others.

        A name that both the constructor and the checkpoint's config know is meant for both.
        """
        fields, named = cls.config_class(), inspect.signature(cls).parameters.values()
        names = {each.name for each in named if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
        names = {*names, *cls._module_options()} - {"config", "dtype"}
        if cls.__init__ is not FlaxPreTrainedModel.__init__:  # which may take any
            names |= {name for name in request(options).config_overrides if not hasattr(fields, name)}
        arguments = {name: value for name, value in options.items() if name in names}
        others = {
            name: value
            for name, value in options.items()
            if name not in names or (config is None and hasattr(fields, name))
        }
        return arguments, others


def _warn_of_half_precision(model: str, source: str, leaves: Mapping[TreePath, Any]) -> None:
    """Say that parameters are in half precision, in which training them goes wrong for many."""
    found = sorted({leaf.dtype.name for leaf in leaves.values() if is_half(leaf.dtype)})
    if found:
        warnings.warn(
            f"{model} from {source}: weights are stored in {' and '.join(found)} and stay so; param_dtype=jnp.float32 "
            f"loads them in float32, and model.to_fp32(params) casts them.",
            stacklevel=3,
        )


def _gathered(leaf: Any) -> Any:
    """An array that this process can read whole; spread over several hosts, it is gathered from them."""
    if isinstance(leaf, Array) and not leaf.is_fully_addressable:
        return multihost_utils.process_allgather(leaf, tiled=True)
    return leaf


def __getattr__(name: str) -> Any:
    """What the models of ViT share, which scripts import from here too; it is in `vit_flax.relatives`."""
    if name == "FlaxViTPreTrainedModel":
        from vit_flax import relatives

        return relatives.FlaxViTPreTrainedModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
