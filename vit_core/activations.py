"""The names of activations that every backend has; each has their functions in a file of this name."""

#: "gelu" is exact, "gelu_new" its tanh approximation and "quick_gelu" x * sigmoid(1.702 x) (Hendrycks & Gimpel 2016,
#: https://arxiv.org/abs/1606.08415); "gelu_10" is exact and cut at -10 and 10; "mish" is x * tanh(softplus(x)) (Misra
#: 2019, https://arxiv.org/abs/1908.08681); "relu2" the square of relu (So et al. 2021,
#: https://arxiv.org/abs/2109.08668); "relu6" is cut at 6; "leaky_relu" has slope 0.01 below 0; "laplace" is the normal
#: distribution function of mean sqrt(1/2) and deviation sqrt(1/(4 pi)) (Ma et al. 2022,
#: https://arxiv.org/abs/2209.10655); "linear" returns its input.
ACTIVATIONS = (
    *("gelu", "gelu_new", "quick_gelu", "gelu_10", "relu", "relu2", "relu6", "leaky_relu", "selu", "silu", "mish"),
    *("laplace", "sigmoid", "tanh", "linear"),
)

#: Other names of the same functions, which a config keeps as they are given.
ALIASES = {
    "gelu_accurate": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_new",
    "swish": "silu",
}

ACTIVATION_NAMES = (*ACTIVATIONS, *ALIASES)


def canonical(name: str) -> str:
    """The name of an activation in `ACTIVATIONS`."""
    return ALIASES.get(name, name)
