"""What every config has: fields with checks, and one JSON file that every framework reads."""

from __future__ import annotations

import copy
import json
import math
import sys
import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

from vit_core.activations import ACTIVATION_NAMES
from vit_core.architecture import Architecture
from vit_core.checks import listed, require_choice, require_integer, require_number, shown
from vit_core.config_scripts import GENERAL_SETTINGS, ScriptConfig
from vit_core.file_names import CONFIG_NAME
from vit_core.hub import ModelSource, locate
from vit_core.json_file import is_json_file, read_json_file
from vit_core.loading_options import NEVER_SAVED, place_and_rest
from vit_core.named_code import without_code
from vit_core.patches import grid_of
from vit_core.push import Pushable, push_if_asked
from vit_core.saving import write_file

ATTENTION_IMPLEMENTATIONS = ("sdpa", "eager")
#: Kernels that are asked for by name elsewhere; "sdpa" picks such a kernel by itself where there is one.
FASTER_ATTENTION = ("flash_attention_2", "flash_attention_3", "flex_attention")
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")

IGNORED_LABEL = -100  # a label that counts for nothing, as in torch's cross_entropy

#: No published model comes near these; a config that passes them is a mistake or an attack on this machine's memory.
LARGEST_LAYER_COUNT = 1000  # DeepNet's (Wang et al. 2022), the deepest Transformer that was trained
LARGEST_HEAD_COUNT = 2**12
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
    "torchscript": False,
}

#: What concerns this run and not the model; no file gets it.
RUN_SETTINGS = NEVER_SAVED | {"attn_implementation", "_name_or_path"}

SizePair = int | tuple[int, int]


class PretrainedConfig(ScriptConfig, Pushable):
    """The configuration of a Vision Transformer; each family has a class of its own, see `vit_core.families`.

    Args:
        hidden_size: width of a token.
        num_hidden_layers: number of transformer layers.
        num_attention_heads: attention heads of a layer; divides `hidden_size`.
        intermediate_size: width of the hidden layer of the MLP.
        hidden_act: activation of the MLP, one of `vit_core.activations.ACTIVATION_NAMES` or a callable of the
            framework in use (which a JSON file cannot hold: such a config cannot be saved).
        hidden_dropout_prob: dropout of embeddings, attention output and MLP output in training, in [0, 1).
        attention_probs_dropout_prob: dropout of attention probabilities in training, in [0, 1).
        initializer_range: standard deviation of the truncated normal that initialises weights.
        layer_norm_eps: epsilon of every LayerNorm.
        image_size: size of the images in pixels, one number for a square or (height, width).
        patch_size: size of the patches in pixels, likewise. What the patches leave of an image is not looked at.
        num_channels: channels of the images.
        **kwargs: `id2label`, `label2id`, `num_labels` (2 unless given), `problem_type` (one of `PROBLEM_TYPES`),
            `output_attentions`, `output_hidden_states`, `return_dict`, `torchscript` (True has models return tuples),
            `attn_implementation` ("sdpa" or "eager"; a choice of this run, never saved), `pooler_output_size`
            (`hidden_size` unless given), `pooler_act`, `classifier_uses_pooler` (False; True has a ViT for image
            classification read the pooler's output instead of the class token, a field of Trivit's own),
            `pruned_heads` ({layer: [heads]}). Other keys are kept as attributes and written back.

    A subclass may have a `model_type` and fields of its own, as arguments with defaults.

    Raises:
        ValueError: a value is impossible; the message names the field and the value.
    """

    model_type: str = ""
    base_model_prefix: ClassVar[str] = ""  # the name under which a model with a head holds the base model
    qkv_bias: bool = True
    intermediate_size: int
    hidden_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    architectures: list[str] | None
    classifier_uses_pooler: bool
    output_attentions: bool
    output_hidden_states: bool
    pooler_act: str | Callable[..., Any]
    pruned_heads: dict[int, list[int]]
    pooler_output_size: int | None
    problem_type: str | None
    return_dict: bool
    torchscript: bool

    def __init__(
        self,
        /,  # a file may have a key of that name too
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int | None = 3072,
        hidden_act: str | Callable[..., Any] = "gelu",
        hidden_dropout_prob: float | None = 0.0,
        attention_probs_dropout_prob: float = 0.0,
        initializer_range: float | None = 0.02,
        layer_norm_eps: float = 1e-12,
        image_size: SizePair = 224,
        patch_size: SizePair = 16,
        num_channels: int = 3,
        **kwargs: Any,
    ) -> None:
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        if intermediate_size is not None:  # of which some families' files say nothing; None is for their classes
            self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        if hidden_dropout_prob is not None:
            self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        if initializer_range is not None:
            self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        self.image_size = image_size
        self.patch_size = patch_size
        self.num_channels = num_channels

        model_type = kwargs.pop("model_type", self.model_type)
        if not self.describes(model_type):
            raise ValueError(
                f"model_type is {shown(model_type)}, but a {type(self).__name__} describes models of type "
                f"{shown(self.model_type)}."
            )
        private_choice = kwargs.pop("_attn_implementation", None)
        self.attn_implementation = kwargs.pop("attn_implementation", None) or private_choice
        self._set_labels(kwargs.pop("id2label", None), kwargs.pop("label2id", None), kwargs.pop("num_labels", None))
        dtype = kwargs.pop("dtype", None)  # transformers 5 writes the dtype under this name
        self.torch_dtype = kwargs.pop("torch_dtype", None) or dtype
        for name, default in GENERAL_DEFAULTS.items():
            if name not in ("id2label", "label2id", "torch_dtype"):
                setattr(self, name, kwargs.pop(name, copy.copy(default)))
        self._set_fields(kwargs)
        self.validate()

    @classmethod
    def describes(cls, model_type: Any) -> bool:
        """Whether this class, or one that it extends, describes models of a type."""
        return model_type is not None and any(vars(each).get("model_type") == model_type for each in cls.__mro__)

    def _set_fields(self, values: Mapping[str, Any]) -> None:
        """Set fields by name, but no methods and nothing that follows from other fields."""
        for name, value in values.items():
            part = getattr(type(self), name, None)
            is_derived = isinstance(part, property) and part.fset is None
            if name.startswith("__") or callable(part) or is_derived:
                raise ValueError(f"{shown(name)} is a part of {type(self).__name__} that cannot be set; remove it.")
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        name = self.attribute_map.get(name, name)
        super().__setattr__(name, FIELD_READERS[name](value) if name in FIELD_READERS else value)

    # What follows from the fields

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        return Architecture()

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
        return self.return_dict and not self.torchscript

    @property
    def torch_dtype(self) -> Any:
        """The dtype of the weights in the checkpoint: a name, or where torch is imported the `torch.dtype`."""
        name = vars(self).get("torch_dtype")
        torch = sys.modules.get("torch")
        return name if name is None or torch is None else getattr(torch, name, name)

    @torch_dtype.setter
    def torch_dtype(self, value: Any) -> None:
        # A dtype's bare name: "float32" for "torch.float32" and for torch.float32.
        vars(self)["torch_dtype"] = None if value is None else str(value).removeprefix("torch.")

    @property
    def dtype(self) -> Any:
        """`torch_dtype`, as transformers 5 calls it."""
        return self.torch_dtype

    @dtype.setter
    def dtype(self, value: Any) -> None:
        self.torch_dtype = value

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
        return grid_of(self.image_shape, self.patch_shape)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def mlp_act(self) -> str | Callable[..., Any]:
        """Activation of the MLP, or of its gate."""
        return self.hidden_act

    @property
    def pooler_size(self) -> int:
        """Width of the pooler's output."""
        return self.pooler_output_size or self.hidden_size

    @property
    def pooler_heads(self) -> int:
        """How many heads a pooler has that attends."""
        return self.num_attention_heads

    @property
    def pooler_mlp_size(self) -> int:
        """Width of its MLP."""
        return self.intermediate_size

    @property
    def classifier_input_size(self) -> int:
        """Width of what the classifier reads: `pooler_size` if that is the output of a dense pooler."""
        architecture = self.architecture
        if architecture.classifier_reads == "class-and-mean":
            return 2 * self.hidden_size
        reads_dense = architecture.classifier_reads == "pooler" and architecture.pooler == "dense"
        return self.pooler_size if reads_dense else self.hidden_size

    def kept_head_count(self, layer: int | None) -> int:
        """How many attention heads of a layer are not pruned; all without a layer."""
        return self.num_attention_heads - (0 if layer is None else len(set(self.pruned_heads.get(layer, ()))))

    def kept_heads(self, layer: int | None) -> list[int]:
        """The attention heads of a layer that are not pruned, in their original numbering; all without a layer."""
        pruned = set() if layer is None else set(self.pruned_heads.get(layer, ()))
        return [head for head in range(self.num_attention_heads) if head not in pruned]

    def infer_problem_type(self, integer_labels: bool, num_labels: int | None = None) -> str:
        """The kind of problem that labels imply when `problem_type` does not say: a number, a class, or several.

        Args:
            integer_labels: whether the labels are whole numbers.
            num_labels: how many labels the classifier has, if not those of the config.
        """
        if (self.num_labels if num_labels is None else num_labels) == 1:
            return "regression"
        return "single_label_classification" if integer_labels else "multi_label_classification"

    # Checking

    def validate(self) -> None:
        """Check that such a model can exist; models check again when they are built, since fields can be set.

        Raises:
            ValueError: a value is impossible; the message names the field and the value.
        """
        for name in ("hidden_size", "intermediate_size", "num_channels"):
            require_integer(name, getattr(self, name, None), 1, LARGEST_SIZE)
        require_integer("num_attention_heads", self.num_attention_heads, 1, LARGEST_HEAD_COUNT)
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
            raise ValueError(f"classifier_uses_pooler is {shown(self.classifier_uses_pooler)}; give True or False.")
        require_integer("num_labels", self.num_labels, 0, LARGEST_LABEL_COUNT)
        require_choice("attn_implementation", self.attn_implementation, ATTENTION_IMPLEMENTATIONS)
        named = self.architectures
        if named is not None and not (isinstance(named, list | tuple) and all(isinstance(each, str) for each in named)):
            raise ValueError(f"architectures is {shown(named)}; give a list of names of classes.")
        if self.problem_type is not None:
            require_choice("problem_type", self.problem_type, PROBLEM_TYPES)
        self.pruned_heads = _counted_from_the_first(self.pruned_heads, self.num_hidden_layers)
        for layer, heads in self.pruned_heads.items():
            if bad := [head for head in heads if not 0 <= head < self.num_attention_heads]:
                raise ValueError(
                    f"pruned_heads names head {bad[0]} of layer {layer}; a layer has {self.num_attention_heads} heads."
                )
            if not self.kept_head_count(layer):
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
            raise ValueError(f"id2label has the keys {listed(id2label)}; give class numbers.") from None
        if odd := [label for label in self.id2label.values() if isinstance(label, dict | list | set)]:
            raise ValueError(f"id2label names a class {shown(odd[0])}; give text.")
        if count is not None and count != len(self.id2label):
            warnings.warn(f"num_labels={count} is ignored: id2label names {len(self.id2label)} classes.", stacklevel=4)
        if label2id is None:
            label2id = {label: number for number, label in self.id2label.items()}
        elif not isinstance(label2id, Mapping):
            raise ValueError(f"label2id is a {type(label2id).__name__}; give a mapping of names to class numbers.")
        self.label2id = dict(label2id)

    def replaced(self, **changes: Any) -> Self:
        """A copy of the same class with some fields set anew.

        Args:
            **changes: the fields' new values. With `num_labels` classes are named anew, with `id2label` so is
                `label2id` unless it is given.

        Raises:
            ValueError: a value is impossible.
        """
        copied = copy.deepcopy(self)
        labels = {name: changes.pop(name) for name in ("id2label", "label2id", "num_labels") if name in changes}
        if labels.get("id2label") is not None:
            copied._set_labels(labels["id2label"], labels.get("label2id"), labels.get("num_labels"))
        else:
            for name, value in labels.items():
                if value is not None:
                    setattr(copied, name, value)
        if self.describes(changes.get("model_type")):
            del changes["model_type"]
        copied._set_fields(changes)
        copied.validate()
        return copied

    # Files

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str],
        *,
        cache_dir: str | PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = "main",
        subfolder: str | None = "",
        return_unused_kwargs: bool = False,
        **overrides: Any,
    ) -> Any:
        """Read the config of a checkpoint.

        Args:
            pretrained_model_name_or_path: a folder, a JSON file, a Hub id, or a checkpoint that ships with the package.
            cache_dir: where downloads are kept; huggingface_hub's cache unless given.
            force_download: download again what is in the cache.
            local_files_only: never ask the network.
            token: access token for the Hub; huggingface_hub's own unless given.
            revision: branch, tag or commit on the Hub.
            subfolder: folder inside the repository.
            return_unused_kwargs: also return what in `overrides` is no field.
            **overrides: fields to set, as in the constructor, and the options of `vit_core.loading_options`.

        Returns:
            The config, or (config, unused) with `return_unused_kwargs`.

        Raises:
            OSError: there is no such checkpoint, or it cannot be reached.
            ValueError: the file is no such config, or a value is impossible.
        """
        location = {
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token,
            "revision": revision,
            "subfolder": subfolder,
        }
        values, overrides = cls._read(pretrained_model_name_or_path, {**overrides, **location})
        if values and not values.keys() & {"model_type", "hidden_size"}:
            raise ValueError(
                f"{pretrained_model_name_or_path} has a {CONFIG_NAME} in other terms than a {cls.__name__}'s; "
                f"conversion.load(...).config may know them."
            )
        config, unused = cls.from_dict(values, return_unused_kwargs=True, **overrides)
        config.name_or_path = pretrained_model_name_or_path
        if return_unused_kwargs:
            return config, unused
        _warn_of_unused(cls.__name__, unused)
        return config

    @classmethod
    def _read(
        cls, model_id_or_path: str | PathLike[str], options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a checkpoint's `config.json` says, and the options that are left."""
        location, rest = place_and_rest(options)
        source = locate(model_id_or_path, **location)
        return read_json_file(source.require(config_name(source))), rest

    @classmethod
    def from_json_file(cls, json_file: str | PathLike[str]) -> Self:
        """Read a config from a JSON file."""
        return cls.from_dict(read_json_file(Path(json_file)))

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], *, return_unused_kwargs: bool = False, **overrides: Any) -> Any:
        """Build a config from what `to_dict` or a JSON file gives, with some fields set anew.

        Args:
            config_dict: the fields. Other keys are kept and written back.
            return_unused_kwargs: also return what in `overrides` is no field.
            **overrides: fields to set anew. What is no field is left out, with a warning unless it is returned.

        Returns:
            The config, or (config, unused) with `return_unused_kwargs`.

        Raises:
            ValueError: a value is impossible.
        """
        config_dict, known = cls.fields_in(config_dict), cls()
        fields = {name: value for name, value in overrides.items() if name in config_dict or hasattr(known, name)}
        unused = {name: value for name, value in overrides.items() if name not in fields}
        config = cls(**{**_without_replaced(config_dict, fields), **fields})
        if return_unused_kwargs:
            return config, unused
        _warn_of_unused(cls.__name__, unused)
        return config

    @classmethod
    def fields_in(cls, config_dict: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that the content of a file gives such a config, wherever in it they lie."""
        return dict(config_dict)

    def save_pretrained(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **pushing: Any) -> None:
        """Write `config.json` into a folder, which is made if need be.

        Args:
            save_directory: the folder.
            push_to_hub: also upload it to the Hub.
            **pushing: `repo_id` (the folder's name unless given) and other options of `push_to_hub`.

        Raises:
            OSError: it cannot be written; what was there before is untouched.
            TypeError: a field, such as an activation given as a function, has no JSON form.
        """
        write_file(Path(save_directory) / CONFIG_NAME, self.to_json_string().encode())
        push_if_asked(save_directory, push_to_hub, pushing)

    def to_dict(self) -> dict[str, Any]:
        """Every field, as plain values that belong to the caller."""
        fields = {
            name: value.to_dict() if isinstance(value, PretrainedConfig) else value
            for name, value in vars(self).items()
            if name not in RUN_SETTINGS
        }
        return copy.deepcopy({**fields, "model_type": self.model_type})

    def to_diff_dict(self) -> dict[str, Any]:
        """What is saved: the fields that describe the model, and general settings that are not at their default."""
        defaults = {**GENERAL_DEFAULTS, **GENERAL_SETTINGS}
        return {
            name: value for name, value in self.to_dict().items() if name not in defaults or value != defaults[name]
        }

    def to_json_string(self, use_diff: bool = True) -> str:
        """The content of `config.json`: sorted keys, two spaces of indentation, a final line break.

        What would have other programs run code, such as `auto_map`, is left out, whoever set it; see
        `vit_core.named_code`.
        """
        values = without_code(self.to_diff_dict() if use_diff else self.to_dict())
        try:
            return _as_json(values) + "\n"
        except TypeError:
            bad = next(name for name, value in values.items() if not _has_json_form(value))
            raise TypeError(
                f"{bad} is {shown(values[bad])}, which a JSON file cannot hold; use a name, number or list instead."
            ) from None

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # fields can be set

    def __repr__(self) -> str:
        return f"{type(self).__name__} " + _as_json(self.to_diff_dict(), default=repr)


def config_name(source: ModelSource) -> str:
    """The JSON file that the user named, or the one that a checkpoint has."""
    return source.weights if source.weights and is_json_file(source.weights) else CONFIG_NAME


def _as_tuple(value: Any) -> Any:
    """A list, which is what JSON makes of a tuple such as (height, width), as a tuple; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def _as_pair(value: Any, name: str = "size") -> tuple[int, int]:
    if isinstance(value, (tuple, list)):  # a union of types is not traced by torch 2.7
        if len(value) != 2:
            raise ValueError(f"{name} is {shown(value)}; give one number or (height, width).")
        return value[0], value[1]
    return value, value


def _as_pruned_heads(value: Any) -> dict[int, list[int]]:
    try:
        return {int(layer): sorted(int(head) for head in heads) for layer, heads in (value or {}).items() if heads}
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise ValueError(f"pruned_heads is {shown(value)}; give {{layer: [heads]}}.") from None


def _counted_from_the_first(pruned_heads: dict[int, list[int]], layers: int) -> dict[int, list[int]]:
    """Pruned heads whose layers are counted from the first one; -1 is the last one."""
    counted: dict[int, list[int]] = {}
    for layer, heads in pruned_heads.items():
        if not -layers <= layer < layers:
            raise ValueError(f"pruned_heads names layer {layer}; the model has {layers} layers.")
        counted[layer % layers] = sorted({*heads, *counted.get(layer % layers, ())})
    return counted


def _as_attention(name: Any) -> Any:
    """The attention implementation; None is the usual one."""
    if name in FASTER_ATTENTION:
        warnings.warn(
            f"attn_implementation={name!r} is not here; 'sdpa' is used, which picks the fastest kernel that the device "
            f"has.",
            stacklevel=4,
        )
        return "sdpa"
    return ATTENTION_IMPLEMENTATIONS[0] if name is None else name


#: What makes a field of what a caller or a file gives.
FIELD_READERS: dict[str, Callable[[Any], Any]] = {
    "attn_implementation": _as_attention,
    "image_size": _as_tuple,
    "patch_size": _as_tuple,
    "prefix_tokens": _as_tuple,
    "pruned_heads": _as_pruned_heads,
    "rotary_grid": _as_tuple,
}


def _without_replaced(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Fields without those that others which are set anew make stale."""
    stale: tuple[str, ...] = ()
    if overrides.get("id2label") is not None:
        stale = ("num_labels", "label2id")
    elif overrides.get("num_labels") not in (None, len(values.get("id2label") or GENERAL_DEFAULTS["id2label"])):
        stale = ("id2label", "label2id")
    if overrides.get("dtype") is not None or overrides.get("torch_dtype") is not None:
        stale = (*stale, "dtype", "torch_dtype")
    return {name: value for name, value in values.items() if name not in stale}


def _warn_of_unused(config: str, unused: Mapping[str, Any]) -> None:
    if unused:
        warnings.warn(f"{config} has no {', '.join(unused)}, which is left out; set fields that exist.", stacklevel=4)


def _as_json(values: Any, default: Callable[[Any], Any] | None = None) -> str:
    """JSON with sorted names; those of several kinds, as `label2id` has if classes are called "cat" and 5, as text."""
    try:
        return json.dumps(values, indent=2, sort_keys=True, default=default)
    except TypeError:
        return json.dumps(_in_order_of_text(values), indent=2, default=default)


def _in_order_of_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _in_order_of_text(value[name]) for name in sorted(value, key=str)}
    return [_in_order_of_text(each) for each in value] if isinstance(value, list | tuple) else value


def _has_json_form(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _require_activation(name: str, value: Any) -> None:
    if not callable(value):
        require_choice(name, value, ACTIVATION_NAMES)
