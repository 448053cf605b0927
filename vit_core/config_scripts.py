"""What scripts for transformers 4 do with a config and nothing else here needs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

from vit_core.saving import write_file

#: Settings of text models and of training that every config of transformers has, with what they are there.
#: They change nothing in a Vision Transformer; one that is set is kept and written back.
GENERAL_SETTINGS: dict[str, Any] = {
    "_commit_hash": None,
    "add_cross_attention": False,
    "bos_token_id": None,
    "chunk_size_feed_forward": 0,
    "cross_attention_hidden_size": None,
    "eos_token_id": None,
    "finetuning_task": None,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "pad_token_id": None,
    "prefix": None,
    "sep_token_id": None,
    "task_specific_params": None,
    "tf_legacy_loss": False,
    "tie_encoder_decoder": False,
    "tie_word_embeddings": True,
    "tokenizer_class": None,
    "transformers_version": None,
    "use_bfloat16": False,
}


class ScriptConfig:
    """The methods of transformers' configs that Trivit itself has no use for."""

    is_composition: ClassVar[bool] = False
    sub_configs: ClassVar[dict[str, type]] = {}
    base_config_key: ClassVar[str] = ""
    attribute_map: ClassVar[dict[str, str]] = {}  # other names of fields, for a subclass to fill
    _commit_hash: str | None = None  # the Hub's commit, which transformers' pipeline asks for
    _name_or_path: str = ""

    def __getattr__(self, name: str) -> Any:  # asked for what is not there
        if name in type(self).attribute_map:
            return getattr(self, type(self).attribute_map[name])
        if name in GENERAL_SETTINGS:
            return GENERAL_SETTINGS[name]
        raise AttributeError(f"{type(self).__name__} has no {name!r}; set it, or check its spelling.")

    def __iter__(self) -> Iterator[str]:
        """The names of the fields."""
        return iter(self.to_dict())

    @property
    def name_or_path(self) -> str:
        """Where the config was loaded from; a note for this run, which no file gets."""
        return self._name_or_path or ""

    @name_or_path.setter
    def name_or_path(self, name: str) -> None:
        self._name_or_path = str(name)

    def get_text_config(self, *args: Any, **kwargs: Any) -> Self:
        """This config: a Vision Transformer has no other part that would have one of its own."""
        return self

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | PathLike[str], **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a checkpoint's `config.json` says, unchecked, and the options that are not about finding it."""
        return cls._read(pretrained_model_name_or_path, options)

    def update(self, config_dict: Mapping[str, Any]) -> None:
        """Set fields anew.

        Args:
            config_dict: their values by name.

        Raises:
            ValueError: a value is impossible; no field is changed then.
        """
        vars(self).update(vars(self.replaced(**config_dict)))

    def update_from_string(self, update_str: str) -> None:
        """Set fields from text, such as "hidden_dropout_prob=0.1,qkv_bias=false".

        Args:
            update_str: names and values; a value is read as the type of the one that it replaces.

        Raises:
            ValueError: there is no such field, or the value is of another type.
        """
        changes = {}
        for pair in update_str.split(","):
            name, separator, text = pair.strip().partition("=")
            if not separator or name not in self.to_dict():
                raise ValueError(f"{pair.strip()!r} sets no field of this config; give field=value,field=value.")
            changes[name] = _parsed(name, text, getattr(self, name))
        self.update(changes)

    def to_json_file(self, json_file_path: str | PathLike[str], use_diff: bool = True) -> None:
        """Write the config to a file of any name; see `save_pretrained` for a checkpoint's."""
        write_file(Path(json_file_path), self.to_json_string(use_diff).encode())

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Do nothing: a checkpoint holds no code. `AutoConfig.register` makes a class known to this process."""

    # For the methods above; see PretrainedConfig.
    to_dict: Any
    to_json_string: Any
    replaced: Any
    _read: Any


def _parsed(name: str, text: str, old: Any) -> Any:
    """The text as a value of the type of the old one."""
    try:
        if isinstance(old, bool):
            return {
                "true": True,
                "1": True,
                "y": True,
                "yes": True,
                "false": False,
                "0": False,
                "n": False,
                "no": False,
            }[text.lower()]
        if isinstance(old, int | float):
            return type(old)(text)
        return text if isinstance(old, str) else json.loads(text)
    except (KeyError, ValueError):
        raise ValueError(f"{name}={text!r} is no value for a {type(old).__name__}; it is {old!r} now.") from None
