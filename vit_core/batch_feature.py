"""BatchFeature: what an image processor returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

#: return_tensors -> module and function that make a tensor of an array, and what to install if it is missing.
FRAMEWORKS = {
    "np": ("numpy", "asarray", "numpy"),
    "pt": ("torch", "from_numpy", "torch"),
    "tf": ("tensorflow", "constant", "tensorflow"),
    "jax": ("jax.numpy", "asarray", "jax"),
}


class BatchFeature(dict[str, Any]):
    """A batch that is ready for a model: a dict whose items are attributes too.

    Args:
        data: the items, such as {"pixel_values": array or list of arrays of one shape}.
        tensor_type: what to make of them: "np", "pt", "tf", "jax", or None to leave them as they are.

    Raises:
        ImportError: the framework is not installed.
        ValueError: the tensor type is unknown, or arrays of different shapes should become one tensor.
    """

    def __init__(self, data: dict[str, Any] | None = None, tensor_type: str | None = None) -> None:
        super().__init__(data or {})
        self.convert_to_tensors(tensor_type)

    @property
    def data(self) -> dict[str, Any]:
        """The items as a dict, which is this object itself."""
        return self

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this batch has no {name}; it has {', '.join(self) or 'nothing'}.") from None

    def convert_to_tensors(self, tensor_type: str | None = None) -> BatchFeature:
        """Make each item a tensor, in place.

        Args:
            tensor_type: "np", "pt", "tf", "jax", or None to leave everything as it is.

        Returns:
            This batch.

        Raises:
            ImportError: the framework is not installed.
            ValueError: the tensor type is unknown, or arrays of different shapes should become one tensor.
        """
        if tensor_type is None:
            return self
        to_tensor = _tensor_maker(tensor_type)
        for key, value in self.items():
            if isinstance(value, list | tuple | np.ndarray):
                self[key] = to_tensor(_one_array(key, value))
        return self

    def to(self, *args: Any, **kwargs: Any) -> BatchFeature:
        """Move PyTorch tensors to a device and cast those of floats to a dtype, in place.

        Args:
            *args: as those of `torch.Tensor.to`: a device, a dtype, or both.
            **kwargs: likewise.

        Returns:
            This batch.

        Raises:
            TypeError: an item is no PyTorch tensor.
        """
        device = kwargs.get("device", args[0] if args and not hasattr(args[0], "is_floating_point") else None)
        for key, value in self.items():
            if not hasattr(value, "is_floating_point"):
                raise TypeError(
                    f"{key} is a {type(value).__name__}, and only PyTorch tensors can be moved or cast; "
                    'ask the image processor for return_tensors="pt".'
                )
            if value.is_floating_point():
                self[key] = value.to(*args, **kwargs)
            elif device is not None:
                self[key] = value.to(device)
        return self


def check_tensor_type(tensor_type: str | None) -> None:
    """Refuse a tensor type that does not exist.

    Args:
        tensor_type: a key of `FRAMEWORKS` or None.

    Raises:
        ValueError: it is neither.
    """
    if tensor_type is not None and tensor_type not in FRAMEWORKS:
        raise ValueError(f'return_tensors is {tensor_type!r}; it must be "np", "pt", "tf", "jax" or None.')


def _tensor_maker(tensor_type: str) -> Callable[[np.ndarray], Any]:
    check_tensor_type(tensor_type)
    module, function, package = FRAMEWORKS[tensor_type]
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


def _one_array(key: str, value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    check_one_shape(key, [np.shape(item) for item in value])
    return np.stack(value)
