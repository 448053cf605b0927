"""The matrix products of a forward pass and nothing else: what PyTorch's own routines need for them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.arithmetic import Product, products
from benchmarks.models import IMAGE
from benchmarks.sides.pytorch.passes import DTYPES, finish
from benchmarks.worker import Prepared


def prepare(
    model: str, batch: int, dtype: str, image: int = IMAGE, layers: int = 0, device: str = "cpu", **_: object
) -> Prepared:
    """Every product of the pass with matrices of its own, as each layer has its own weights."""
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    calls = [
        call
        for product in products(model, batch, image, layers)
        for call in [multiplication(product, DTYPES[dtype], device) for _ in range(product.count)]
    ]

    @torch.inference_mode()
    def run() -> None:
        for call in calls:
            call()
        finish(device)

    return Prepared(run)


def multiplication(product: Product, dtype: torch.dtype, device: str) -> Callable[[], torch.Tensor]:
    """One product; of weights as `torch.nn.Linear` has them, of activations as batches."""
    _, batch, rows, inner, columns = product
    if batch == 1:
        left, weight = torch.randn(rows, inner), torch.randn(columns, inner)
        bias = torch.randn(columns).to(device, dtype)
        left, weight = left.to(device, dtype), weight.to(device, dtype)
        return lambda: torch.nn.functional.linear(left, weight, bias)
    left = torch.randn(batch, rows, inner).to(device, dtype)
    right = torch.randn(batch, inner, columns).to(device, dtype)
    return lambda: torch.bmm(left, right)
