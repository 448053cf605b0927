"""Flax' side of loading, saving and everything else that models have in common."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from conversion.checkpoint import open_for_loading
from vit_core import ViTConfig
from vit_core.checkpoint import save_checkpoint
from vit_core.layouts import FLAX, FLAX_SCANNED, Layout
from vit_core.loading_options import request
from vit_core.loading_plan import LoadingPlan, require_memory
from vit_core.parameters import BASE_MODEL_PREFIX, Parameter, Task, parameters
from vit_core.pretrained import ARCHITECTURES, PARTS, prepare_loading
from vit_core.push import Pushable
from vit_flax import parameter_tree
from vit_flax.checks import CHANNELS_FIRST, check_pixel_values
from vit_flax.initialization import initialized
from vit_flax.parameter_tree import Path as TreePath
from vit_flax.precision import float_dtype
from vit_flax.rematerialization import check_remat


class FlaxViTPreTrainedModel(Pushable):
    """A `flax.linen.Module` with its parameters, and what the models share.

    Args:
        config: its sizes and settings.
        input_shape: accepted for scripts that give it, (batch, height, width, channels); sizes follow from the config.
        seed: of the parameters' random start.
        dtype: what the model computes in, such as `jnp.bfloat16`; parameters stay in `param_dtype`.
        _do_init: False makes no parameters: pass them to each call.
        **kwargs: fields of the module: `param_dtype` (float32), `scan_layers`, `remat`, `partitioning`, and for
            FlaxViTModel `add_pooling_layer` and `use_mask_token`.

    Raises:
        TypeError: there is no such option.
        ValueError: the config or an option is impossible.
    """

    task: ClassVar[Task]
    module_class: ClassVar[type[nn.Module]]
    config_class = ViTConfig
    base_model_prefix = BASE_MODEL_PREFIX.rstrip(".")
    main_input_name = "pixel_values"
    framework = "flax"

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
        if unknown := kwargs.keys() - self._module_options():
            raise TypeError(
                f"{type(self).__name__} has no option {min(unknown)!r}; it has {', '.join(self._module_options())}."
            )
        param_dtype = float_dtype("param_dtype", kwargs.pop("param_dtype", jnp.float32))
        self.config = config
        self.module = self.module_class(config, float_dtype("dtype", dtype), param_dtype, **kwargs)
        self.input_shape = input_shape or (1, *config.image_shape, config.num_channels)
        self.key = jax.random.key(seed)
        check_remat(self.module.remat)
        if self.module.scan_layers and config.pruned_heads:
            raise ValueError(
                "scan_layers=True needs layers of one shape, but the config has pruned_heads; load without it."
            )
        if self.module.partitioning is not None:  # says now what the mesh does not divide
            of_heads = (None, None, config.num_attention_heads, None), ("batch", "tokens", "heads", None)
            self.module.partitioning.require_divisible("layers", *of_heads)
            self.parameter_shardings()
        self._params = self.init_weights(self.key) if _do_init else None

    # The model's place in the table of parameters

    def parameter_table(self) -> tuple[Parameter, ...]:
        """The rows of `vit_core.parameters` that describe this model."""
        parts = {name: getattr(self.module, name) for name in PARTS if hasattr(self.module, name)}
        return parameters(self.config, self.task, **parts)

    @property
    def layout(self) -> Layout:
        """How the names and axes of `params` follow from the canonical ones."""
        return FLAX_SCANNED if self.module.scan_layers else FLAX

    @property
    def params_shape_tree(self) -> dict[str, Any]:
        """The shape and dtype of each parameter, and on a mesh where it lies, as a tree like `params`."""
        dtype = self.module.param_dtype
        return unflatten_dict(
            {
                path: jax.ShapeDtypeStruct(shape, dtype, sharding=self._sharding(path))
                for path, shape in self._shapes.items()
            }
        )

    @property
    def required_params(self) -> set[TreePath]:
        """The paths of the parameters."""
        return set(self._shapes)

    @cached_property
    def _shapes(self) -> dict[TreePath, tuple[int, ...]]:
        return parameter_tree.leaf_shapes(self.parameter_table(), self.layout)

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
        of_parameters = self._shardings
        everywhere = self.module.partitioning.sharding()

        def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            keys = tuple(key.key for key in path if isinstance(key, jax.tree_util.DictKey))
            found = next((end for start in range(len(keys)) if (end := keys[start:]) in self._shapes), None)
            if found is not None and jnp.shape(leaf) == self._shapes[found]:
                return of_parameters[found]
            return everywhere

        return jax.tree_util.tree_map_with_path(sharding, state)

    @cached_property
    def _shardings(self) -> dict[TreePath, NamedSharding]:
        if self.module.partitioning is None:
            raise ValueError("the model is on no mesh; build it with partitioning=Partitioning(mesh, rules).")
        images = jnp.zeros((1, *self.config.image_shape, self.config.num_channels), self.module.dtype)
        boxed = jax.eval_shape(self.module.init, self.key, images)["params"]
        return parameter_tree.flatten(self.module.partitioning.shardings(boxed))

    # Parameters

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, a nested dict named as transformers' Flax checkpoints are."""
        if self._params is None:
            raise ValueError(
                "the model was made with _do_init=False and has no params; keep those that from_pretrained or "
                "init_weights returned, and pass them as params=... to each call."
            )
        return self._params

    @params.setter
    def params(self, params: Mapping[str, Any]) -> None:
        parameter_tree.check_params(params, self._shapes)
        self._params = unflatten_dict(parameter_tree.flatten(params))

    def init_weights(
        self,
        rng: Array,
        input_shape: tuple[int, ...] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Parameters with a random start; on a mesh each device makes its part.

        Args:
            rng: a key, `jax.random.key(0)`.
            input_shape: accepted for scripts that give it; parameters follow from the config.
            params: parameters to keep; only those that it lacks are made.

        Returns:
            A nested dict, as `params`.
        """
        kept = parameter_tree.flatten(params or {})
        places = self.layout.places(self.parameter_table())
        if self.module.partitioning is None:
            require_memory((row for path, rows in places.items() if path not in kept for row in rows), self.config)
        return unflatten_dict(
            {path: kept[path] if path in kept else self._initialized(path, rows, rng) for path, rows in places.items()}
        )

    def _initialized(self, path: TreePath, rows: Sequence[Parameter], rng: Array) -> Array:
        deviation, dtype = self.config.initializer_range, self.module.param_dtype
        return initialized(rows, self.layout, deviation, rng, dtype, self._sharding(path))

    def _sharding(self, path: TreePath) -> NamedSharding | None:
        return None if self.module.partitioning is None else self._shardings[path]

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
        leaves = parameter_tree.flatten(params)
        chosen = dict.fromkeys(leaves, True) if mask is None else parameter_tree.flatten(mask)
        if different := leaves.keys() ^ chosen.keys():
            raise ValueError(
                f"{parameter_tree.shown(min(different))} is in only one of params and mask; give one bool for each."
            )
        return unflatten_dict(
            {
                path: leaf.astype(dtype) if chosen[path] and jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
                for path, leaf in leaves.items()
            }
        )

    # Running

    def _run(
        self,
        pixel_values: Any,
        params: Mapping[str, Any] | None,
        dropout_rng: Array | None,
        train: bool,
        **options: Any,
    ) -> Any:
        """Apply the module to images (batch, channels, height, width)."""
        for name in ("output_attentions", "output_hidden_states", "return_dict"):
            if options[name] is None:
                options[name] = getattr(self.config, name)
        options["interpolate_pos_encoding"] = bool(options["interpolate_pos_encoding"])
        check_pixel_values(pixel_values, self.config, CHANNELS_FIRST, options["interpolate_pos_encoding"])
        if params is None:
            params = self.params
        else:
            parameter_tree.check_params(params, self._shapes)
        images = jnp.asarray(pixel_values).transpose(0, 2, 3, 1)
        if not jnp.issubdtype(images.dtype, jnp.floating):
            images = images.astype(jnp.float32)
        rngs = {} if dropout_rng is None else {"dropout": dropout_rng}
        return self.module.apply({"params": params}, images, not train, rngs=rngs, **options)

    # Loading and saving

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str],
        dtype: Any = None,
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
                float32 unless given. Parameters are float32, unless `param_dtype` says otherwise.
            config: a config, or where to find one, instead of the checkpoint's own.
            revision: branch, tag or commit on the Hub.
            cache_dir: where downloads are kept; huggingface_hub's cache unless given.
            token: access token for the Hub; huggingface_hub's own unless given.
            local_files_only: never ask the network.
            force_download: download again what is in the cache.
            subfolder: folder inside the repository.
            ignore_mismatched_sizes: start weights whose shape does not fit at random instead of raising.
            output_loading_info: also return the names of missing, unexpected and mismatched weights.
            torch_dtype: another name of `dtype`.
            attn_implementation: "sdpa" (default), which is JAX's own attention, or "eager", step by step.
            **config_overrides: fields of the config to set, such as `num_labels=10` or `image_size=384` (for which the
                position embeddings are resampled), and options of the model: `seed`, `input_shape`, `_do_init`,
                `param_dtype`, `scan_layers`, `remat`, `partitioning`.

        Returns:
            The model; with `_do_init=False` (model, params), where params lack what the checkpoint lacks; and last
            the loading info, if asked for.

        Raises:
            OSError: there is no such checkpoint, or it cannot be reached.
            ValueError: a file is corrupt, the config is impossible, or a shape does not fit.
            TypeError: an option does not exist.
        """
        options = {"input_shape", "seed", *cls._module_options()}
        model_arguments = {name: config_overrides.pop(name) for name in options if name in config_overrides}
        do_init = config_overrides.pop("_do_init", True)

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
        dtype = torch_dtype if dtype is None else dtype
        if dtype is None or (isinstance(dtype, str) and dtype == "auto"):
            dtype = (loading.dtype if dtype else None) or jnp.float32
        model = cls(loading.config, dtype=dtype, _do_init=False, **model_arguments)
        plan = loading.plan(model.parameter_table())
        params = model._loaded(plan, do_init)
        plan.warn(cls.__name__, loading.source)
        if do_init:
            model.params = params
        returned = (model,) if do_init else (model, params)
        if output_loading_info:
            returned = (*returned, plan.loading_info())
        return returned if len(returned) > 1 else model

    def _loaded(self, plan: LoadingPlan, do_init: bool) -> dict[str, Any]:
        """Parameters with the planned weights; with `do_init`, missing ones are drawn at random."""
        leaves: dict[TreePath, Any] = {}
        dtype = self.module.param_dtype
        for path, rows in self.layout.places(self.parameter_table()).items():
            found = [row for row in rows if row.name in plan.tensors]
            if len(found) == len(rows):
                leaves[path] = parameter_tree.loaded(rows, plan.tensors, self.layout, dtype, self._sharding(path))
            elif found or do_init:
                leaves[path] = self._initialized(path, rows, self.key)
                for row in found:  # of a stack, some layers may be there
                    part = parameter_tree.loaded([row], plan.tensors, FLAX, dtype, None)
                    leaves[path] = leaves[path].at[row.layer].set(part)
        return unflatten_dict(leaves)

    def save_pretrained(
        self,
        folder: str | PathLike[str],
        params: Mapping[str, Any] | None = None,
        max_shard_size: int | str = "5GB",
        *,
        is_main_process: bool | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write `config.json` and `model.safetensors`, the same bytes whichever framework saves.

        Args:
            folder: where; made if need be. The checkpoint that is there is replaced at once or, on failure, not at all.
            params: what to save, such as those of a TrainState; the model's unless given.
            max_shard_size: largest size of a file, such as "5GB"; larger models are written in shards with an index.
            is_main_process: whether this process writes; that of index 0 unless given. Where parameters are spread
                over several hosts, all of them must call this.
            safe_serialization: must be True; weights are written as safetensors only.

        Raises:
            OSError: it cannot be written; what was there before is untouched.
            ValueError: `params` are not this model's.
        """
        if not safe_serialization:
            raise ValueError("safe_serialization=False asks for msgpack weights; only safetensors are written.")
        if params is None:
            params = self.params
        parameter_tree.check_params(params, self._shapes)
        params = jax.tree.map(_gathered, params)
        if not (jax.process_index() == 0 if is_main_process is None else is_main_process):
            return
        weights = parameter_tree.stored(params, self.parameter_table(), self.layout)
        config = self.config.replaced(architectures=[ARCHITECTURES[self.task]])
        save_checkpoint(Path(folder), config, weights, max_shard_size)

    # Conveniences

    @property
    def dtype(self) -> Any:
        """What the model computes in."""
        return self.module.dtype

    def enable_gradient_checkpointing(self) -> None:
        """Compute each layer's activations again in the backward pass instead of keeping them: `remat=True`."""
        self.module = self.module.clone(remat=True)

    def num_parameters(self) -> int:
        """The number of parameters."""
        return sum(math.prod(shape) for shape in self._shapes.values())

    @classmethod
    def _module_options(cls) -> list[str]:
        """The fields of the module that a caller may set, besides its config and dtype."""
        names = [field.name for field in dataclasses.fields(cls.module_class) if field.init]
        return [name for name in names if name not in ("config", "dtype", "parent", "name")]


def _gathered(leaf: Any) -> Any:
    """An array that this process can read whole; spread over several hosts, it is gathered from them."""
    if isinstance(leaf, Array) and not leaf.is_fully_addressable:
        return multihost_utils.process_allgather(leaf, tiled=True)
    return leaf
