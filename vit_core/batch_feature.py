"""BatchFeature: what an image processor returns."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Self

import numpy as np

from vit_core.images import is_array

#: return_tensors -> module and function that make a tensor of an array or of a list of numbers, and what to install if
#: it is missing.
TENSOR_TYPES = {
    "np": ("numpy", "asarray", "numpy"),
    "pt": ("torch", "as_tensor", "torch"),
    "tf": ("tensorflow", "constant", "tensorflow"),
    "jax": ("jax.numpy", "asarray", "jax"),
}
#: Packages whose classes are the tensors of a framework.
TENSOR_PACKAGES = {"np": ("numpy",), "pt": ("torch",), "tf": ("tensorflow",), "jax": ("jax", "jaxlib")}


class BatchFeature(dict[str, Any]):
    """A batch that is ready for a model: a dict whose items are attributes too.

    Assigning to the attribute of an item replaces the item; other names become plain attributes.

    Args:
        data: the items, such as {"pixel_values": array or list of arrays of one shape}.
        tensor_type: what to make of them: "np", "pt", "tf", "jax", or None to leave them as they are.

    Raises:
        ImportError: the framework is not installed.
        ValueError: the tensor type is unknown, or an item cannot become one tensor.
    """

    def __init__(
        self, data: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None, tensor_type: str | None = None
    ) -> None:
        super().__init__(data or {})
        self.convert_to_tensors(tensor_type)

    @property
    def data(self) -> dict[str, Any]:
        """The items as a dict, which is this object itself; assigning a dict replaces them."""
        return self

    @data.setter
    def data(self, items: Mapping[str, Any]) -> None:
        items = dict(items)
        self.clear()
        self.update(items)

    def __getitem__(self, name: str) -> Any:
        if not isinstance(name, str):
            raise KeyError(f"{name!r} is no name of an item; this batch has {', '.join(self) or 'nothing'}.")
        return super().__getitem__(name)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this batch has no {name}; it has {', '.join(self) or 'nothing'}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self:
            self[name] = value
        else:
            super().__setattr__(name, value)

    def __or__(self, other: Mapping[str, Any]) -> Self:  # type: ignore[override]
        return type(self)({**self, **other}) if isinstance(other, Mapping) else NotImplemented

    def copy(self) -> Self:
        """A batch of the same items."""
        return type(self)(self)

    def convert_to_tensors(self, tensor_type: str | None = None) -> Self:
        """Make each item of numbers a tensor, in place.

        Args:
            tensor_type: "np", "pt", "tf", "jax", or None to leave everything as it is.

        Returns:
            This batch.

        Raises:
            ImportError: the framework is not installed.
            ValueError: the tensor type is unknown, or an item cannot become one tensor.
        """
        if tensor_type is None:
            return self
        tensor_type = check_tensor_type(tensor_type)
        to_tensor = _tensor_maker(tensor_type)
        for key, value in self.items():
            if _has_numbers(value) and not _is_tensor(value, tensor_type):
                self[key] = _converted(key, value, to_tensor)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move PyTorch tensors to a device and cast those of floats to a dtype, in place.

        Args:
            *args: as those of `torch.Tensor.to`: a device, a dtype, or both.
            **kwargs: likewise.

        Returns:
            This batch; items that are no PyTorch tensors are as they were.

        Raises:
            ValueError: the first argument is neither a device nor a dtype.
        """
        device = kwargs.get("device")
        if device is None and args and type(args[0]).__name__ != "dtype":
            device = args[0]
            if not isinstance(device, str | int) and type(device).__name__ != "device":
                raise ValueError(f"a batch cannot be moved to {device!r}; give a device or a dtype.")
        moving = {"device": device, "non_blocking": kwargs.get("non_blocking", False)}
        for key, value in self.items():
            if not _is_tensor(value, "pt"):
                continue
            if value.is_floating_point():
                self[key] = value.to(*args, **kwargs)
            elif device is not None:
                self[key] = value.to(**moving)
        return self


def check_tensor_type(tensor_type: str | None) -> str:
    """The name of a tensor type; "" for None.

    Args:
        tensor_type: a key of `TENSOR_TYPES`, transformers' enum of them, or None.

    Raises:
        ValueError: it is neither.
    """
    name = "" if tensor_type is None else getattr(tensor_type, "value", tensor_type)
    if name != "" and name not in TENSOR_TYPES:
        raise ValueError(f'return_tensors is {tensor_type!r}; it must be "np", "pt", "tf", "jax" or None.')
    return name


def _tensor_maker(tensor_type: str) -> Callable[[Any], Any]:
    module, function, package = TENSOR_TYPES[tensor_type]
    try:
        return getattr(import_module(module), function)
    except ImportError as error:
        raise ImportError(
            f'return_tensors="{tensor_type}" needs {package}, which is not installed: pip install {package}'
        ) from error


def check_one_shape(key: str, shapes: Sequence[tuple[int, ...]]) -> None:
    """Refuse to make one tensor of images of different shapes.

    Args:
        key: the item's name.
        shapes: shape of each image.

    Raises:
        ValueError: two shapes differ.
    """
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"{key} cannot be one tensor: images[0] comes out with shape {tuple(shapes[0])} and images[{index}] "
                f"with {tuple(shape)}. Resize or crop them to one size, or pass return_tensors=None."
            )


def _has_numbers(value: Any) -> bool:
    return is_array(value) or isinstance(value, list | tuple | numbers.Number)


def _is_tensor(value: Any, tensor_type: str) -> bool:
    """Whether this is a tensor of a framework, which is not imported."""
    packages = {base.__module__.partition(".")[0] for base in type(value).__mro__}
    return is_array(value) and not packages.isdisjoint(TENSOR_PACKAGES[tensor_type])


def _converted(key: str, value: Any, to_tensor: Callable[[Any], Any]) -> Any:
    """A tensor of an array, of a list of arrays, or of a number or a list of them, whose dtype is the framework's."""
    if isinstance(value, list | tuple) and value and is_array(value[0]):
        check_one_shape(key, [tuple(np.shape(item)) for item in value])
    try:
        if is_array(value):
            value = _array(value)
        elif isinstance(value, list | tuple) and value and is_array(value[0]):
            value = np.stack([_array(item) for item in value])
        return to_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{key} cannot become one tensor ({error}); pass return_tensors=None to keep it.") from error


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
