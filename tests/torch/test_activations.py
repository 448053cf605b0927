import math

import pytest
import torch

from vit_core.activations import ACTIVATION_NAMES, ACTIVATIONS
from vit_torch.activations import ACT2FN, activation

X = torch.linspace(-12, 12, 241, dtype=torch.float64)
GELU = X * (1 + torch.erf(X / 2**0.5)) / 2
TANH_GELU = X / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (X + 0.044715 * X**3)))
PUBLISHED = {
    "gelu": GELU,
    "gelu_new": TANH_GELU,
    "quick_gelu": X / (1 + (-1.702 * X).exp()),
    "gelu_10": GELU.clip(-10, 10),
    "relu": X.clamp(min=0),
    "relu2": X.clamp(min=0) ** 2,
    "relu6": X.clamp(0, 6),
    "leaky_relu": torch.where(X > 0, X, 0.01 * X),
    "selu": 1.0507009873554805 * torch.where(X > 0, X, 1.6732632423543772 * (X.exp() - 1)),
    "silu": X / (1 + (-X).exp()),
    "mish": X * torch.tanh((1 + X.exp()).log()),
    "laplace": torch.distributions.Normal(math.sqrt(0.5), math.sqrt(0.25 / math.pi)).cdf(X),
    "sigmoid": 1 / (1 + (-X).exp()),
    "tanh": (X.exp() - (-X).exp()) / (X.exp() + (-X).exp()),
    "linear": X,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_the_published_formulas(name):
    # Of laplace the authors' code, and transformers', has six digits of mean and deviation.
    torch.testing.assert_close(activation(name)(X), PUBLISHED[name], atol=1e-6 if name == "laplace" else 1e-12, rtol=0)


@pytest.mark.parametrize(
    ("name", "same"),
    [("gelu_fast", "gelu_new"), ("gelu_accurate", "gelu_new"), ("gelu_pytorch_tanh", "gelu_new"), ("swish", "silu")],
)
def test_other_names_are_the_same_functions(name, same):
    torch.testing.assert_close(ACT2FN[name](X), PUBLISHED[same], atol=1e-8, rtol=0)


def test_activations_are_looked_up_as_modules_by_every_name():
    assert set(ACT2FN) == set(ACTIVATION_NAMES)
    assert all(isinstance(made, torch.nn.Module) for made in ACT2FN.values())
    assert "sine" not in ACT2FN
    with pytest.raises(ValueError, match="activation is 'sine'; choose one of gelu, "):
        activation("sine")
