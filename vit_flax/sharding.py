"""Where parameters and activations lie on a mesh of devices.

The layers name the axes of their parameters and activations ("batch", "hidden", "heads", "mlp", ...); rules say which
of these axes are split over which axis of the mesh. The rules are `flax.linen`'s: pairs in order of precedence, where
each axis of the mesh is used once for an array.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import flax.linen as nn
import jax
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vit_core.checks import require_choice

LogicalRules = tuple[tuple[str, str | tuple[str, ...] | None], ...]

#: The images of a batch; the tokens of an image; a token's width; the width of all attention heads, or their number;
#: the hidden layer of the MLP; classes; the pooler's output; the pixels of a patch in masked image modeling;
#: visual tokens; a token's width in the decoder of a masked autoencoder; in a table of relative positions the ways
#: from one patch to another, and the number of heads; a head's width, in norms of queries and keys; and the width of a
#: projection.
LOGICAL_AXES = (
    *("batch", "tokens", "hidden", "heads", "mlp", "labels", "pooled", "pixels"),
    *("vocabulary", "decoder_hidden", "distances", "head", "head_dim", "projection"),
)

#: Each device has all parameters and a part of the images; gradients are summed over the devices.
DATA_PARALLEL: LogicalRules = (("batch", "data"),)
#: Besides, each device keeps a part of the parameters and gathers a layer's when it comes to it (ZeRO stage 3,
#: Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054; known as fully sharded data parallelism).
FSDP: LogicalRules = (
    *(("batch", "data"), ("hidden", "data"), ("heads", "data"), ("mlp", "data")),
    ("decoder_hidden", "data"),
)
#: Images are split over one axis of the mesh, attention heads and the MLP's hidden layer over the other (Megatron-LM,
#: Shoeybi et al. 2019, https://arxiv.org/abs/1909.08053, section 3).
TENSOR_PARALLEL: LogicalRules = (("batch", "data"), ("heads", "model"), ("mlp", "model"))


@dataclass(frozen=True)
class Partitioning:
    """A mesh of devices and how models are laid out on it.

    Attributes:
        mesh: the devices. Its axes are used in JAX's "Auto" mode, in which the compiler finds the collectives, so
            place inputs with `sharding` rather than by a mesh in "Explicit" mode, which `jax.make_mesh` makes.
        rules: (logical axis, axis or axes of the mesh) in order of precedence: `DATA_PARALLEL`, `FSDP`,
            `TENSOR_PARALLEL` or rules of your own. `LOGICAL_AXES` lists the logical axes.

    Raises:
        ValueError: there is no such logical axis, or no such axis of the mesh.
    """

    mesh: Mesh
    rules: LogicalRules = DATA_PARALLEL

    def __post_init__(self) -> None:
        for logical, axes in self.rules:
            require_choice("a rule's logical axis", logical, LOGICAL_AXES)
            for axis in _as_tuple(axes):
                if axis not in self.mesh.shape:
                    raise ValueError(
                        f"a rule puts {logical!r} on the mesh axis {axis!r}, but the mesh has the axes "
                        f"{tuple(self.mesh.axis_names)}; name them as the rules do."
                    )
        auto = (AxisType.Auto,) * len(self.mesh.axis_names)
        object.__setattr__(self, "mesh", Mesh(self.mesh.devices, self.mesh.axis_names, axis_types=auto))
        object.__setattr__(self, "rules", tuple(self.rules))

    def spec(self, *axes: str | None) -> PartitionSpec:
        """Which axes of the mesh an array with such logical axes is split over."""
        return cast(PartitionSpec, nn.logical_to_mesh_axes(axes, self.rules))

    def sharding(self, *axes: str | None) -> NamedSharding:
        """Where an array with such logical axes lies, such as `sharding("batch")` for images and labels.

        Axes that are not named, at the end, are not split; `sharding()` is on every device.
        """
        return NamedSharding(self.mesh, self.spec(*axes))

    def constrain(self, array: Array, *axes: str | None) -> Array:
        """Have the compiler lay an activation out by its logical axes.

        Raises:
            ValueError: the mesh does not divide its shape.
        """
        self.require_divisible("activations", array.shape, axes)
        return jax.lax.with_sharding_constraint(array, self.sharding(*axes))

    def placed(
        self, start: Callable[..., Array], axes: tuple[str | None, ...], layer: str | None
    ) -> Callable[..., nn.Partitioned[Array]]:
        """An initialiser whose parameters are boxed with the axes of the mesh that they are split over.

        Args:
            start: a function of a key, a shape and a dtype.
            axes: the logical axes of the parameter.
            layer: the name of its layer, for the message.

        Raises:
            ValueError: from the initialiser, if the mesh does not divide the shape.
        """

        def checked(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
            self.require_divisible(f"parameters of {layer}", shape, axes)
            return start(key, shape, dtype)

        return nn.with_partitioning(checked, tuple(self.spec(*axes)), self.mesh)

    def require_divisible(self, what: str, shape: tuple[int | None, ...], axes: tuple[str | None, ...]) -> None:
        """Check that arrays can be split evenly.

        Args:
            what: the arrays, for the message.
            shape: their shape; None for a size that is not known yet.
            axes: their logical axes.

        Raises:
            ValueError: they cannot.
        """
        for size, name, over in zip(shape, axes, self.spec(*axes), strict=True):
            parts = math.prod(self.mesh.shape[axis] for axis in _as_tuple(over))
            if size is not None and size % parts:
                raise ValueError(
                    f"{what} have {size} entries along {name!r}, which the rules split over the {parts} devices of "
                    f"{', '.join(_as_tuple(over))}; choose sizes, a mesh or rules that divide evenly."
                )

    def shardings(self, boxed: Any) -> Any:
        """Where the leaves of a tree of boxes lie, such as what a module's `init` returns, or its shapes."""
        return nn.get_sharding(boxed, self.mesh)


def _as_tuple(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (axes,) if isinstance(axes, str) else axes or ()
