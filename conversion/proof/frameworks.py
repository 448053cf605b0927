"""The frameworks that can run a model, each used through its package's public interface only.

Nothing here imports a framework before it is asked to: the table is cheap to read. `run_forward` and `logits_of` run a
model in a process of its own (`conversion.proof.framework_process`), so that no two frameworks meet in one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Arrays = Mapping[str, "np.ndarray"]


@dataclass(frozen=True)
class Framework:
    """One framework.

    Attributes:
        package: the package with its models.
        needed: what that package needs to have installed.
        forward: (model, inputs by name, whether to return attentions, whether to return hidden states) -> output,
            without gradients.
        gradients: (model, inputs by name, weights by name) -> the gradient of the loss for every parameter, by
            canonical name and with canonical axes, in the order of the table of parameters. The loss is the model's
            own; with weights it is the sum of the means of the named results, each times its weights.
        to_numpy: a tensor as a float32 array.
        is_chatty: whether the framework writes to standard error when it is imported.
        environment: variables for a process of its own in which it is to compute on the CPU.
    """

    package: str
    needed: tuple[str, ...]
    forward: Callable[[Any, Arrays, bool, bool], Any]
    gradients: Callable[[Any, Arrays, Arrays], dict[str, np.ndarray]]
    to_numpy: Callable[[Any], np.ndarray]
    is_chatty: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> str | None:
        """The first of the needed modules that cannot be imported, if any; none is imported to find out."""
        return next((name for name in self.needed if importlib.util.find_spec(name) is None), None)

    def load_package(self) -> ModuleType:
        """Import the package with the models."""
        with _silence() if self.is_chatty else contextlib.nullcontext():
            return importlib.import_module(self.package)


def choose_framework(name: str | None = None) -> Framework:
    """The framework of that name, or the first one that is installed.

    Raises:
        ImportError: it is not installed, or none is; the message says what to install.
    """
    names = list(FRAMEWORKS) if name is None else [name]
    return FRAMEWORKS[installed_frameworks(names)[0]]


def installed_frameworks(names: Iterable[str]) -> list[str]:
    """Those of the named frameworks that are installed, each once and in their order.

    Raises:
        ImportError: none is; the message says what to install.
        ValueError: there is no such framework.
    """
    names = list(dict.fromkeys(names))
    if unknown := [name for name in names if name not in FRAMEWORKS]:
        raise ValueError(f"there is no framework {unknown[0]!r}; choose from {', '.join(FRAMEWORKS)}.")
    if not names:
        raise ValueError(f"no framework is named; choose from {', '.join(FRAMEWORKS)}.")
    installed = [name for name in names if FRAMEWORKS[name].missing is None]
    if not installed:
        extras = " or ".join(f'pip install "trivit[{name}]"' for name in names)
        missing = f"{FRAMEWORKS[names[0]].missing} is not installed" if len(names) == 1 else "no framework is installed"
        raise ImportError(f"{missing}; run: {extras}")
    return installed


def run_forward(
    framework: str,
    source: str | os.PathLike[str],
    pixel_values: np.ndarray,
    more: Arrays | None = None,
    **overrides: Any,
) -> Any:
    """Run a checkpoint on images, in a process of its own and on the CPU.

    Args:
        framework: "torch", "tf" or "flax".
        source: what the framework's `from_pretrained` takes.
        pixel_values: images, (batch, channels, height, width), float32.
        more: what else the model is given, such as the "noise" of a masked autoencoder.
        **overrides: options of `from_pretrained`, such as fields of the config or `revision`; plain JSON values.

    Returns:
        dict[str, np.ndarray], float32, what the model returns: "logits" of a classifier, (batch, labels);
        "reconstruction" of masked image modeling, (batch, channels, height, width); of a bare model
        "last_hidden_state", (batch, tokens, hidden), and "pooler_output", (batch, pooler size), if the checkpoint has a
        pooler.

    Raises:
        ImportError: the framework is not installed.
        OSError: there is no such checkpoint, or the process was ended.
        TypeError: an override is no option, or has no JSON form.
        ValueError: the checkpoint is corrupt or incomplete, or the images do not fit.
    """
    from conversion.proof.framework_process import forward_in_process  # which needs this module

    return forward_in_process(framework, source, pixel_values, overrides, more)


def logits_of(framework: str, source: str | os.PathLike[str], pixel_values: np.ndarray, **overrides: Any) -> np.ndarray:
    """The logits of a classifier, (batch, labels), as `run_forward` computes them.

    Raises:
        ValueError: the checkpoint is no classifier; otherwise as `run_forward`.
    """
    results = run_forward(framework, source, pixel_values, **overrides)
    if "logits" not in results:
        raise ValueError(f"{os.fspath(source)} is no classifier: it returns {', '.join(results)} and no logits.")
    return results["logits"]


def _forward_in_torch(model: Any, inputs: Arrays, output_attentions: bool, output_hidden_states: bool) -> Any:
    torch = importlib.import_module("torch")
    with torch.inference_mode():
        return model(
            **_torch_tensors(inputs),
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )


def _forward_in_tf(model: Any, inputs: Arrays, output_attentions: bool, output_hidden_states: bool) -> Any:
    return model(
        **inputs, output_attentions=output_attentions, output_hidden_states=output_hidden_states, return_dict=True
    )


def _forward_in_flax(model: Any, inputs: Arrays, output_attentions: bool, output_hidden_states: bool) -> Any:
    return _compiled_by_jax(model)(model.params, inputs, output_attentions, output_hidden_states)


@functools.lru_cache(maxsize=1)
def _compiled_by_jax(model: Any) -> Callable[[Any, Arrays, bool, bool], Any]:
    """The model as one function, which is compiled once for each size of a batch and each set of results."""

    def run(params: Any, inputs: Arrays, output_attentions: bool, output_hidden_states: bool) -> Any:
        return model(
            **inputs,
            params=params,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )

    return importlib.import_module("jax").jit(run, static_argnums=(2, 3))


def _gradients_in_torch(model: Any, inputs: Arrays, weights: Arrays) -> dict[str, np.ndarray]:
    torch = importlib.import_module("torch")
    model.zero_grad()
    output = model(**_torch_tensors(inputs), return_dict=True)
    _loss(output, _torch_tensors(weights), torch.mean).backward()
    found = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in model.named_parameters()
    }
    return {row.name: _from_torch(found[row.name]) for row in model.parameter_table()}


def _gradients_in_tf(model: Any, inputs: Arrays, weights: Arrays) -> dict[str, np.ndarray]:
    from vit_core.layouts import KERAS

    tensorflow = importlib.import_module("tensorflow")
    table = model.parameter_table()
    with tensorflow.GradientTape() as tape:
        loss = _loss(model(**inputs, return_dict=True), weights, tensorflow.reduce_mean)
    variables = [model.get_parameter(row).value for row in table]
    found = tape.gradient(loss, variables, unconnected_gradients="zero")
    whole = map(tensorflow.convert_to_tensor, found)  # of a table whose rows are looked up, it has these alone
    return {row.name: KERAS.to_canonical(row, _as_array(each)) for row, each in zip(table, whole, strict=True)}


def _gradients_in_flax(model: Any, inputs: Arrays, weights: Arrays) -> dict[str, np.ndarray]:
    jax, numpy = importlib.import_module("jax"), importlib.import_module("jax.numpy")

    def loss(params: Any) -> Any:
        return _loss(model(**inputs, params=params, return_dict=True), weights, numpy.mean)

    tree, layout = jax.jit(jax.grad(loss))(model.params), model.layout
    found: dict[str, np.ndarray] = {}
    for path, rows in layout.places(model.parameter_table()).items():
        leaf = _as_array(functools.reduce(lambda branch, part: branch[part], path, tree))
        found |= {row.name: leaf[row.layer] if layout.is_stacked(row) else leaf for row in rows}
    return {row.name: layout.to_canonical(row, found[row.name]) for row in model.parameter_table()}


def _loss(output: Any, weights: Mapping[str, Any], mean: Callable[[Any], Any]) -> Any:
    """The model's own loss, or one that is made of the named results."""
    return sum(mean(output[name] * weight) for name, weight in weights.items()) if weights else output.loss


def _torch_tensors(arrays: Arrays) -> dict[str, Any]:
    torch = importlib.import_module("torch")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _from_torch(tensor: Any) -> np.ndarray:
    return tensor.detach().float().numpy()


def _as_array(tensor: Any) -> np.ndarray:
    import numpy as np

    return np.asarray(tensor).astype(np.float32)


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
FRAMEWORKS: dict[str, Framework] = {
    "torch": Framework("vit_torch", ("torch",), _forward_in_torch, _gradients_in_torch, _from_torch),
    "tf": Framework(
        "vit_tf",
        ("tensorflow",),
        _forward_in_tf,
        _gradients_in_tf,
        _as_array,
        is_chatty=True,
        environment={"CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"},
    ),
    "flax": Framework(
        "vit_flax",
        ("jax", "flax"),
        _forward_in_flax,
        _gradients_in_flax,
        _as_array,
        environment={"JAX_PLATFORMS": "cpu"},
    ),
}
