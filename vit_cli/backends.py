"""The frameworks that can run a model, each used through its package's public interface only."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Backend:
    """One framework.

    Attributes:
        package: the package with its models.
        frameworks: what that package needs to have installed.
        forward: (model, pixel values, whether to return attentions) -> output, without gradients.
        is_chatty: whether the framework writes to standard error when it is imported.
    """

    package: str
    frameworks: tuple[str, ...]
    forward: Callable[[Any, np.ndarray, bool], Any]
    is_chatty: bool = False

    @property
    def missing(self) -> str | None:
        """The first of the frameworks that cannot be imported, if any; none is imported to find out."""
        return next((name for name in self.frameworks if importlib.util.find_spec(name) is None), None)

    def load_package(self) -> ModuleType:
        """Import the package with the models."""
        with _silence() if self.is_chatty else contextlib.nullcontext():
            return importlib.import_module(self.package)


def _forward_in_torch(model: Any, pixel_values: np.ndarray, output_attentions: bool) -> Any:
    import torch

    with torch.inference_mode():
        return model(pixel_values=torch.from_numpy(pixel_values), output_attentions=output_attentions, return_dict=True)


def _forward_in_tf(model: Any, pixel_values: np.ndarray, output_attentions: bool) -> Any:
    return model(pixel_values=pixel_values, output_attentions=output_attentions, return_dict=True)


def _forward_in_flax(model: Any, pixel_values: np.ndarray, output_attentions: bool) -> Any:
    return _compiled_by_jax(model)(model.params, pixel_values, output_attentions)


@functools.lru_cache(maxsize=1)
def _compiled_by_jax(model: Any) -> Callable[[Any, np.ndarray, bool], Any]:
    """The model as one function, which is compiled once for each size of a batch."""
    import jax

    def run(params: Any, pixel_values: Any, output_attentions: bool) -> Any:
        return model(pixel_values, params=params, output_attentions=output_attentions, return_dict=True)

    return jax.jit(run, static_argnums=2)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Discard what is written to standard error: TensorFlow greets from C++ before its log level counts."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


#: By the name of the extra that installs it; the first one that is installed is the default.
BACKENDS: dict[str, Backend] = {
    "torch": Backend("vit_torch", ("torch",), _forward_in_torch),
    "tf": Backend("vit_tf", ("tensorflow",), _forward_in_tf, is_chatty=True),
    "flax": Backend("vit_flax", ("jax", "flax"), _forward_in_flax),
}


def choose_backend(name: str | None) -> Backend:
    """The backend of that name, or the first one whose framework is installed.

    Raises:
        ImportError: it is not installed, or none is; the message says what to install.
    """
    names = BACKENDS if name is None else [name]
    for candidate in names:
        if BACKENDS[candidate].missing is None:
            return BACKENDS[candidate]
    extras = " or ".join(f'pip install "trivit[{candidate}]"' for candidate in names)
    missing = "no framework is installed" if name is None else f"{BACKENDS[name].missing} is not installed"
    raise ImportError(f"{missing}; run: {extras}")
