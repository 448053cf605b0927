"""Products in int8, of weights that are rounded once and of activations that are rounded row by row.

Each output channel's weights have a scale, and so has each row of what is read, which is a token: an image's answer
does not depend on its batch. Where a layer reads more channels than it makes, as after an activation whose values are
mostly above zero, rows are rounded between their least and their greatest value; elsewhere as far below zero as above,
which spares the wider outputs a step. Sums are int32, by oneDNN, and exact: where a processor adds pairs of products in
16 bits, as those without VNNI do, weights have 7 bits, so that no pair is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vit_torch.packing import PackedWeights, beside, can_pack, version
from vit_torch.watching import is_traced

ZERO = 128  # the byte that stands for zero
#: The greatest weights whose products may be exact: of 8 bits, and those of which a pair of products fits in 16.
GREATEST_WEIGHTS = (127, 64)
TOGETHER = 2**20  # numbers for each thread that are rounded, and multiplied while they are in the cache
LEAST = torch.finfo(torch.float32).tiny  # a scale, of rows and channels that are zero


class Int8Layout(NamedTuple):
    """Weights that are rounded and laid out for a product.

    Attributes:
        call: the weights that they were made of; see `PackedWeights.product`.
        weights: they.
        scales: of the channels that the product makes.
        zeros: as many zeros.
        sums: of each channel's weights, which multiply the middle of a row; None where rows have their middle at zero.
        bias: what is added.
    """

    call: tuple[Any, ...]
    weights: Tensor
    scales: Tensor
    zeros: Tensor
    sums: Tensor | None
    bias: Tensor


class Int8Weights(PackedWeights):
    """The weights of linear layers that read the same, side by side, in int8; of float32 layers and activations.

    Unlike others' layouts, this one is made at the first call, for any number of rows: answers are never a mixture.
    """

    def product(self, linears: Sequence[nn.Module], x: Tensor) -> Tensor | None:  # noqa: D102
        if is_traced() or not can_pack(linears, x, {torch.float32}):
            return None
        greatest = greatest_weight()
        if greatest is None:
            return None  # a model that was made ready elsewhere
        call = tuple(version(tensor) for linear in linears for tensor in (linear.weight, linear.bias))
        layout = self.layout
        if layout is None or layout.call != call:
            self.layout = None  # before memory is taken
            self.layout = layout = int8_layout(linears, greatest, x, call)
        return int8_product(x, layout)


@torch.no_grad()
def int8_layout(linears: Sequence[Any], greatest: int, x: Tensor, call: tuple[Any, ...]) -> Int8Layout:
    """The weights of linear layers that read x, side by side, as whole numbers up to the greatest."""
    weight, bias = beside(linears)
    scales = (weight.abs().amax(1) / greatest).clamp_min_(LEAST)
    rounded = (weight / scales[:, None]).round_()
    sums = rounded.sum(1) * scales if weight.shape[1] > weight.shape[0] else None
    zeros = weight.new_zeros(len(weight), dtype=torch.int32)
    packed = torch.ops.onednn.qlinear_prepack(rounded.to(torch.int8), [x.numel() // x.shape[-1], x.shape[-1]])
    return Int8Layout(call, packed, scales, zeros, sums, weight.new_zeros(len(weight)) if bias is None else bias)


def int8_product(x: Tensor, layout: Int8Layout) -> Tensor:
    """What linear layers make of x, (..., channels), a few rows at a time."""
    rows, channels = x.reshape(-1, x.shape[-1]), len(layout.scales)
    made = x.new_empty(len(rows), channels)
    together = max(1, TOGETHER * torch.get_num_threads() // max(rows.shape[1], channels))
    for given, output in zip(rows.split(together), made.split(together), strict=True):
        bias = layout.bias
        greatest, least = given.amax(1, keepdim=True), given.amin(1, keepdim=True)
        if layout.sums is None:
            scale = torch.maximum(greatest, -least).div_(127).clamp_min_(LEAST)
            scaled = given * scale.reciprocal()
        else:
            scale = (greatest - least).div_(254).clamp_min_(LEAST)
            middle = (greatest + least).div_(2)
            scaled = (given - middle).mul_(scale.reciprocal())
            bias = torch.addcmul(bias, middle, layout.sums, out=output)
        # PyTorch makes signed bytes of float32 four times as fast as unsigned ones; turning their first bit adds 128.
        as_bytes = scaled.round_().to(torch.int8).view(torch.uint8).bitwise_xor_(ZERO)
        torch.addcmul(bias, multiplied(as_bytes, layout.weights, layout.scales, layout.zeros), scale, out=output)
    return made.view(*x.shape[:-1], channels)


def multiplied(as_bytes: Tensor, weights: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """The product of bytes, of which `ZERO` is zero, and laid out weights with their scales, as float32."""
    return torch.ops.onednn.qlinear_pointwise(
        as_bytes, 1.0, ZERO, weights, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )


@lru_cache(maxsize=1)
def greatest_weight() -> int | None:
    """The greatest weight whose products this processor and PyTorch compute exactly; None if there are no such.

    It is tried rather than looked up: it depends on what the processor has, on oneDNN and on its settings.
    """
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return None  # oneDNN's products of integers are plain loops there
    return next((greatest for greatest in GREATEST_WEIGHTS if is_exact(greatest)), None)


def is_exact(greatest: int, channels: int = 64) -> bool:
    """Whether the products of the greatest bytes and weights come out as they should, for one row and for many."""
    weights = torch.full((channels, channels), greatest, dtype=torch.int8, device="cpu")  # whatever the defaults are
    weights[::2] *= -1
    scales = weights.new_ones(channels, dtype=torch.float32)
    zeros = weights.new_zeros(channels, dtype=torch.int32)
    try:
        packed = torch.ops.onednn.qlinear_prepack(weights, None)
        made = [
            multiplied(weights.new_full((rows, channels), 255, dtype=torch.uint8), packed, scales, zeros)
            for rows in (1, 64)
        ]
    except (AttributeError, RuntimeError):  # PyTorch without oneDNN, or a oneDNN without such products
        return False
    expected = weights[:, 0].float() * (channels * (255 - ZERO))
    return all(torch.equal(each, expected.expand_as(each)) for each in made)
