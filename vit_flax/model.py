"""A Flax module with its parameters: what a model is before anything is loaded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict, freeze
from flax.traverse_util import unflatten_dict
from jax import Array
from jaxtyping import Float

from vit_core import PretrainedConfig
from vit_core.families import require_config
from vit_core.layouts import FLAX, FLAX_SCANNED, Layout
from vit_core.loading_plan import require_memory
from vit_core.parameters import Parameter, Task, parameters
from vit_core.pretrained import PARTS
from vit_flax.checks import CHANNELS_FIRST, check_images, check_pixel_values
from vit_flax.initialization import initialized
from vit_flax.mesh_methods import MeshMethods
from vit_flax.parameter_tree import ParameterTree, Path, candidates, flatten, heads_of, shapes_of
from vit_flax.parts import given
from vit_flax.precision import float_dtype
from vit_flax.rematerialization import check_remat
from vit_flax.token_merging import TokenMerging
from vit_flax.tree_changes import cast


class Model(MeshMethods, TokenMerging):
    """A `flax.linen.Module` with its parameters; see `FlaxPreTrainedModel`."""

    task: ClassVar[Task]
    module_class: ClassVar[type[nn.Module] | None] = None
    config_class: type[PretrainedConfig] = PretrainedConfig
    base_model_prefix: str = ""
    main_input_name = "pixel_values"

    def __init__(
        self,
        config: PretrainedConfig,
        input_shape: tuple[int, int, int, int] | None = None,
        seed: int = 0,
        dtype: Any = jnp.float32,
        _do_init: bool = True,
        **kwargs: Any,
    ) -> None:
        require_config(config, self.config_class, type(self).__name__)
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
        self.key = jax.random.PRNGKey(seed)  # an array, as scripts expect of it
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
        self._params = self.init_weights(self.key, self.input_shape) if _do_init else None

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
        order = [row.name for row in self._candidates(self.config)]
        rows = {row.name: row for row in self.tree.rows}
        return tuple(rows[name] for name in dict.fromkeys([*order, *rows]) if name in rows)

    def _candidates(self, config: PretrainedConfig) -> Iterator[Parameter]:
        """The rows that a module of one's own may have of the table."""
        return candidates(config, self.tree.bases, self.base_model_prefix, heads_of(type(config)))

    def _own_table(self, config: PretrainedConfig) -> tuple[Parameter, ...]:
        parts = {name: getattr(self.module, name) for name in PARTS if hasattr(self.module, name)}
        return parameters(config, self.task, **parts)

    def _tree(self) -> ParameterTree:
        """Where the parameters lie; the module of a subclass says it itself, by being traced."""
        if self._is_described():
            layout = FLAX_SCANNED if self.module.scan_layers else FLAX
            return ParameterTree.of_table(self._own_table(self.config), layout, self.base_model_prefix)
        shapes = jax.tree.map(_without_box, self._traced, is_leaf=_is_box)
        return ParameterTree.of_shapes(shapes_of(shapes), self.base_model_prefix, type(self.config))

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
        """What the names of the base model's parameters start with in this model, or in one with a head."""
        return self.tree.bases[0] or f"{self.base_model_prefix}."

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
    def required_params(self) -> set[Path]:
        """The paths of the parameters."""
        return set(self.tree.shapes)

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
            self.tree.check(params, to_complete=True)
        wanted = {path: leaf.dtype for path, leaf in leaves.items() if isinstance(leaf, jax.ShapeDtypeStruct)}
        missing = [path for path in self.tree.shapes if path not in leaves or path in wanted]
        if self.partitioning is None:
            require_memory((row for path in missing for row in self.tree.places.get(path, ())), self.config)
        made = self._initialized(missing, rng, input_shape)
        leaves |= {path: leaf.astype(wanted.get(path, leaf.dtype)) for path, leaf in made.items()}
        ordered = unflatten_dict({path: leaves[path] for path in self.tree.shapes})
        return freeze(ordered) if isinstance(params, FrozenDict) else ordered

    def _initialized(
        self, paths: Collection[Path], rng: Array, input_shape: tuple[int, ...] | None = None
    ) -> dict[Path, Array]:
        """The random start of some parameters: as the table says, or by the initialisers of a module of one's own."""
        if self._is_described():
            config, dtype = self.config, self.param_dtype
            return {
                path: initialized(self.tree.places[path], self.tree.layout, config, rng, dtype, self._sharding(path))
                for path in paths
            }
        if not paths:
            return {}

        def start_of_module(rng: Array) -> dict[Path, Array]:
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
        return cast(params, jnp.bfloat16, mask)

    def to_fp16(self, params: Mapping[str, Any], mask: Any = None) -> dict[str, Any]:
        """Parameters in float16; see `to_bf16`."""
        return cast(params, jnp.float16, mask)

    def to_fp32(self, params: Mapping[str, Any], mask: Any = None) -> dict[str, Any]:
        """Parameters in float32; see `to_bf16`."""
        return cast(params, jnp.float32, mask)

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
        """Run the model; see `FlaxVisionTransformerModel.__call__`.

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
        return self.module.apply(
            {"params": self.checked(params)},
            channels_last(pixel_values),
            not train,  # by position, as modules of one's own may have other names for them
            config.output_attentions if output_attentions is None else output_attentions,
            config.output_hidden_states if output_hidden_states is None else output_hidden_states,
            config.use_return_dict if return_dict is None else return_dict,
            rngs={} if dropout_rng is None else {"dropout": dropout_rng},
            **given(**options),
        )

    def checked(self, params: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """The parameters to run with: those that a call gives, if they fit the model, or else its own."""
        if params is None:
            return self.params
        self.tree.check(params)
        return params

    # Conveniences

    def enable_gradient_checkpointing(self) -> None:
        """Compute each layer's activations again in the backward pass instead of keeping them: `remat=True`.

        Raises:
            ValueError: the module of a subclass has no field `remat` or `gradient_checkpointing` that says so.
        """
        field = next((name for name in ("remat", "gradient_checkpointing") if name in self._module_options()), None)
        if field is None:
            raise ValueError(
                f"{type(self.module).__name__} has no field remat; give it one (remat: bool = False), and pass it on "
                f"to its FlaxViTModule."
            )
        self.module = self.module.clone(**{field: True})

    def num_parameters(self) -> int:
        """The number of parameters."""
        return sum(math.prod(shape) for shape in self.tree.shapes.values())

    @classmethod
    def _module_options(cls) -> list[str]:
        """The fields of the module that a caller may set, besides its config and dtype and by `merge_tokens`."""
        names = [field.name for field in dataclasses.fields(cls.module_class or nn.Module) if field.init]
        return [name for name in names if name not in ("config", "dtype", "merged_tokens", "parent", "name")]


def channels_last(
    pixel_values: Float[Array, "batch channels height width"],
) -> Float[Array, "batch height width channels"]:
    """Images as modules take them, in floating point."""
    images = jnp.asarray(pixel_values).transpose(0, 2, 3, 1)
    return images if jnp.issubdtype(images.dtype, jnp.floating) else images.astype(jnp.float32)


def _is_box(leaf: Any) -> bool:
    return isinstance(leaf, nn.Partitioned)


def _without_box(leaf: Any) -> Any:
    """What lies in a box of Flax's, which on a mesh would move what it gives out; shapes cannot be moved."""
    return leaf.value if _is_box(leaf) else leaf
