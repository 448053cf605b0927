"""The table of parameters: every tensor of every model, derived from a config.

Loading, saving, checking, initialising, converting and counting all read this table; nobody else writes a name. Names
and layouts are canonical, that is those of transformers' PyTorch models: a linear layer's weight is (out, in), a
convolution's (out, in, height, width). The order is the order of the layers, the way an image travels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from vit_core.config import ViTConfig

#: What a tensor is: its axes, and with them how a framework lays it out and how it is initialised.
Kind = Literal["token", "positions", "conv", "linear", "bias", "scale", "shift"]
#: How a tensor starts: truncated normal with the config's initializer_range, cut at ±2; all zero; all one.
Initializer = Literal["normal", "zeros", "ones"]
Task = Literal["model", "image-classification", "masked-image-modeling"]

#: The name under which a model with a head holds the base model, and so the prefix of the base model's tensors there.
BASE_MODEL_PREFIX = "vit."
#: What a model with a head adds to the base model, by the first parts of its tensors' names.
HEADS = ("classifier", "decoder")
#: Where the transformer layers stand, each by its number.
LAYERS = ("encoder", "layer")
#: The tensor that is resampled when a model is loaded for another image size.
POSITION_EMBEDDINGS = "embeddings.position_embeddings"
#: Cut of the truncated normal, absolute as in torch.nn.init.trunc_normal_ (not in standard deviations).
INITIALIZER_CUT = 2.0

INITIALIZERS: dict[Kind, Initializer] = {
    "token": "normal",
    "positions": "normal",
    "conv": "normal",
    "linear": "normal",
    "bias": "zeros",
    "scale": "ones",
    "shift": "zeros",
}


@dataclass(frozen=True)
class Parameter:
    """One row of the table.

    Attributes:
        name: canonical name, such as "vit.encoder.layer.0.attention.attention.query.weight".
        shape: canonical shape.
        kind: what it is; decides the layout in each framework.
        initializer: how it starts.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    initializer: Initializer

    @property
    def part(self) -> str:
        """The part of the model it belongs to: "embeddings", "encoder", "layernorm", "pooler" or "head"."""
        first = self.name.removeprefix(BASE_MODEL_PREFIX).split(".")[0]
        return "head" if first in HEADS else first

    @property
    def layer(self) -> int | None:
        """The transformer layer it belongs to, if any."""
        depth = self.depth_of_layer
        return None if depth is None else int(self.name.split(".")[depth])

    @property
    def depth_of_layer(self) -> int | None:
        """Where in its name, between dots, the number of its transformer layer stands, if it belongs to one."""
        parts, ahead = self.name.split("."), len(LAYERS)
        depths = range(ahead, len(parts))
        return next((i for i in depths if tuple(parts[i - ahead : i]) == LAYERS and parts[i].isdecimal()), None)

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


def parameters(
    config: ViTConfig, task: Task = "model", *, add_pooling_layer: bool = True, use_mask_token: bool = False
) -> tuple[Parameter, ...]:
    """List every tensor of a model, in the order of its layers.

    Args:
        config: the model's config.
        task: which model: "model" is ViTModel, the others the models with that head.
        add_pooling_layer: whether ViTModel has its pooler; of the models with a head, only image classification with
            `config.classifier_uses_pooler` does.
        use_mask_token: whether ViTModel has a mask token; of the models with a head, only masked image modeling does.

    Returns:
        The rows of the table. Names are unique.

    Raises:
        ValueError: the config is impossible.
    """
    config.validate()
    if task == "model":
        return tuple(_model(config, add_pooling_layer, use_mask_token))
    is_masked = task == "masked-image-modeling"
    base = (
        replace(row, name=BASE_MODEL_PREFIX + row.name)
        for row in _model(config, config.classifier_uses_pooler and not is_masked, use_mask_token=is_masked)
    )
    head = _decoder(config) if is_masked else _classifier(config)
    return (*base, *head)


def _model(config: ViTConfig, add_pooling_layer: bool, use_mask_token: bool) -> Iterator[Parameter]:
    yield from _embeddings(config, use_mask_token)
    for layer in range(config.num_hidden_layers):
        yield from _layer(config, layer)
    yield from _layer_norm("layernorm", config.hidden_size)
    if add_pooling_layer:
        yield from _linear("pooler.dense", config.hidden_size, config.pooler_size)


def _embeddings(config: ViTConfig, use_mask_token: bool) -> Iterator[Parameter]:
    hidden = config.hidden_size
    yield _row("embeddings.cls_token", (1, 1, hidden), "token")
    if use_mask_token:
        yield Parameter("embeddings.mask_token", (1, 1, hidden), "token", "zeros")
    yield _row(POSITION_EMBEDDINGS, (1, 1 + math.prod(config.grid), hidden), "positions")
    projection = "embeddings.patch_embeddings.projection"
    yield _row(f"{projection}.weight", (hidden, config.num_channels, *config.patch_shape), "conv")
    yield _row(f"{projection}.bias", (hidden,), "bias")


def _layer(config: ViTConfig, layer: int) -> Iterator[Parameter]:
    prefix, hidden = ".".join((*LAYERS, str(layer))), config.hidden_size
    heads = len(config.kept_heads(layer)) * config.head_dim
    for projection in ("query", "key", "value"):
        yield from _linear(f"{prefix}.attention.attention.{projection}", hidden, heads, bias=config.qkv_bias)
    yield from _linear(f"{prefix}.attention.output.dense", heads, hidden)
    yield from _linear(f"{prefix}.intermediate.dense", hidden, config.intermediate_size)
    yield from _linear(f"{prefix}.output.dense", config.intermediate_size, hidden)
    yield from _layer_norm(f"{prefix}.layernorm_before", hidden)
    yield from _layer_norm(f"{prefix}.layernorm_after", hidden)


def _classifier(config: ViTConfig) -> Iterator[Parameter]:
    if config.num_labels:  # without labels the classifier passes its input on
        yield from _linear("classifier", config.classifier_input_size, config.num_labels)


def _decoder(config: ViTConfig) -> Iterator[Parameter]:
    pixels = config.encoder_stride**2 * config.num_channels
    yield _row("decoder.0.weight", (pixels, config.hidden_size, 1, 1), "conv")
    yield _row("decoder.0.bias", (pixels,), "bias")


def _linear(name: str, inputs: int, outputs: int, bias: bool = True) -> Iterator[Parameter]:
    yield _row(f"{name}.weight", (outputs, inputs), "linear")
    if bias:
        yield _row(f"{name}.bias", (outputs,), "bias")


def _layer_norm(name: str, size: int) -> Iterator[Parameter]:
    yield _row(f"{name}.weight", (size,), "scale")
    yield _row(f"{name}.bias", (size,), "shift")


def _row(name: str, shape: tuple[int, ...], kind: Kind) -> Parameter:
    return Parameter(name, shape, kind, INITIALIZERS[kind])
