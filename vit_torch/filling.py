"""Models built around the weights of a checkpoint, so that no memory is taken for others first.

While a model is built to be filled, the models' own constructors make their parts on the `meta` device, where they have
shapes and no values. What anybody else makes in a constructor (a subclass's modules, parameters and buffers) is made as
always, values and all, so that a subclass needs to know nothing of this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vit_core.loading_plan import LoadingPlan
from vit_torch.tensors import to_torch

#: Where a parameter or buffer stands: (its name, the dict that holds it, its name there, the tensor).
Place = tuple[str, dict[str, Any], str, Tensor]

_is_filling: ContextVar[bool] = ContextVar("_is_filling", default=False)


#: What gives torch's linear layers and convolutions their random start.
_STARTS = (nn.init.kaiming_uniform_, nn.init.uniform_)


class _OnMeta(TorchFunctionMode):
    """Where parameters are made on `meta`, and have no random start, of which nothing would remain there.

    `torch.device("meta")` does the first, and then a fifth of the time of loading would go to random starts.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        elif function in _STARTS and kwargs["tensor"].is_meta:
            return kwargs["tensor"]
        return function(*args, **kwargs)


def own_parts() -> contextlib.AbstractContextManager[object]:
    """Where the constructor of a model makes its parts: on `meta` if they are about to be filled."""
    return _OnMeta() if _is_filling.get() else contextlib.nullcontext()


def build_to_fill(build: Callable[[], Any], dtype: torch.dtype) -> Any:
    """Build a model whose own parts have no values yet.

    Args:
        build: calls the model's constructor.
        dtype: of what a subclass makes.

    Returns:
        The model; with values everywhere if its constructor asks for values that parts would only get later.
    """
    token = _is_filling.set(True)
    try:
        with default_dtype(dtype):
            return build()
    except RuntimeError:  # `meta` tensors have no values; if the reason is another one, it is raised again
        _is_filling.set(False)
        return build_for_real(build, dtype)
    finally:
        _is_filling.reset(token)


def build_for_real(build: Callable[[], Any], dtype: torch.dtype) -> Any:
    """Build a model with values everywhere."""
    with default_dtype(dtype):
        return build()


def can_be_filled(model: nn.Module, plan: LoadingPlan) -> bool:
    """Whether the plan has something for everything on `meta`; what a subclass copied from parts is in no plan."""
    planned = {*plan.tensors, *(row.name for row in plan.missing)}
    places = list(_places(model))
    known = {id(tensor) for name, _, _, tensor in places if name in planned}
    return all(id(tensor) in known for _, _, _, tensor in places if tensor.is_meta)


def fill(
    model: Any, plan: LoadingPlan, device: torch.device, dtype: torch.dtype, exact_parts: Collection[str] = ()
) -> None:
    """Give a model the weights that are planned for it.

    Args:
        model: the model. Parts on `meta` become the weights, without a copy where the dtype is the same, and what has
            values is overwritten.
        plan: which weights; missing ones on `meta` get their random start.
        device: where the parts on `meta` go.
        dtype: what they become.
        exact_parts: names of parts that are float32 whatever `dtype` is.
    """

    def dtype_of(name: str) -> torch.dtype:
        return torch.float32 if set(exact_parts) & set(name.split(".")) else dtype

    places = [place for place in _places(model) if place[-1].is_meta]
    on_meta = {name for name, *_ in places}
    missing = [row for row in plan.missing if row.name in on_meta]
    _put(places, {row.name: torch.empty(row.shape, dtype=dtype_of(row.name), device=device) for row in missing})
    model.start_missing(missing, plan.missing_extras)
    weights = {name: to_torch(tensor) for name, tensor in plan.tensors.items()}
    _put(places, {name: tensor.to(device, dtype_of(name)) for name, tensor in weights.items() if name in on_meta})
    for part in exact_parts:
        for path, module in model.named_modules():
            if path.rpartition(".")[2] == part:
                module.float()
    if made := weights.keys() - on_meta:  # by a subclass, values and all
        model.load_state_dict({name: weights[name] for name in made}, strict=False)


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Have new tensors be of a dtype, for the length of the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _put(places: Iterable[Place], tensors: Mapping[str, Tensor]) -> None:
    """Put tensors in the places of those on `meta`; what is shared stays so."""
    new: dict[int, Tensor] = {}
    for name, _, _, old in places:
        if name in tensors:
            is_parameter = isinstance(old, nn.Parameter)
            new[id(old)] = nn.Parameter(tensors[name], old.requires_grad) if is_parameter else tensors[name]
    for _, slots, attribute, old in places:
        if id(old) in new:
            slots[attribute] = new[id(old)]


def _places(model: nn.Module) -> Iterator[Place]:
    """The parameters and buffers of a model, wherever they stand."""
    for path, module in model.named_modules(remove_duplicate=False):
        for slots in (module._parameters, module._buffers):
            for attribute, tensor in slots.items():
                if tensor is not None:
                    yield f"{path}.{attribute}" if path else attribute, slots, attribute, tensor
