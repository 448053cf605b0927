"""Parameters as nested dicts, and what checkpoints call them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict, unfreeze
from flax.traverse_util import flatten_dict
from jax import Array
from jax.sharding import Sharding

from vit_core import CLIPVisionConfig, PretrainedConfig, VisionTransformerConfig, ViTMAEConfig
from vit_core.architecture import PREFIX_TOKENS
from vit_core.array_bytes import contiguous
from vit_core.families import family_of
from vit_core.layouts import FLAX, FLAX_SCANNED, Layout
from vit_core.parameters import BARE, STACKS, Parameter, Task, parameters
from vit_core.stored_tensor import FLOAT_CODES, FLOAT_NAMES, StoredTensor

Path = tuple[str, ...]
Shape = tuple[int, ...]

HALF_CODES = ("F16", "BF16")
FLAX_KERNEL = "embeddings.patch_embeddings.projection.kernel"  # which has another name everywhere else


@dataclass(frozen=True)
class ParameterTree:
    """Where a model's parameters lie, and what checkpoints call them.

    Attributes:
        layout: how paths and axes follow from canonical names and axes.
        places: for each path that the table of parameters describes, what lies there: one row, or in a stack those of
            all layers.
        extras: for each other path, which a subclass added, its name in checkpoints.
        shapes: of the array at each path, in the order in which they are made.
        bases: what the names of each base model's parameters start with, the one first whose weights come from a
            checkpoint of the base model.
    """

    layout: Layout
    places: dict[Path, list[Parameter]]
    extras: dict[Path, str]
    shapes: dict[Path, Shape]
    bases: tuple[str, ...]

    @classmethod
    def of_table(cls, table: Iterable[Parameter], layout: Layout, base_model_prefix: str) -> ParameterTree:
        """The tree of a model that the table describes; a base model stands at the prefix, or is the whole."""
        places = layout.places(table)
        shapes = {path: _shape(rows, layout) for path, rows in places.items()}
        return cls(layout, places, {}, shapes, (f"{base_model_prefix}.",))

    @classmethod
    def of_shapes(
        cls, shapes: Mapping[Path, Shape], base_model_prefix: str, config_class: type[PretrainedConfig]
    ) -> ParameterTree:
        """The tree of any model: what lies where a base model, a classifier or a decoder has it is in the table.

        Args:
            shapes: of the array at each path.
            base_model_prefix: where a base model stands, if there is one; others are found by their patches.
            config_class: of the model's config, whose family has such heads.

        Raises:
            ValueError: two parameters would have one name in a checkpoint, or some layers are stacked and some not.
        """
        bases = _bases(shapes, base_model_prefix)
        templates = _templates(bases, base_model_prefix, heads_of(config_class))
        places = {path: found for path, shape in shapes.items() if (found := _rows(path, shape, templates))}
        extras = {path: ".".join(path) for path in shapes if path not in places}
        names = [row.name for found in places.values() for row in found] + list(extras.values())
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"two parameters would be {twice[0]} in a checkpoint; give one of them another name.")
        of_layers = {path: found for path, found in places.items() if found[0].layer is not None}
        stacked = [path for path, found in of_layers.items() if FLAX.path(found[0]) != path]
        if stacked and len(stacked) < len(of_layers):
            single = next(path for path in of_layers if path not in stacked)
            raise ValueError(
                f"{joined(stacked[0])} is a stack of layers and {joined(single)} is one of a single layer; give every "
                f"FlaxViTModule of a model the same scan_layers."
            )
        return cls(FLAX_SCANNED if stacked else FLAX, places, extras, dict(shapes), bases)

    @property
    def rows(self) -> list[Parameter]:
        """What the table describes, in the order of the tree."""
        return [row for rows in self.places.values() for row in rows]

    @property
    def tensor_shapes(self) -> dict[str, Shape]:
        """The shape of each tensor in a checkpoint, by name."""
        return {row.name: row.shape for row in self.rows} | self.extra_shapes

    @property
    def extra_shapes(self) -> dict[str, Shape]:
        """The shapes of what a subclass added, by name in checkpoints."""
        return {name: self.shapes[path] for path, name in self.extras.items()}

    def names(self, path: Path) -> list[str]:
        """The names in checkpoints of what lies at a path."""
        return [self.extras[path]] if path in self.extras else [row.name for row in self.places[path]]

    def check(self, params: Any, *, to_complete: bool = False) -> None:
        """Check that parameters are those of the model.

        Others may lie beside them, such as a head of the caller's own, or the pooler of a base model.

        Args:
            params: a nested dict.
            to_complete: whether some may be missing, and others may not be there, as when the rest is to be made.

        Raises:
            TypeError: they are no nested dict.
            ValueError: one is missing or of another shape; or there is another layer, or one that was meant for it.
        """
        found = flatten(params)
        hint = "pass those of a model with the same config, scan_layers included."
        missing = [] if to_complete else [path for path in self.shapes if path not in found]
        unknown = [path for path in found if path not in self.shapes]
        if not (missing or to_complete):
            unknown = [path for path in unknown if depth_of_layers(path) is not None]
        if unknown:
            raise ValueError(f"params hold {joined(unknown[0])}, which the model does not have; {hint}")
        if missing:
            raise ValueError(f"params lack {joined(missing[0])}; {hint}")
        for path, shape in self.shapes.items():
            if path in found and (actual := _shape_of(found[path])) != shape:
                raise ValueError(
                    f"params hold {joined(path)} with shape {actual}, but the config makes it {shape}; {hint}"
                )

    def stored(self, params: Mapping[str, Any]) -> dict[str, StoredTensor]:
        """The tensors of a checkpoint by name; each becomes a numpy array when it is written."""
        leaves = flatten(params)
        tensors = {
            row.name: _stored(row.name, row.shape, leaves[path], partial(self._canonical, row, leaves[path]))
            for path, rows in self.places.items()
            for row in rows
        }
        extras = {
            name: _stored(name, self.shapes[path], leaves[path], partial(np.asarray, leaves[path]))
            for path, name in self.extras.items()
        }
        return tensors | extras

    def stored_as_flax(self, params: Mapping[str, Any]) -> dict[str, StoredTensor]:
        """The tensors of a `flax_model.msgpack` by path; layers that are stacked are single ones there."""
        leaves = flatten(params)
        tensors: dict[str, StoredTensor] = {}
        for path, shape in self.shapes.items():
            leaf = leaves[path]
            for row in self.places.get(path, ()):
                is_stacked = self.layout.is_stacked(row)
                read = partial(_layer, leaf, row.layer if is_stacked else None)
                tensors["/".join(FLAX.path(row))] = _stored(row.name, shape[is_stacked:], leaf, read)
            if path in self.extras:
                tensors["/".join(path)] = _stored(self.extras[path], shape, leaf, partial(_layer, leaf))
        return tensors

    def _canonical(self, row: Parameter, leaf: Any) -> np.ndarray:
        array = _layer(leaf, row.layer if self.layout.is_stacked(row) else None)
        return contiguous(self.layout.to_canonical(row, array)).reshape(row.shape)

    def loaded(self, path: Path, tensors: Mapping[str, StoredTensor], dtype: Any, sharding: Sharding | None) -> Array:
        """The array at a path, read from a checkpoint; on a mesh, each device gets its part and nothing else.

        Args:
            path: one for which the checkpoint has all tensors.
            tensors: the checkpoint's, by name.
            dtype: of the array; None for what `loaded_dtype` says.
            sharding: where it goes; JAX's default device unless given.
        """
        names, shape = self.names(path), self.shapes[path]
        dtype = dtype or loaded_dtype(tensors[names[0]])

        def part(index: Any) -> np.ndarray:  # a slice for each axis
            if path in self.extras:
                return as_array(tensors[names[0]])[index].astype(dtype, copy=False)
            rows = self.places[path]
            if not self.layout.is_stacked(rows[0]):
                return read(rows[0], index)
            layers, *rest = index
            return np.stack([read(row, tuple(rest)) for row in rows[layers]])

        def read(row: Parameter, index: Any) -> np.ndarray:
            return self.layout.from_canonical(row, as_array(tensors[row.name]))[index].astype(dtype, copy=False)

        if sharding is None:
            return _on_device(part((slice(None),) * len(shape)))
        return jax.make_array_from_callback(shape, sharding, part)

    def with_layers(self, path: Path, stack: Array, tensors: Mapping[str, StoredTensor]) -> Array:
        """A stack with those of its layers filled that a checkpoint has."""
        for row in self.places.get(path, []):
            if row.name in tensors and self.layout.is_stacked(row):
                layer = self.layout.from_canonical(row, as_array(tensors[row.name]))
                stack = stack.at[row.layer].set(layer.astype(stack.dtype))
        return stack


def _on_device(array: np.ndarray) -> Array:
    """A JAX array that shares no memory with a file or with somebody's arrays.

    JAX may take an array's memory for its own if the entries lie in order, and copies all others. `jnp.asarray` always
    copies, by a program that it compiles for each shape.
    """
    is_shared = array.flags.c_contiguous and not array.flags.owndata
    return jax.device_put(array.copy() if is_shared else array)


def _layer(leaf: Any, layer: int | None = None) -> np.ndarray:
    return np.asarray(leaf if layer is None else leaf[layer])


def canonical(
    tensors: Mapping[str, StoredTensor], base_model_prefix: str, config_class: type[PretrainedConfig]
) -> Mapping[str, StoredTensor]:
    """The tensors of a checkpoint by the names that a model looks for, if they are under Flax's.

    Args:
        tensors: by path, joined with "/" as in msgpack or with "." as in safetensors, or by canonical name.
        base_model_prefix: where a base model stands, if there is one.
        config_class: of the model's config.
    """
    if not any("/" in name or name.endswith(FLAX_KERNEL) for name in tensors):
        return tensors
    by_path = {tuple(name.replace("/", ".").split(".")): tensor for name, tensor in tensors.items()}
    shapes = {path: tensor.shape for path, tensor in by_path.items()}
    tree = ParameterTree.of_shapes(shapes, base_model_prefix, config_class)
    return {
        **{
            row.name: StoredTensor(by_path[path].dtype, row.shape, partial(_read, by_path[path], row, tree.layout))
            for path, rows in tree.places.items()
            for row in rows
        },
        **{name: by_path[path] for path, name in tree.extras.items()},
    }


def _read(tensor: StoredTensor, row: Parameter, layout: Layout) -> np.ndarray:
    array = tensor.read()
    return layout.to_canonical(row, array[row.layer] if layout.is_stacked(row) else array)


def loaded_dtype(tensor: StoredTensor) -> Any:
    """What a tensor becomes if nobody says: half precision stays as it is, anything else becomes float32."""
    return jnp.dtype(FLOAT_NAMES[tensor.dtype]) if tensor.dtype in HALF_CODES else jnp.dtype(jnp.float32)


def stored_arrays(arrays: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """Arrays that a caller gives, as tensors of a checkpoint.

    Args:
        arrays: numpy's, JAX's or another framework's, by canonical name, or in a nested dict such as `model.params`.

    Raises:
        TypeError: something is no array.
        ValueError: one is of a dtype that checkpoints do not hold.
    """
    if not isinstance(arrays, Mapping):
        raise TypeError(f"state_dict is a {type(arrays).__name__}; pass arrays by name.")
    leaves = {"/".join(path): leaf for path, leaf in flatten(arrays).items()}
    for name, leaf in leaves.items():
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise TypeError(
                f"state_dict holds {name!r}, a {type(leaf).__name__}; pass arrays by canonical name, or a nested dict "
                f"such as model.params."
            )
    # Copied, since the caller may change what is its own.
    copied = {
        name: jnp.from_dlpack(leaf.detach().clone()) if hasattr(leaf, "detach") else np.array(leaf)  # a torch.Tensor
        for name, leaf in leaves.items()
    }
    return {name: _stored(name, leaf.shape, leaf, partial(np.asarray, leaf)) for name, leaf in copied.items()}


def as_array(tensor: StoredTensor) -> np.ndarray:
    """A tensor of a checkpoint as a numpy array, in JAX's bfloat16 if need be."""
    return tensor.read().view(jnp.bfloat16) if tensor.dtype == "BF16" else tensor.read()


def _bases(paths: Iterable[Path], base_model_prefix: str) -> tuple[str, ...]:
    """What the names of each base model's parameters start with, in order; "" where it is the whole model."""
    kernel = tuple(FLAX_KERNEL.split("."))
    paths = list(paths)
    named = [(base_model_prefix,)] if any(path[0] == base_model_prefix for path in paths) else []
    found = [path[: -len(kernel)] for path in paths if path[-len(kernel) :] == kernel]
    return tuple("".join(f"{part}." for part in path) for path in dict.fromkeys(named + found)) or ("",)


def heads_of(config_class: type[PretrainedConfig]) -> tuple[Task, ...]:
    """The tasks for which models with such a config have a head."""
    return tuple(task for task in family_of(config_class).models if task not in BARE)


def candidates(
    config: PretrainedConfig, bases: Iterable[str], base_model_prefix: str, heads: Iterable[Task]
) -> Iterator[Parameter]:
    """Every row of the table that a module with such a config may have: of base models and of heads.

    Args:
        config: the config.
        bases: what the names of each base model's parameters start with.
        base_model_prefix: where a base model stands in a model with a head.
        heads: the tasks of these heads.
    """
    outside = {"": None}  # a head stands beside its base model
    if not set(PREFIX_TOKENS) <= set(config.architecture.prefix_tokens):  # of which a model with a teacher reads each
        heads = [task for task in heads if task != "image-classification-with-teacher"]
    for prefix in bases:
        for row in parameters(config, "model", add_pooling_layer=True, use_mask_token=True):
            yield row.under(prefix)
        if prefix.endswith(f".{base_model_prefix}."):
            outside[prefix.removesuffix(f"{base_model_prefix}.")] = None
    for prefix in outside:
        for task in heads:
            for row in parameters(config, task):
                if not row.is_of_base:
                    yield row.under(prefix)


def _all_options() -> list[PretrainedConfig]:
    """Configs that together have every parameter that a model may have, with one layer."""
    tokens = ("cls_token", "distillation_token")
    return [
        VisionTransformerConfig(
            num_hidden_layers=1,
            prefix_tokens=tokens,
            register_tokens=1,
            patch_norm=True,
            embedding_norm=True,
            query_key_norm=True,
            attention_norm=True,
            mlp_norm=True,
            gated_mlp=True,
            relative_positions="layers",
            layer_scale=0.1,
        ),
        VisionTransformerConfig(
            num_hidden_layers=1,
            prefix_tokens=tokens,
            relative_positions="shared",
            rotary_positions="mixed",
            pooler="attention",
        ),
        CLIPVisionConfig(num_hidden_layers=1),
        ViTMAEConfig(num_hidden_layers=1, decoder_num_hidden_layers=1),
    ]


@cache
def _templates(bases: tuple[str, ...], base_model_prefix: str, heads: tuple[Task, ...]) -> dict[Path, Parameter]:
    """A row for each path of a model with stacked layers, which stands for those of all layers."""
    templates: dict[Path, Parameter] = {}
    for config in _all_options():
        for row in candidates(config, bases, base_model_prefix, heads):
            templates.setdefault(FLAX_SCANNED.path(row), row)  # of two with one name, that of the base model
    return templates


def _rows(path: Path, shape: Shape, templates: Mapping[Path, Parameter]) -> list[Parameter]:
    """What lies at a path, with the shapes that it has; nothing if the table does not know it."""
    depth, number = depth_of_layers(path), None
    if depth is not None and path[depth].isdigit():
        number, path = path[depth], (*path[:depth], *path[depth + 1 :])
    template = templates.get(path)
    if template is None or (template.layer is None and number is not None):
        return []
    is_stacked = template.layer is not None and number is None
    sizes = shape[1:] if is_stacked else shape
    if len(sizes) != len(template.shape):
        return []
    axes = FLAX.leaves[template.kind].axes or tuple(range(len(sizes)))
    own_shape = tuple(sizes[axes.index(axis)] for axis in range(len(sizes)))
    own = replace(template, shape=own_shape)
    if number is None and not is_stacked:
        return [own]
    return [own.in_layer(layer) for layer in (range(shape[0]) if number is None else (int(number),))]


def _shape(rows: Sequence[Parameter], layout: Layout) -> Shape:
    shape = layout.shape(rows[0])
    return (len(rows), *shape) if layout.is_stacked(rows[0]) else shape


def _shape_of(leaf: Any) -> Shape:
    return tuple(leaf.shape) if hasattr(leaf, "shape") else np.shape(leaf)


def shapes_of(params: Any) -> dict[Path, Shape]:
    """The shape at each path of a nested dict."""
    return {path: _shape_of(leaf) for path, leaf in flatten(params).items()}


def flatten(params: Any) -> dict[Path, Any]:
    """The arrays of a nested dict by their paths.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"params are a {type(params).__name__}; pass a nested dict such as model.params.")
    return flatten_dict(unfreeze(params) if isinstance(params, FrozenDict) else dict(params))


def _stored(name: str, shape: Shape, leaf: Any, read: Callable[[], np.ndarray]) -> StoredTensor:
    dtype = jnp.dtype(leaf.dtype).name
    if dtype not in FLOAT_CODES:
        raise ValueError(f"{name} is of dtype {dtype}, which checkpoints do not hold; convert it to float32 first.")

    def bits() -> np.ndarray:
        return read().view(np.uint16) if dtype == "bfloat16" else read()

    return StoredTensor(FLOAT_CODES[dtype], shape, bits)


def depth_of_layers(path: Path) -> int | None:
    """Where in a path of a transformer layer its number stands, or would stand."""
    stacks = [tuple(stack.split(".")) for stack in STACKS.values()]
    starts = (depth for depth in range(2, len(path)) for stack in stacks if path[depth - len(stack) : depth] == stack)
    return next(starts, None)


def joined(path: Path) -> str:
    """A path for a message."""
    return "/".join(path)
