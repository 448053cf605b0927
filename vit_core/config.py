"""ViTConfig: what a Vision Transformer is made of, as one JSON file that every framework reads."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from vit_core.checks import require_choice, require_integer, require_number
from vit_core.file_names import CONFIG_NAME
from vit_core.hub import locate
from vit_core.json_file import read_json_file
from vit_core.push import Pushable
from vit_core.saving import write_file

MODEL_TYPE = "vit"

#: The names of activations that every backend has. "gelu" is exact, "gelu_new" and "gelu_pytorch_tanh" are its tanh
#: approximation (Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415), "quick_gelu" is x * sigmoid(1.702 x).
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "selu", "silu", "quick_gelu", "tanh")
ATTENTION_IMPLEMENTATIONS = ("sdpa", "eager")
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")

IGNORED_LABEL = -100  # a label that counts for nothing, as in torch's cross_entropy

#: No published model comes near these; a config that passes them is a mistake or an attack on this machine's memory.
LARGEST_LAYER_COUNT = 10_000
LARGEST_SIZE = 2**24
LARGEST_LABEL_COUNT = 2**20

#: Settings with defaults that say nothing about a particular model; a file has them only where they differ.
GENERAL_DEFAULTS: dict[str, Any] = {
    "architectures": None,
    "classifier_uses_pooler": False,
    "id2label": {0: "LABEL_0", 1: "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "output_attentions": False,
    "output_hidden_states": False,
    "pooler_act": "tanh",
    "pooler_output_size": None,
    "problem_type": None,
    "pruned_heads": {},
    "return_dict": True,
    "torch_dtype": None,
}

SizePair = int | tuple[int, int]


class ViTConfig(Pushable):
    """The configuration of a Vision Transformer (Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929).

    Args:
        hidden_size: width of a token.
        num_hidden_layers: number of transformer layers.
        num_attention_heads: attention heads of a layer; divides `hidden_size`.
        intermediate_size: width of the hidden layer of the MLP.
        hidden_act: activation of the MLP, one of `ACTIVATIONS` or a callable of the framework in use (which a JSON
            file cannot hold: such a config cannot be saved).
        hidden_dropout_prob: dropout of embeddings, attention output and MLP output in training, in [0, 1).
        attention_probs_dropout_prob: dropout of attention probabilities in training, in [0, 1).
        initializer_range: standard deviation of the truncated normal that initialises weights.
        layer_norm_eps: epsilon of every LayerNorm.
        image_size: size of the images in pixels, one number for a square or (height, width).
        patch_size: size of the patches in pixels, likewise. What the patches leave of an image is not looked at.
        num_channels: channels of the images.
        qkv_bias: whether query, key and value projections have a bias.
        encoder_stride: pixels to a patch's side in the decoder of masked image modeling.
        **kwargs: `id2label`, `label2id`, `num_labels` (2 unless given), `problem_type` (one of `PROBLEM_TYPES`),
            `output_attentions`, `output_hidden_states`, `return_dict`, `attn_implementation` ("sdpa" or "eager"; a
            choice of this run, never saved), `pooler_output_size` (`hidden_size` unless given), `pooler_act`,
            `classifier_uses_pooler` (False; True has the model for image classification read the pooler's output
            instead of the class token, a field of Trivit's own), `pruned_heads` ({layer: [heads]}). Other keys are
            kept as attributes and written back.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    model_type = MODEL_TYPE
    architectures: list[str] | None
    classifier_uses_pooler: bool
    output_attentions: bool
    output_hidden_states: bool
    pooler_act: str | Callable[..., Any]
    pooler_output_size: int | None
    problem_type: str | None
    return_dict: bool

    def __init__(
        self,
        /,  # a file may have a key of that name too
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        hidden_act: str | Callable[..., Any] = "gelu",
        hidden_dropout_prob: float = 0.0,
        attention_probs_dropout_prob: float = 0.0,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-12,
        image_size: SizePair = 224,
        patch_size: SizePair = 16,
        num_channels: int = 3,
        qkv_bias: bool = True,
        encoder_stride: int = 16,
        **kwargs: Any,
    ) -> None:
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        self.image_size = _as_size(image_size)
        self.patch_size = _as_size(patch_size)
        self.num_channels = num_channels
        self.qkv_bias = qkv_bias
        self.encoder_stride = encoder_stride

        model_type = kwargs.pop("model_type", MODEL_TYPE)
        if model_type != MODEL_TYPE:
            raise ValueError(f"model_type is {model_type!r}, but a ViTConfig describes models of type {MODEL_TYPE!r}.")
        private_choice = kwargs.pop("_attn_implementation", None)
        self.attn_implementation = (
            kwargs.pop("attn_implementation", None) or private_choice or ATTENTION_IMPLEMENTATIONS[0]
        )
        self._set_labels(kwargs.pop("id2label", None), kwargs.pop("label2id", None), kwargs.pop("num_labels", None))
        self.pruned_heads = _as_pruned_heads(kwargs.pop("pruned_heads", None))
        dtype = kwargs.pop("dtype", None)  # transformers 5 writes the dtype under this name
        self.torch_dtype = _as_dtype_name(kwargs.pop("torch_dtype", None) or dtype)
        for name in GENERAL_DEFAULTS.keys() - {"id2label", "label2id", "pruned_heads", "torch_dtype"}:
            setattr(self, name, kwargs.pop(name, GENERAL_DEFAULTS[name]))
        for name, value in kwargs.items():
            if hasattr(type(self), name):
                raise ValueError(f"{name!r} is a part of ViTConfig that cannot be set; remove it.")
            setattr(self, name, value)
        self.validate()

    # What follows from the fields

    @property
    def num_labels(self) -> int:
        """The number of classes. Setting another number names the classes anew: LABEL_0, LABEL_1, ..."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        if count != len(self.id2label):
            self._set_labels(None, None, count)

    @property
    def use_return_dict(self) -> bool:
        """Whether a forward pass returns an output object (rather than a tuple) when the call does not say."""
        return self.return_dict

    @property
    def _attn_implementation(self) -> str:  # the name that scripts written for transformers use
        return self.attn_implementation

    @_attn_implementation.setter
    def _attn_implementation(self, name: str) -> None:
        self.attn_implementation = name

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        return _as_pair(self.image_size)

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Height and width of a patch, in pixels."""
        return _as_pair(self.patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches in an image of `image_size`."""
        (height, width), (patch_height, patch_width) = self.image_shape, self.patch_shape
        return height // patch_height, width // patch_width

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def pooler_size(self) -> int:
        """Width of the pooler's output."""
        return self.pooler_output_size or self.hidden_size

    @property
    def classifier_input_size(self) -> int:
        """Width of what the classifier reads: the class token, or the pooler's output with `classifier_uses_pooler`."""
        return self.pooler_size if self.classifier_uses_pooler else self.hidden_size

    def kept_heads(self, layer: int) -> list[int]:
        """The attention heads of a layer that are not pruned, in their original numbering."""
        pruned = set(self.pruned_heads.get(layer, ()))
        return [head for head in range(self.num_attention_heads) if head not in pruned]

    def infer_problem_type(self, integer_labels: bool) -> str:
        """The kind of problem that labels imply when `problem_type` does not say: a number, a class, or several."""
        if self.num_labels == 1:
            return "regression"
        return "single_label_classification" if integer_labels else "multi_label_classification"

    # Checking

    def validate(self) -> None:
        """Check that such a model can exist; models check again when they are built, since fields can be set.

        Raises:
            ValueError: a value is impossible; the message names the field and the value.
        """
        for name in ("hidden_size", "num_attention_heads", "intermediate_size", "num_channels", "encoder_stride"):
            require_integer(name, getattr(self, name), 1, LARGEST_SIZE)
        require_integer("num_hidden_layers", self.num_hidden_layers, 0, LARGEST_LAYER_COUNT)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}, which num_attention_heads, {self.num_attention_heads}, does not "
                f"divide; choose a multiple."
            )
        for name in ("image_size", "patch_size"):
            for length in _as_pair(getattr(self, name), name):
                require_integer(name, length, 1, LARGEST_SIZE)
        if 0 in self.grid:
            raise ValueError(
                f"patch_size {self.patch_size} is larger than image_size {self.image_size}; not one patch fits in."
            )
        if math.prod(self.grid) > LARGEST_SIZE:
            raise ValueError(
                f"image_size {self.image_size} holds {math.prod(self.grid)} patches of patch_size {self.patch_size}; "
                f"more than {LARGEST_SIZE} are refused."
            )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            require_number(name, getattr(self, name), 0.0, 1.0, upper_included=False)
        for name in ("initializer_range", "layer_norm_eps"):
            require_number(name, getattr(self, name), 0.0, 1e6)
        _require_activation("hidden_act", self.hidden_act)
        _require_activation("pooler_act", self.pooler_act)
        if self.pooler_output_size is not None:
            require_integer("pooler_output_size", self.pooler_output_size, 1, LARGEST_SIZE)
        if not isinstance(self.classifier_uses_pooler, bool):
            raise ValueError(f"classifier_uses_pooler is {self.classifier_uses_pooler!r}; give True or False.")
        require_integer("num_labels", self.num_labels, 0, LARGEST_LABEL_COUNT)
        require_choice("attn_implementation", self.attn_implementation, ATTENTION_IMPLEMENTATIONS)
        if self.problem_type is not None:
            require_choice("problem_type", self.problem_type, PROBLEM_TYPES)
        for layer, heads in self.pruned_heads.items():
            if not 0 <= layer < self.num_hidden_layers:
                raise ValueError(f"pruned_heads names layer {layer}; the model has {self.num_hidden_layers} layers.")
            if bad := [head for head in heads if not 0 <= head < self.num_attention_heads]:
                raise ValueError(
                    f"pruned_heads names head {bad[0]} of layer {layer}; a layer has {self.num_attention_heads} heads."
                )
            if not self.kept_heads(layer):
                raise ValueError(f"pruned_heads names every head of layer {layer}; at least one must stay.")

    def _set_labels(self, id2label: Any, label2id: Any, count: Any) -> None:
        if id2label is None:
            count = 2 if count is None else count
            require_integer("num_labels", count, 0, LARGEST_LABEL_COUNT)
            id2label, label2id = {i: f"LABEL_{i}" for i in range(count)}, None
        elif not isinstance(id2label, Mapping):
            raise ValueError(f"id2label is a {type(id2label).__name__}; give a mapping of class numbers to names.")
        try:
            self.id2label = {int(number): label for number, label in id2label.items()}
        except (TypeError, ValueError):
            raise ValueError(f"id2label has the keys {list(id2label)[:5]}; give class numbers.") from None
        if count is not None and count != len(self.id2label):
            warnings.warn(f"num_labels={count} is ignored: id2label names {len(self.id2label)} classes.", stacklevel=4)
        if label2id is None:
            label2id = {label: number for number, label in self.id2label.items()}
        elif not isinstance(label2id, Mapping):
            raise ValueError(f"label2id is a {type(label2id).__name__}; give a mapping of names to class numbers.")
        self.label2id = dict(label2id)

    # Files

    @classmethod
    def from_pretrained(
        cls,
        model_id_or_path: str | PathLike[str],
        *,
        revision: str = "main",
        cache_dir: str | PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        subfolder: str = "",
        **overrides: Any,
    ) -> ViTConfig:
        """Read the config of a checkpoint.

        Args:
            model_id_or_path: a folder, a Hub id, or a checkpoint that ships with the package.
            revision: branch, tag or commit on the Hub.
            cache_dir: where downloads are kept; huggingface_hub's cache unless given.
            token: access token for the Hub; huggingface_hub's own unless given.
            local_files_only: never ask the network.
            force_download: download again what is in the cache.
            subfolder: folder inside the repository.
            **overrides: fields to set, as in the constructor.

        Raises:
            OSError: there is no such checkpoint, or it cannot be reached.
            ValueError: the file is no config of a ViT.
        """
        source = locate(
            model_id_or_path,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            force_download=force_download,
            subfolder=subfolder,
        )
        values = read_json_file(source.require(CONFIG_NAME))
        if values and not values.keys() & {"model_type", "hidden_size"}:
            raise ValueError(
                f"{source.name} has a {CONFIG_NAME} in other terms than a ViTConfig's; conversion.load(...).config may "
                f"know them."
            )
        return cls.from_dict(values, **overrides)

    @classmethod
    def from_json_file(cls, path: str | PathLike[str]) -> ViTConfig:
        """Read a config from a JSON file."""
        return cls.from_dict(read_json_file(Path(path)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> ViTConfig:
        """Build a config from what `to_dict` or a JSON file gives, with some fields set anew."""
        if "num_labels" in overrides and "id2label" not in overrides:
            named = values.get("id2label") or GENERAL_DEFAULTS["id2label"]
            if overrides["num_labels"] != len(named):
                values = {name: value for name, value in values.items() if name not in ("id2label", "label2id")}
        elif "id2label" in overrides:
            values = {name: value for name, value in values.items() if name not in ("num_labels", "label2id")}
        if overrides.get("dtype") is not None or overrides.get("torch_dtype") is not None:
            values = {name: value for name, value in values.items() if name not in ("dtype", "torch_dtype")}
        return cls(**{**values, **overrides})

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write `config.json` into a folder, which is made if need be.

        Raises:
            OSError: it cannot be written; what was there before is untouched.
            TypeError: a field, such as an activation given as a function, has no JSON form.
        """
        write_file(Path(folder) / CONFIG_NAME, self.to_json_string().encode())

    def to_dict(self) -> dict[str, Any]:
        """Every field, as plain values that belong to the caller."""
        fields = {name: value for name, value in vars(self).items() if name != "attn_implementation"}
        return copy.deepcopy({**fields, "model_type": self.model_type})

    def to_diff_dict(self) -> dict[str, Any]:
        """What is saved: the fields that describe the model, and general settings that are not at their default."""
        return {
            name: value
            for name, value in self.to_dict().items()
            if name not in GENERAL_DEFAULTS or value != GENERAL_DEFAULTS[name]
        }

    def to_json_string(self, use_diff: bool = True) -> str:
        """The content of `config.json`: sorted keys, two spaces of indentation, a final line break."""
        values = self.to_diff_dict() if use_diff else self.to_dict()
        try:
            return json.dumps(values, indent=2, sort_keys=True) + "\n"
        except TypeError:
            bad = next(name for name, value in values.items() if not _has_json_form(value))
            raise TypeError(
                f"{bad} is {values[bad]!r}, which a JSON file cannot hold; use a name, number or list instead."
            ) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ViTConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # fields can be set

    def __repr__(self) -> str:
        return f"{type(self).__name__} " + json.dumps(self.to_diff_dict(), indent=2, sort_keys=True, default=repr)


def _as_size(value: Any) -> Any:
    """A list, which is what JSON makes of (height, width), as a tuple; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def _as_pair(value: Any, name: str = "size") -> tuple[int, int]:
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ValueError(f"{name} is {value!r}; give one number or (height, width).")
        return value[0], value[1]
    return value, value


def _as_pruned_heads(value: Any) -> dict[int, list[int]]:
    try:
        return {int(layer): sorted(int(head) for head in heads) for layer, heads in (value or {}).items() if heads}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"pruned_heads is {value!r}; give {{layer: [heads]}}.") from None


def _as_dtype_name(value: Any) -> str | None:
    """A dtype's bare name: "float32" for "torch.float32" and for torch.float32."""
    return None if value is None else str(value).removeprefix("torch.")


def _has_json_form(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _require_activation(name: str, value: Any) -> None:
    if not callable(value):
        require_choice(name, value, ACTIVATIONS)
