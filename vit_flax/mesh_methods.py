"""What a model on a mesh says of where its arrays lie."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict
from jax.sharding import NamedSharding

from vit_flax.parameter_tree import ParameterTree, Path, flatten
from vit_flax.sharding import Partitioning


class MeshMethods:
    """The methods of a model that its `partitioning` answers."""

    # Of the model
    module: Any
    tree: ParameterTree
    _traced: Any

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
    def _shardings(self) -> dict[Path, NamedSharding]:
        if self.partitioning is None:
            raise ValueError("the model is on no mesh; build it with partitioning=Partitioning(mesh, rules).")
        return flatten(self.partitioning.shardings(self._traced))

    def _sharding(self, path: Path) -> NamedSharding | None:
        return None if self.partitioning is None else self._shardings[path]
