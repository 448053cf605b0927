"""Products with weights that are laid out once, as the processor's matrix product reads them, instead of at each call.

Products go through oneDNN, whose layout is for any number of rows, but those of float32 on Intel's processors through
MKL, whose layout is for one number; on AMD's, MKL is slower. A layout is made of weights as they are: it is made anew
when they change, and where there is none for a call, nothing is different from a plain product.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vit_torch.watching import is_traced


class Layout(NamedTuple):
    """Weights that are laid out for a product.

    Attributes:
        call: what the product was when they were laid out; see `PackedWeights.product`.
        weights: they.
        shape: a tensor of their shape, which is all that the product reads of it.
        bias: what is added, if anything.
    """

    call: tuple[Any, ...]
    weights: Tensor
    shape: Tensor
    bias: Tensor | None


class PackedWeights:
    """The weights of linear layers that read the same, side by side, and laid out for their product.

    A layout is made when weights, and with MKL the number of rows too, are those of the call before: one batch of
    another size, as the last of a data set, costs no layout. Threads may share a model: each uses a layout whole.
    """

    def __init__(self) -> None:
        self.last_call: tuple[Any, ...] | None = None
        self.layout: Any = None

    def __reduce__(self) -> Any:
        return type(self), ()  # copies and pickles make layouts of their own

    def product(self, linears: Sequence[nn.Module], x: Tensor) -> Tensor | None:
        """What the layers make of x, side by side in the last axis; None if the layers are to be called instead.

        Args:
            linears: linear layers.
            x: what they read, (..., channels).
        """
        if is_traced() or not can_pack(linears, x, packed_dtypes()):
            return None
        rows = x.numel() // x.shape[-1] if uses_mkl(x.dtype) else None
        versions = (version(tensor) for linear in linears for tensor in (linear.weight, linear.bias))
        call = (x.dtype, rows, *versions)
        comes_again, self.last_call = call == self.last_call, call
        layout = self.layout
        if layout is None or layout.call != call:
            if not comes_again:
                return None
            self.layout = None  # before memory is taken
            self.layout = layout = laid_out(linears, rows, call)
        if rows is None:
            return torch.ops.mkldnn._linear_pointwise(x, layout.weights, layout.bias, "none", [], "")
        return torch.ops.mkl._mkl_linear(x, layout.weights, layout.shape, layout.bias, rows)


@torch.no_grad()
def laid_out(linears: Sequence[Any], rows: int | None, call: tuple[Any, ...]) -> Layout:
    """The weights of linear layers, side by side, for MKL's product of so many rows, or else for oneDNN's of any."""
    weight, bias = beside(linears)
    if rows is None:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    else:
        packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, rows)
    return Layout(call, packed, weight.new_zeros(1, 1).expand(weight.shape), bias)


def beside(linears: Sequence[Any]) -> tuple[Tensor, Tensor | None]:
    """The weights of linear layers side by side, (channels made, channels read), and their biases, if there are any."""
    weight, bias = torch.cat([linear.weight for linear in linears]), None
    if any(linear.bias is not None for linear in linears):
        zeros = weight.new_zeros
        bias = torch.cat([zeros(len(linear.weight)) if linear.bias is None else linear.bias for linear in linears])
    return weight, bias


class PackedLinear(nn.Linear):
    """A linear layer whose weights are laid out for its product; see `PackedWeights`."""

    packed_weights: PackedWeights

    @classmethod
    def take_over(cls, linear: Any, packed_weights: PackedWeights) -> None:
        """Make a linear layer one of these, parameters, hooks and all."""
        linear.__class__ = cls
        linear.packed_weights = packed_weights

    def give_back(self) -> None:
        """Be a plain linear layer again."""
        del self.packed_weights
        self.__class__ = nn.Linear  # type: ignore[assignment]

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        product = self.packed_weights.product([self], input)
        return super().forward(input) if product is None else product


def can_pack(linears: Sequence[nn.Module], x: Tensor, dtypes: Collection[torch.dtype]) -> bool:
    """Whether a product is one of weights that can be laid out, and no gradient or transform needs more of it.

    Args:
        linears: the layers whose weights they are.
        x: what they read.
        dtypes: of which there are layouts.
    """
    if type(x) is not Tensor or x.device.type != "cpu" or x.dtype not in dtypes or not x.numel():
        return False
    if torch.is_autocast_enabled("cpu"):
        return False
    needs_gradient = torch.is_grad_enabled()
    for linear in linears:
        weight: Any = linear.weight
        if type(weight) is not nn.Parameter or weight.dtype != x.dtype or weight.is_inference():
            return False
        if needs_gradient and (weight.requires_grad or x.requires_grad):
            return False
    return True


def packed_dtypes() -> set[torch.dtype]:
    """The dtypes for which this processor has layouts."""
    is_exact = torch.get_float32_matmul_precision() == "highest"  # others let products be of bfloat16
    return _dtypes() if is_exact else _dtypes() - {torch.float32}


@lru_cache(maxsize=1)
def _dtypes() -> set[torch.dtype]:
    has_onednn, onednn = torch.backends.mkldnn.is_available(), torch.ops.mkldnn
    is_supported = {
        torch.float32: torch.backends.mkl.is_available,  # on x86; what oneDNN gains elsewhere was not tried
        torch.bfloat16: lambda: has_onednn and onednn._is_mkldnn_bf16_supported(),
        torch.float16: lambda: has_onednn and onednn._is_mkldnn_fp16_supported(),
    }
    return {dtype for dtype, supports in is_supported.items() if supports()}


def uses_mkl(dtype: torch.dtype) -> bool:
    """Whether products of a dtype go through MKL."""
    return dtype == torch.float32 and not (is_amd() and torch.backends.mkldnn.is_available())


@lru_cache(maxsize=1)
def is_amd() -> bool:
    """Whether the processor is AMD's, by what the system says of it."""
    processors = Path("/proc/cpuinfo")
    return "AuthenticAMD" in (processors.read_text() if processors.exists() else platform.processor())


def version(tensor: Any) -> tuple[int, int] | None:
    """What changes when a tensor's values do, unless they are written through its `data`."""
    return None if tensor is None else (tensor.data_ptr(), tensor._version)
