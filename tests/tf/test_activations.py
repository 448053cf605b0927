import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from vit_core.activations import ACTIVATION_NAMES, ACTIVATIONS
from vit_tf.activations import activation, get_tf_activation

X = np.linspace(-12, 12, 241)
GELU = X * (1 + special.erf(X / 2**0.5)) / 2
TANH_GELU = X / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (X + 0.044715 * X**3)))
PUBLISHED = {
    "gelu": GELU,
    "gelu_new": TANH_GELU,
    "quick_gelu": X / (1 + np.exp(-1.702 * X)),
    "gelu_10": GELU.clip(-10, 10),
    "relu": X.clip(min=0),
    "relu2": X.clip(min=0) ** 2,
    "relu6": X.clip(0, 6),
    "leaky_relu": np.where(X > 0, X, 0.01 * X),
    "selu": 1.0507009873554805 * np.where(X > 0, X, 1.6732632423543772 * (np.exp(X) - 1)),
    "silu": X / (1 + np.exp(-X)),
    "mish": X * np.tanh(np.log(1 + np.exp(X))),
    "laplace": special.ndtr((X - 0.5**0.5) / (0.25 / np.pi) ** 0.5),
    "sigmoid": 1 / (1 + np.exp(-X)),
    "tanh": np.tanh(X),
    "linear": X,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_the_published_formulas(name):
    # TensorFlow rounds the constants of GELU to float32, whatever it computes in; of laplace the authors' code, and
    # transformers', has six digits of mean and deviation.
    exactness = 1e-6 if name == "laplace" else 1e-8 if name.startswith("gelu") else 1e-12
    function = activation(name)
    np.testing.assert_allclose(function(tf.constant(X)), PUBLISHED[name], atol=exactness, rtol=0)
    np.testing.assert_allclose(function(tf.constant(X, tf.float32)), PUBLISHED[name], atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "same"),
    [("gelu_fast", "gelu_new"), ("gelu_accurate", "gelu_new"), ("gelu_pytorch_tanh", "gelu_new"), ("swish", "silu")],
)
def test_other_names_are_the_same_functions(name, same):
    np.testing.assert_allclose(get_tf_activation(name)(tf.constant(X)), PUBLISHED[same], atol=1e-8, rtol=0)


def test_every_name_is_a_function_and_another_name_is_an_error():
    assert all(callable(activation(name)) for name in ACTIVATION_NAMES)
    with pytest.raises(ValueError, match="activation is 'sine'; choose one of gelu, "):
        activation("sine")
