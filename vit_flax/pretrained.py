"""Flax' side of loading, saving and everything else that models have in common."""

from __future__ import annotations

import dataclasses
import inspect
import math
import warnings
from collections.abc import Collection, Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict, freeze
from flax.traverse_util import unflatten_dict
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jaxtyping import Float

from conversion.checkpoint import open_for_loading
from conversion.description import Description, described
from conversion.msgpack_file import write_msgpack
from vit_core import ViTConfig
from vit_core.checkpoint import Checkpoint, save_checkpoint
from vit_core.file_names import FLAX_NAME
from vit_core.hub import ModelSource
from vit_core.layouts import FLAX, FLAX_SCANNED, Layout
from vit_core.loading_options import request
from vit_core.loading_plan import LoadingPlan, require_memory
from vit_core.parameters import BASE_MODEL_PREFIX, Parameter, Task, parameters
from vit_core.pretrained import PARTS, prepare_loading
from vit_core.push import PushableModel, push_if_asked
from vit_flax.checks import CHANNELS_FIRST, check_images, check_pixel_values
from vit_flax.initialization import initialized
from vit_flax.layers import given
from vit_flax.parameter_tree import ParameterTree, candidates, canonical, flatten, shapes_of, shown
from vit_flax.parameter_tree import Path as TreePath
from vit_flax.precision import float_dtype, is_half
from vit_flax.rematerialization import check_remat
from vit_flax.script_methods import ScriptMethods
from vit_flax.sharding import Partitioning


class FlaxViTPreTrainedModel(ScriptMethods, PushableModel):
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
            FlaxViTModel `add_pooling_layer` and `use_mask_token`.

    Raises:
        TypeError: there is no such option.
        ValueError: the config or an option is impossible, or the module has other variables than parameters.
    """

    task: ClassVar[Task]
    module_class: ClassVar[type[nn.Module] | None] = None
    config_class = ViTConfig
    base_model_prefix = BASE_MODEL_PREFIX.rstrip(".")
    main_input_name = "pixel_values"

    def __init__(
        self,
        config: ViTConfig,
        input_shape: tuple[int, int, int, int] | None = None,
        seed: int = 0,
        dtype: Any = jnp.float32,
        _do_init: bool = True,
        **kwargs: Any,
    ) -> None:
        if not isinstance(config, ViTConfig):
            raise TypeError(
                f"{type(self).__name__} takes a ViTConfig, not a {type(config).__name__}; to load a checkpoint call "
                f"{type(self).__name__}.from_pretrained."
            )
        config.validate()
        if self.module_class is None:
            raise TypeError(f"{type(self).__name__} has no module; set module_class to a flax.linen.Module.")
        if unknown := kwargs.keys() - self._module_options():
            raise TypeError(
                f"{type(self).__name__} has no option {min(unknown)!r}; it has {', '.join(self._module_options())}."
            )
        if "param_dtype" in kwargs:
            kwargs["param_dtype"] = float_dtype("param_dtype", kwargs["param_dtype"])
        self.config = config
        self.dtype = float_dtype("dtype", dtype)
        self.module: Any = self.module_class(config=config, dtype=self.dtype, **kwargs)
        self.input_shape = input_shape or (1, *config.image_shape, config.num_channels)
        self.key = jax.random.key(seed)
        check_remat(getattr(self.module, "remat", False))
        if getattr(self.module, "scan_layers", False) and config.pruned_heads:
            raise ValueError(
                "scan_layers=True needs layers of one shape, but the config has pruned_heads; load without it."
            )
        if self.partitioning is not None:  # says now what the mesh does not divide
            of_heads = (None, None, config.num_attention_heads, None), ("batch", "tokens", "heads", None)
            self.partitioning.require_divisible("layers", *of_heads)
            self.parameter_shardings()
        self.tree = self._tree()
        self._params = self.init_weights(self.key) if _do_init else None

    # The model's place in the table of parameters

    @classmethod
    def _is_described(cls) -> bool:
        """Whether the table of parameters describes the module, rather than that a subclass brings its own."""
        owner = next((each for each in cls.__mro__ if "task" in vars(each)), None)
        return owner is not None and vars(owner)["module_class"] is cls.module_class

    def parameter_table(self) -> tuple[Parameter, ...]:
        """The rows of `vit_core.parameters` that describe this model, or what a subclass has of them."""
        if self._is_described():
            return self._own_table(self.config)
        order = [row.name for row in candidates(self.config, self._prefix_in(self.tree))]
        rows = {row.name: row for row in self.tree.rows}
        return tuple(rows[name] for name in dict.fromkeys([*order, *rows]) if name in rows)

    def _own_table(self, config: ViTConfig) -> tuple[Parameter, ...]:
        parts = {name: getattr(self.module, name) for name in PARTS if hasattr(self.module, name)}
        return parameters(config, self.task, **parts)

    def _prefix_in(self, tree: ParameterTree) -> str:
        """What the names of the base model's parameters start with in a tree."""
        return self._prefix if any(path[0] == self.base_model_prefix for path in tree.shapes) else ""

    def _tree(self) -> ParameterTree:
        """Where the parameters lie; the module of a subclass says it itself, by being traced."""
        if self._is_described():
            layout = FLAX_SCANNED if self.module.scan_layers else FLAX
            return ParameterTree.of_table(self._own_table(self.config), layout)
        return ParameterTree.of_shapes(shapes_of(nn.unbox(self._traced)), self._prefix)

    @cached_property
    def _traced(self) -> Any:
        """What the module's `init` makes as parameters, as shapes; on a mesh, in boxes."""
        variables = jax.eval_shape(self._variables, self.key)
        if others := variables.keys() - {"params"}:
            raise ValueError(
                f"{type(self.module).__name__} has {', '.join(sorted(others))} beside its params, which models here do "
                f"not keep; leave such layers out, or use the module without {type(self).__name__}."
            )
        return variables["params"]

    def _variables(self, rng: Array, input_shape: tuple[int, ...] | None = None) -> Any:
        params_rng, dropout_rng = jax.random.split(rng)
        images = jnp.zeros(input_shape or self.input_shape, self.dtype)
        return self.module.init({"params": params_rng, "dropout": dropout_rng}, images)

    @property
    def layout(self) -> Layout:
        """How the names and axes of `params` follow from the canonical ones."""
        return self.tree.layout

    @property
    def _prefix(self) -> str:
        """What the names of the base model's parameters start with in a model with a head."""
        return f"{self.base_model_prefix}."

    @property
    def params_shape_tree(self) -> dict[str, Any]:
        """The shape and dtype of each parameter, and on a mesh where it lies, as a tree like `params`."""
        return unflatten_dict(
            {
                path: jax.ShapeDtypeStruct(shape, self.param_dtype, sharding=self._sharding(path))
                for path, shape in self.tree.shapes.items()
            }
        )

    @property
    def required_params(self) -> set[TreePath]:
        """The paths of the parameters."""
        return set(self.tree.shapes)

    # On a mesh

    @property
    def partitioning(self) -> Partitioning | None:
        """The mesh that the model is on, if it is on one."""
        return getattr(self.module, "partitioning", None)

    def parameter_shardings(self) -> dict[str, Any]:
        """Where each parameter lies on the mesh, as a tree like `params`.

        Raises:
            ValueError: the model has no `partitioning`, or its mesh does not divide the size of an axis.
        """
        return unflatten_dict(self._shardings)

    def state_shardings(self, state: Any) -> Any:
        """Where the leaves of a training state lie on the mesh: what mirrors a parameter, such as a moment of an
        optimizer, as that parameter does, and everything else on every device.

        Args:
            state: a `TrainState`, an optimizer's state or the like, or its shapes by `jax.eval_shape`.

        Returns:
            The tree with a `NamedSharding` for each leaf, for `out_shardings` and for restoring checkpoints.

        Raises:
            ValueError: the model has no `partitioning`.
        """
        of_parameters, shapes = self._shardings, self.tree.shapes
        assert self.partitioning is not None  # or there would be no shardings
        everywhere = self.partitioning.sharding()

        def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            keys = tuple(key.key for key in path if isinstance(key, jax.tree_util.DictKey))
            found = next((end for start in range(len(keys)) if (end := keys[start:]) in shapes), None)
            if found is not None and jnp.shape(leaf) == shapes[found]:
                return of_parameters[found]
            return everywhere

        return jax.tree_util.tree_map_with_path(sharding, state)

    @cached_property
    def _shardings(self) -> dict[TreePath, NamedSharding]:
        if self.partitioning is None:
            raise ValueError("the model is on no mesh; build it with partitioning=Partitioning(mesh, rules).")
        return flatten(self.partitioning.shardings(self._traced))

    def _sharding(self, path: TreePath) -> NamedSharding | None:
        return None if self.partitioning is None else self._shardings[path]

    # Parameters

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, a nested dict named as transformers' Flax checkpoints are.

        Raises:
            ValueError: the model was made with `_do_init=False`; or, when they are set, they are not this model's.
        """
        if self._params is None:
            raise ValueError(
                "the model was made with _do_init=False and has no params; keep those that from_pretrained or "
                "init_weights returned, and pass them as params=... to each call."
            )
        return self._params

    @params.setter
    def params(self, params: Mapping[str, Any]) -> None:
        if self._params is None:
            raise ValueError(
                "the model was made with _do_init=False and keeps no params; pass them as params=... to each call."
            )
        self.tree.check(params)
        self._params = unflatten_dict(flatten(params))

    @property
    def param_dtype(self) -> Any:
        """The dtype in which parameters are made."""
        return getattr(self.module, "param_dtype", jnp.float32)

    def init_weights(
        self,
        rng: Array,
        input_shape: tuple[int, ...] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """Parameters with a random start; on a mesh each device makes its part.

        Args:
            rng: a key, `jax.random.key(0)`.
            input_shape: accepted for scripts that give it; parameters follow from the config. A module of one's own is
                initialised with images of that shape, (batch, height, width, channels).
            params: parameters to keep; only those that it lacks, or of which it has a `jax.ShapeDtypeStruct`, are made.

        Returns:
            A nested dict, as `params`; frozen if `params` was.

        Raises:
            ValueError: `params` has one that the model has not, or one of another shape.
        """
        leaves = {} if params is None else flatten(params)
        if params is not None:
            self.tree.check(params, may_lack=True)
        wanted = {path: leaf.dtype for path, leaf in leaves.items() if isinstance(leaf, jax.ShapeDtypeStruct)}
        missing = [path for path in self.tree.shapes if path not in leaves or path in wanted]
        if self.partitioning is None:
            require_memory((row for path in missing for row in self.tree.places.get(path, ())), self.config)
        made = self._initialized(missing, rng, input_shape)
        leaves |= {path: leaf.astype(wanted.get(path, leaf.dtype)) for path, leaf in made.items()}
        ordered = unflatten_dict({path: leaves[path] for path in self.tree.shapes})
        return freeze(ordered) if isinstance(params, FrozenDict) else ordered

    def _initialized(
        self, paths: Collection[TreePath], rng: Array, input_shape: tuple[int, ...] | None = None
    ) -> dict[TreePath, Array]:
        """The random start of some parameters: as the table says, or by the initialisers of a module of one's own."""
        if self._is_described():
            deviation, dtype = self.config.initializer_range, self.param_dtype
            return {
                path: initialized(self.tree.places[path], self.tree.layout, deviation, rng, dtype, self._sharding(path))
                for path in paths
            }
        if not paths:
            return {}

        def start_of_module(rng: Array) -> dict[TreePath, Array]:
            leaves = flatten(nn.unbox(self._variables(rng, input_shape)["params"]))
            return {path: leaves[path] for path in paths}

        # Compiled, so that nothing runs but the initialisers of these.
        shardings = None if self.partitioning is None else {path: self._sharding(path) for path in paths}
        return jax.jit(start_of_module, out_shardings=shardings)(rng)

    def to_bf16(self, params: Mapping[str, Any], mask: Any = None) -> dict[str, Any]:
        """Parameters in bfloat16, for a TPU's memory; the given ones stay as they are.

        Args:
            params: a nested dict.
            mask: a tree like `params` with True where a parameter is to be cast; all are unless given.
        """
        return self._cast(params, jnp.bfloat16, mask)

    def to_fp16(self, params: Mapping[str, Any], mask: Any = None) -> dict[str, Any]:
        """Parameters in float16; see `to_bf16`."""
        return self._cast(params, jnp.float16, mask)

    def to_fp32(self, params: Mapping[str, Any], mask: Any = None) -> dict[str, Any]:
        """Parameters in float32; see `to_bf16`."""
        return self._cast(params, jnp.float32, mask)

    def _cast(self, params: Mapping[str, Any], dtype: Any, mask: Any) -> dict[str, Any]:
        leaves = flatten(params)
        chosen = dict.fromkeys(leaves, True) if mask is None else flatten(mask)
        if different := leaves.keys() ^ chosen.keys():
            raise ValueError(f"{shown(min(different))} is in only one of params and mask; give one bool for each.")
        return unflatten_dict(
            {
                path: leaf.astype(dtype) if chosen[path] and jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
                for path, leaf in leaves.items()
            }
        )

    # Running

    def __call__(
        self,
        pixel_values: Float[Array, "batch channels height width"],
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **options: Any,
    ) -> Any:
        """Run the model; see `FlaxViTModel.__call__`.

        Args:
            pixel_values: images, (batch, channels, height, width).
            params: parameters to use instead of the model's, for functions that JAX transforms.
            dropout_rng: a key for dropout, which training with dropout needs.
            train: whether dropout acts.
            output_attentions: whether to return attention maps; the config's setting unless given.
            output_hidden_states: whether to return every layer's hidden states; likewise.
            return_dict: whether to return an output object rather than a tuple; likewise.
            **options: what else the module takes when it is called.

        Returns:
            What the module returns.

        Raises:
            TypeError: images or parameters are no arrays, or the module has no such option.
            ValueError: a shape does not fit the model, or the mesh; or `dropout_rng` is missing.
        """
        config = self.config
        if self._is_described():
            check_pixel_values(pixel_values, config, CHANNELS_FIRST, bool(options.get("interpolate_pos_encoding")))
        else:
            check_images(pixel_values, CHANNELS_FIRST)
        if params is None:
            params = self.params
        else:
            self.tree.check(params)
        images = jnp.asarray(pixel_values).transpose(0, 2, 3, 1)
        if not jnp.issubdtype(images.dtype, jnp.floating):
            images = images.astype(jnp.float32)
        return self.module.apply(
            {"params": params},
            images,
            not train,  # by position, as modules of one's own may have other names for them
            config.output_attentions if output_attentions is None else output_attentions,
            config.output_hidden_states if output_hidden_states is None else output_hidden_states,
            config.use_return_dict if return_dict is None else return_dict,
            rngs={} if dropout_rng is None else {"dropout": dropout_rng},
            **given(**options),
        )

    # Loading and saving

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str],
        dtype: Any = None,
        *model_args: Any,
        config: ViTConfig | str | PathLike[str] | None = None,
        cache_dir: str | PathLike[str] | None = None,
        ignore_mismatched_sizes: bool = False,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = "main",
        subfolder: str | None = "",
        output_loading_info: bool = False,
        torch_dtype: Any = None,
        attn_implementation: str | None = None,
        **config_overrides: Any,
    ) -> Any:
        """Load a model from a checkpoint.

        The weights are mapped from the file; on a mesh, each device reads its part. Weights that the checkpoint lacks
        start at random and are named in one warning.

        Args:
            pretrained_model_name_or_path: a folder, a file of weights, a Hub id, or a checkpoint that ships with the
                package ("bundled/vit-digits"), in any format that `conversion.load` reads.
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
            subfolder: folder inside the repository.
            output_loading_info: also return the names of missing, unexpected and mismatched weights.
            torch_dtype: another name of `dtype`.
            attn_implementation: "sdpa" (default), which is JAX's own attention, or "eager", step by step.
            **config_overrides: fields of the config to set, such as `num_labels=10` or `image_size=384` (for which the
                position embeddings are resampled); options of the model: `seed`, `input_shape`, `_do_init`,
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
            opener=cls._open,
        )
        dtype = torch_dtype if dtype is None else dtype
        is_auto = isinstance(dtype, str) and dtype == "auto"
        if dtype is None or is_auto:
            dtype = (loading.dtype if is_auto else None) or jnp.float32
        build: Any = cls
        model: Self = build(loading.config, *model_args, dtype=dtype, _do_init=False, **model_arguments)
        plan = loading.plan(model.parameter_table(), model.tree.extra_shapes, model._prefix)
        leaves = model._loaded(plan, do_init, model_arguments.get("param_dtype"))
        plan.warn(cls.__name__, loading.source)
        if not is_auto and "param_dtype" not in model_arguments:
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
    def _open(cls, source: ModelSource, *args: Any, **kwargs: Any) -> Checkpoint:
        """See `conversion.checkpoint.open_for_loading`, which passes a subclass' own files on as they are."""
        opened = open_for_loading(source, *args, **kwargs)
        return dataclasses.replace(opened, tensors=canonical(opened.tensors, f"{cls.base_model_prefix}."))

    def _loaded(self, plan: LoadingPlan, do_init: bool, dtype: Any) -> dict[TreePath, Any]:
        """Parameters with the planned weights; with `do_init`, missing ones are drawn at random.

        Args:
            plan: which weights.
            do_init: whether parameters that are missing are made.
            dtype: of the loaded parameters; None for what `parameter_tree.loaded_dtype` says.
        """
        leaves, lacking = {}, []
        for path in self.tree.shapes:
            found = [name in plan.tensors for name in self.tree.names(path)]
            if all(found):
                leaves[path] = self.tree.loaded(path, plan.tensors, dtype, self._sharding(path))
            elif any(found) or do_init:
                lacking.append(path)
        for path, leaf in self._initialized(lacking, self.key).items():
            leaves[path] = self.tree.with_layers(path, leaf, plan.tensors)  # of a stack, some layers may be there
        return {path: leaves[path] for path in self.tree.shapes if path in leaves}

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
            save_checkpoint(Path(save_directory), config, {name: tensors[name] for name in names}, max_shard_size)
        else:
            save_checkpoint(
                Path(save_directory),
                config,
                tree.stored_as_flax(params),
                max_shard_size,
                weights_name=FLAX_NAME,
                write=write_msgpack,
            )
        push_if_asked(save_directory, push_to_hub, {"token": token, "tags": self.model_tags, **pushing})

    def _tree_of(self, shapes: Mapping[TreePath, tuple[int, ...]]) -> ParameterTree:
        """The tree of changed parameters; what a subclass added stays what it is."""
        added = {path: shape for path, shape in shapes.items() if path in self.tree.extras}
        tree = ParameterTree.of_shapes({path: shapes[path] for path in shapes.keys() - added}, self._prefix)
        return dataclasses.replace(
            tree, extras={**tree.extras, **{path: self.tree.extras[path] for path in added}}, shapes=dict(shapes)
        )

    def _described(self, tree: ParameterTree) -> Description:
        """The config from which parameters follow, and which of them the table describes."""
        if self._is_described():
            return described(self.config, self._own_table, tree.tensor_shapes, type(self).__name__)
        if tree is self.tree:
            return Description(self.config, self.parameter_table(), tuple(tree.extras.values()))
        prefix, shapes = self._prefix_in(tree), tree.tensor_shapes

        def table_of(config: ViTConfig) -> list[Parameter]:
            return [row for row in candidates(config, prefix) if row.name in shapes]

        return described(self.config, table_of, shapes, type(self).__name__, is_own=False, prefix=self._prefix)

    # Conveniences

    def enable_gradient_checkpointing(self) -> None:
        """Compute each layer's activations again in the backward pass instead of keeping them: `remat=True`."""
        self.module = self.module.clone(remat=True)

    def num_parameters(self) -> int:
        """The number of parameters."""
        return sum(math.prod(shape) for shape in self.tree.shapes.values())

    @classmethod
    def _module_options(cls) -> list[str]:
        """The fields of the module that a caller may set, besides its config and dtype."""
        names = [field.name for field in dataclasses.fields(cls.module_class or nn.Module) if field.init]
        return [name for name in names if name not in ("config", "dtype", "parent", "name")]

    @classmethod
    def _model_arguments(cls, options: Mapping[str, Any], config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The options that are arguments of the constructor, and the others.

        A name that both the constructor and the checkpoint's config know is meant for both.
        """
        fields, named = cls.config_class(), inspect.signature(cls).parameters.values()
        names = {each.name for each in named if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
        names = {*names, *cls._module_options()} - {"config", "dtype"}
        if cls.__init__ is not FlaxViTPreTrainedModel.__init__:  # which may take any
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
