"""What scripts for transformers 4 do with a Flax model and nothing else here needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from conversion.containers.weights_file import read_weights
from vit_core import PretrainedConfig
from vit_flax.parameter_tree import as_array
from vit_flax.tree_changes import cast


class ScriptMethods:
    """The methods of transformers' Flax models that Trivit itself has no use for."""

    framework = "flax"
    generation_config: ClassVar[None] = None
    #: Regular expressions of names that may be left over in a checkpoint without a warning.
    _keys_to_ignore_on_load_unexpected: ClassVar[Sequence[str] | None] = None
    _auto_class: ClassVar[None] = None
    #: Where a `device_map` put the model: {"": device}.
    hf_device_map: dict[str, Any]
    #: Paths that a checkpoint lacked when it was loaded with `_do_init=False`, for `init_weights` to make.
    _missing_keys: set[tuple[str, ...]] = frozenset()  # type: ignore[assignment]

    # Of FlaxViTPreTrainedModel
    config: PretrainedConfig
    module: Any
    _params: Any

    @classmethod
    def _from_config(cls, config: PretrainedConfig, **kwargs: Any) -> Self:
        """The model with a random start, as `FlaxAutoModel.from_config` makes it."""
        return cls(config, **kwargs)  # type: ignore[call-arg]

    @property
    def num_labels(self) -> int:
        """The config's number of classes."""
        return self.config.num_labels

    @property
    def name_or_path(self) -> str:
        """Where the model was loaded from."""
        return self.config.name_or_path

    @property
    def _is_initialized(self) -> bool:
        return self._params is not None

    @property
    def _module(self) -> Any:
        return self.module

    @property
    def _config(self) -> PretrainedConfig:
        return self.config

    @classmethod
    def can_generate(cls) -> bool:
        """Whether the model writes text: no."""
        return False

    def generate(self, *args: Any, **kwargs: Any) -> None:
        """Refuse.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{type(self).__name__} looks at images and generates nothing; call it for its outputs.")

    @classmethod
    def load_flax_weights(cls, resolved_archive_file: str | PathLike[str]) -> dict[str, Any]:
        """The arrays of a file of weights, nested as the file names them.

        Raises:
            OSError: it cannot be opened.
            ValueError: it is corrupt or of an unknown kind.
        """
        return cls.load_flax_sharded_weights([resolved_archive_file])

    @classmethod
    def load_flax_sharded_weights(cls, shard_files: Iterable[str | PathLike[str]]) -> dict[str, Any]:
        """The arrays of several files of weights, as one nested dict; see `load_flax_weights`."""
        tensors = {name: tensor for file in shard_files for name, tensor in read_weights(Path(file)).items()}
        arrays = {tuple(name.replace("/", ".").split(".")): jnp.array(as_array(each)) for name, each in tensors.items()}
        return unflatten_dict(arrays)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "FlaxAutoModel") -> None:
        """Do nothing: a checkpoint holds no code. `FlaxAutoModel.register` makes a class known to this process."""

    def _cast_floating_to(self, params: Mapping[str, Any], dtype: Any, mask: Any = None) -> dict[str, Any]:
        return cast(params, dtype, mask)
