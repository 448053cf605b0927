"""The table of parameters: every tensor of every model, derived from what it is made of.

Loading, saving, checking, initialising, converting and counting all read this table; nobody else writes a name. Names
and layouts are canonical, that is those of transformers' PyTorch models: a linear layer's weight is (out, in), a
convolution's (out, in, height, width). The order is the order of the layers, the way an image travels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from vit_core.architecture import Pooler
from vit_core.config import PretrainedConfig
from vit_core.relative_position import table_length

#: What a tensor is, and with it how a framework lays it out and how it is initialised.
Kind = Literal["token", "positions", "conv", "linear", "bias", "scale", "shift", "gain", "table", "frequencies"]
#: How a tensor starts: truncated normal with the config's initializer_range, cut at ±2; all zero; all one; MAE's fixed
#: sines and cosines; the frequencies of rotary positions; or all one number.
Initializer = Literal["normal", "zeros", "ones", "sincos", "rotary"] | float
#: Where in a model a tensor belongs. The last two are not the base model's.
Part = Literal["embeddings", "encoder", "layernorm", "pooler", "decoder", "head"]
#: The layers that follow each other, and where in the canonical names their numbers stand.
Stack = Literal["encoder", "decoder"]
#: What a model is for: its base, or with a head. Of masked patches, pixels are predicted or the number that a tokenizer
#: gives them (BEiT); pre-training is MAE's, with a decoder of its own; a projection puts images beside texts (CLIP); a
#: backbone returns feature maps.
Task = Literal[
    "model",
    "image-classification",
    "image-classification-with-teacher",
    "masked-image-modeling",
    "masked-token-modeling",
    "pre-training",
    "image-projection",
    "backbone",
]

#: The tasks of models without a head, before whose names nothing stands.
BARE: frozenset[Task] = frozenset(("model", "backbone"))
STACKS: dict[Stack, str] = {"encoder": "encoder.layer", "decoder": "decoder.decoder_layers"}
#: The tensors that are resampled when a model is loaded for another image size.
POSITION_EMBEDDINGS = "embeddings.position_embeddings"
DECODER_POSITIONS = "decoder.decoder_pos_embed"
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
    "gain": "ones",
    "table": "zeros",
    "frequencies": "rotary",
}

Axes = dict[str, int]


@dataclass(frozen=True)
class Parameter:
    """One row of the table.

    Attributes:
        name: canonical name, such as "vit.encoder.layer.0.attention.attention.query.weight".
        shape: canonical shape.
        kind: what it is; decides the layout in each framework.
        initializer: how it starts.
        axes: what each axis of the shape counts, such as ("heads", "hidden").
        part: where it belongs.
        prefix: what in its name stands before its name in the base model, such as "vit.".
        stack: the layers to one of which it belongs, if it does.
        layer: the number of that layer.
        trainable: whether training changes it.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    initializer: Initializer
    axes: tuple[str, ...]
    part: Part
    prefix: str = ""
    stack: Stack | None = None
    layer: int | None = None
    trainable: bool = True

    @property
    def is_of_base(self) -> bool:
        """Whether it belongs to the base model, rather than to what a model with a head adds."""
        return self.part not in ("decoder", "head")

    @property
    def base_name(self) -> str:
        """Its name without what a model puts before it."""
        return self.name.removeprefix(self.prefix)

    @property
    def template(self) -> str:
        """`base_name` with a `*` for the number of its layer."""
        if self.stack is None:
            return self.base_name
        path = STACKS[self.stack]
        return f"{path}.*" + self.base_name.removeprefix(f"{path}.{self.layer}")

    @property
    def depth_of_layer(self) -> int | None:
        """Where in its name, between dots, the number of its transformer layer stands, if it belongs to one."""
        return None if self.stack is None else (self.prefix + STACKS[self.stack]).count(".") + 1

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def changed(self, **fields: Any) -> Parameter:
        """The same with other fields, sooner than by `dataclasses.replace`: rows are made by the thousand."""
        return Parameter(**{**vars(self), **fields})

    def under(self, prefix: str) -> Parameter:
        """The same in a model that holds this one, with what stands before its name there."""
        return self.changed(name=prefix + self.name, prefix=prefix + self.prefix)

    def in_layer(self, layer: int) -> Parameter:
        """The same of another layer."""
        return self.changed(name=self.prefix + self.template.replace("*", str(layer), 1), layer=layer)


def parameters(
    config: PretrainedConfig,
    task: Task = "model",
    *,
    add_pooling_layer: bool | None = None,
    use_mask_token: bool | None = None,
) -> tuple[Parameter, ...]:
    """List every tensor of a model, in the order of its layers.

    Args:
        config: the model's config.
        task: which model: "model" is the base model, "backbone" the same without a pooler, the others the models with
            that head.
        add_pooling_layer: whether the base model has its pooler; as its architecture has it unless given. Of the models
            with a head, only those have it whose classifier reads it.
        use_mask_token: whether the base model has a mask token, where its architecture leaves it open. Of the models
            with a head, only masked image modeling has one then.

    Returns:
        The rows of the table. Names are unique.

    Raises:
        ValueError: the config is impossible.
    """
    config.validate()
    if task == "model":
        return tuple(_model(config, add_pooling_layer, use_mask_token))
    if task == "backbone":
        return tuple(_model(config, add_pooling_layer=False, use_mask_token=False))
    architecture = config.architecture
    reads_pooler = task == "image-projection" or (
        task == "image-classification" and architecture.classifier_reads == "pooler"
    )
    base = _model(
        config, reads_pooler or architecture.keeps_pooler, task in ("masked-image-modeling", "masked-token-modeling")
    )
    return (*(row.under(f"{config.base_model_prefix}.") for row in base), *_HEADS[task](config))


def _model(
    config: PretrainedConfig, add_pooling_layer: bool | None, use_mask_token: bool | None
) -> Iterator[Parameter]:
    architecture, hidden = config.architecture, config.hidden_size
    yield from _embeddings(config, bool(use_mask_token))
    if architecture.relative_positions == "shared":
        yield _relative_positions(config, "encoder")
    yield from _layers(config, "encoder")
    if architecture.final_norm:
        yield from _norm(config, "layernorm", {"hidden": hidden}, part="layernorm")
    if architecture.pooler and (architecture.has_pooler if add_pooling_layer is None else add_pooling_layer):
        yield from _POOLERS[architecture.pooler](config)


def _dense_pooler(config: PretrainedConfig) -> Iterator[Parameter]:
    return _linear("pooler.dense", {"pooled": config.pooler_size}, {"hidden": config.hidden_size}, part="pooler")


def _norm_pooler(config: PretrainedConfig) -> Iterator[Parameter]:
    return _norm(config, "pooler.layernorm", {"hidden": config.hidden_size}, part="pooler")


def _attention_pooler(config: PretrainedConfig) -> Iterator[Parameter]:
    hidden, mlp = {"hidden": config.hidden_size}, {"mlp": config.pooler_mlp_size}
    heads = {"heads": config.hidden_size}
    yield _row("pooler.probe", {"batch": 1, "tokens": 1, **hidden}, "token", part="pooler")
    for projection in ("query", "key", "value"):
        yield from _linear(f"pooler.attention.attention.{projection}", heads, hidden, part="pooler")
    yield from _linear("pooler.attention.output.dense", hidden, heads, part="pooler")
    yield from _norm(config, "pooler.layernorm", hidden, part="pooler")
    yield from _linear("pooler.intermediate.dense", mlp, hidden, part="pooler")
    yield from _linear("pooler.output.dense", hidden, mlp, part="pooler")


#: The rows of each pooler.
_POOLERS: dict[Pooler, Callable[[PretrainedConfig], Iterator[Parameter]]] = {
    "dense": _dense_pooler,
    "mean-norm": _norm_pooler,
    "class-token": lambda config: iter(()),
    "class-norm": _norm_pooler,
    "attention": _attention_pooler,
    "patch-attention": _attention_pooler,
}


def _embeddings(config: PretrainedConfig, use_mask_token: bool) -> Iterator[Parameter]:
    architecture = config.architecture
    where: dict[str, Any] = {"part": "embeddings"}
    token = {"batch": 1, "tokens": 1, "hidden": config.hidden_size}
    for name in architecture.prefix_tokens:
        yield _row(f"embeddings.{name}", token, "token", **where)
    if architecture.register_tokens:
        yield _row("embeddings.register_tokens", {**token, "tokens": architecture.register_tokens}, "token", **where)
    if use_mask_token if architecture.mask_token is None else architecture.mask_token:
        yield _row("embeddings.mask_token", token, "token", initializer="zeros", **where)
    if architecture.absolute_positions is not None:
        yield _positions(POSITION_EMBEDDINGS, config, {"hidden": config.hidden_size}, **where)
    height, width = config.patch_shape
    weight = {"hidden": config.hidden_size, "channels": config.num_channels, "height": height, "width": width}
    yield _row("embeddings.patch_embeddings.projection.weight", weight, "conv", **where)
    if architecture.patch_bias:
        yield _row("embeddings.patch_embeddings.projection.bias", {"hidden": config.hidden_size}, "bias", **where)
    if architecture.patch_norm:
        yield from _norm(config, "embeddings.patch_embeddings.layernorm", {"hidden": config.hidden_size}, **where)
    if architecture.embedding_norm:
        yield from _norm(config, "embeddings.layernorm", {"hidden": config.hidden_size}, **where)


def _positions(name: str, config: PretrainedConfig, hidden: Axes, **where: Any) -> Parameter:
    architecture = config.architecture
    count = architecture.num_positioned_prefix_tokens + math.prod(config.grid)
    axes = {"batch": 1, "tokens": count, **hidden}
    if architecture.absolute_positions == "sincos":
        return _row(name, axes, "positions", initializer="sincos", trainable=False, **where)
    return _row(name, axes, "positions", **where)


def _layers(config: PretrainedConfig, stack: Stack) -> Iterator[Parameter]:
    rows: dict[int, list[Parameter]] = {}  # layers differ in their heads alone
    for layer in range(config.num_hidden_layers):
        heads = config.kept_head_count(layer)
        if heads not in rows:
            rows[heads] = list(_layer(config, layer, part=stack, stack=stack))
        start = f"{STACKS[stack]}.{layer}."
        for row in rows[heads]:
            yield row.changed(name=start + row.name, layer=layer)


def _layer(config: PretrainedConfig, number: int, **where: Any) -> Iterator[Parameter]:
    architecture = config.architecture
    hidden, mlp = {"hidden": config.hidden_size}, {"mlp": config.intermediate_size}
    heads = {"heads": config.kept_head_count(number) * config.head_dim}
    has_bias = {"query": architecture.query_bias, "key": architecture.key_bias, "value": architecture.value_bias}
    for projection, bias in has_bias.items():
        name = f"attention.attention.{projection}"
        yield from _linear(name, heads, hidden, bias=bias and config.qkv_bias, **where)
    for projection in ("query", "key") if architecture.query_key_norm else ():
        yield from _norm(config, f"attention.attention.{projection}_norm", {"head_dim": config.head_dim}, **where)
    if architecture.relative_positions == "layers":
        table = _relative_positions(config, "attention.attention", number)
        yield table.changed(**where)
    if architecture.rotary_positions == "mixed":
        of_heads = {"coordinates": 2, "head": config.kept_head_count(number), "frequencies": config.head_dim // 2}
        yield _row("attention.attention.rope.frequencies", of_heads, "frequencies", **where)
    if architecture.attention_norm:
        yield from _norm(config, "attention.output.layernorm", heads, **where)
    yield from _linear("attention.output.dense", hidden, heads, bias=architecture.output_bias, **where)
    for projection in ("gate", "dense") if architecture.gated_mlp else ("dense",):
        yield from _linear(f"intermediate.{projection}", mlp, hidden, bias=architecture.mlp_bias, **where)
    if architecture.mlp_norm:
        yield from _norm(config, "output.layernorm", mlp, **where)
    yield from _linear("output.dense", hidden, mlp, bias=architecture.mlp_bias, **where)
    yield from _norm(config, "layernorm_before", hidden, **where)
    if architecture.halves != "parallel":
        yield from _norm(config, "layernorm_after", hidden, **where)
    for name in architecture.factors:
        yield _row(name, hidden, "gain", initializer=float(architecture.layer_scale or 0.0), **where)


def _relative_positions(config: PretrainedConfig, owner: str, layer: int | None = None) -> Parameter:
    length = table_length(config.grid, config.architecture.num_prefix_tokens)
    axes = {"distances": length, "head": config.kept_head_count(layer)}
    return _row(f"{owner}.relative_position_bias.relative_position_bias_table", axes, "table", part="encoder")


def _classifier(config: PretrainedConfig) -> Iterator[Parameter]:
    return _classifiers(config, "classifier")


def _teachers_classifiers(config: PretrainedConfig) -> Iterator[Parameter]:
    assert config.architecture.teacher_places  # or it raises
    return _classifiers(config, "cls_classifier", "distillation_classifier")


def _classifiers(config: PretrainedConfig, *names: str) -> Iterator[Parameter]:
    summary = "pooled" if config.classifier_input_size != config.hidden_size else "hidden"
    for name in names if config.num_labels else ():  # without labels a classifier passes its input on
        yield from _linear(name, {"labels": config.num_labels}, {summary: config.classifier_input_size}, part="head")


def _masked_tokens(config: PretrainedConfig) -> Iterator[Parameter]:
    hidden = {"hidden": config.hidden_size}
    if hasattr(config, "vocab_size"):
        yield from _norm(config, "layernorm", hidden, part="head")
        yield from _linear("lm_head", {"vocabulary": config.vocab_size}, hidden, part="head")


def _masked_pixels(config: PretrainedConfig) -> Iterator[Parameter]:
    hidden = {"hidden": config.hidden_size}
    if hasattr(config, "encoder_stride"):
        pixels = {"pixels": config.encoder_stride**2 * config.num_channels}
        yield _row("decoder.0.weight", {**pixels, **hidden, "height": 1, "width": 1}, "conv", part="head")
        yield _row("decoder.0.bias", pixels, "bias", part="head")


def _decoder(config: PretrainedConfig) -> Iterator[Parameter]:
    if not hasattr(config, "decoder_config"):
        return
    decoder = config.decoder_config
    hidden = {"decoder_hidden": decoder.hidden_size}
    where: dict[str, Any] = {"part": "decoder"}
    yield _row("decoder.mask_token", {"batch": 1, "tokens": 1, **hidden}, "token", **where)
    yield _positions(DECODER_POSITIONS, config, hidden, **where)
    yield from _linear("decoder.decoder_embed", hidden, {"hidden": config.hidden_size}, **where)
    yield from _layers(decoder, "decoder")
    yield from _norm(config, "decoder.decoder_norm", hidden, **where)
    pixels = {"pixels": math.prod(config.patch_shape) * config.num_channels}
    yield from _linear("decoder.decoder_pred", pixels, hidden, **where)


def _projection(config: PretrainedConfig) -> Iterator[Parameter]:
    if hasattr(config, "projection_dim"):
        summary = {"hidden": config.hidden_size}
        yield from _linear("visual_projection", {"projection": config.projection_dim}, summary, False, part="head")


#: What a model adds to the base model for each task.
_HEADS: dict[Task, Callable[[PretrainedConfig], Iterator[Parameter]]] = {
    "image-classification": _classifier,
    "image-classification-with-teacher": _teachers_classifiers,
    "masked-image-modeling": _masked_pixels,
    "masked-token-modeling": _masked_tokens,
    "pre-training": _decoder,
    "image-projection": _projection,
}


def _linear(name: str, outputs: Axes, inputs: Axes, bias: bool = True, **where: Any) -> Iterator[Parameter]:
    yield _row(f"{name}.weight", {**outputs, **inputs}, "linear", **where)
    if bias:
        yield _row(f"{name}.bias", outputs, "bias", **where)


def _norm(config: PretrainedConfig, name: str, size: Axes, **where: Any) -> Iterator[Parameter]:
    yield _row(f"{name}.weight", size, "scale", **where)
    if config.architecture.norm == "layer":
        yield _row(f"{name}.bias", size, "shift", **where)


def _row(name: str, axes: Axes, kind: Kind, **fields: Any) -> Parameter:
    initializer = fields.pop("initializer", INITIALIZERS[kind])
    return Parameter(name, tuple(axes.values()), kind, initializer, tuple(axes), **fields)
