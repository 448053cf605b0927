"""The Auto classes: from a checkpoint's `model_type` to its config and model, as one table.

A backend makes its classes of it (`vit_torch/auto.py`, ...): a subclass of `AutoModelClass` for each task, with the
models by type.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from vit_core.checks import shown
from vit_core.config import PretrainedConfig, config_name
from vit_core.families import CONFIG_CLASSES
from vit_core.families.vit import ViTConfig
from vit_core.hub import ModelSource, locate
from vit_core.json_file import read_json_file
from vit_core.loading_options import place_and_rest

#: The class of a config, and what it has under "architectures".
Described = tuple[type[PretrainedConfig], Any]

#: The config of each model type.
CONFIGS: dict[str, type[PretrainedConfig]] = dict(CONFIG_CLASSES)


class AutoConfig:
    """Finds out which config a checkpoint has; see `from_pretrained`."""

    def __init__(self) -> None:
        raise OSError(
            "AutoConfig is not made directly; call AutoConfig.from_pretrained(model) or AutoConfig.for_model."
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any) -> Any:
        """The config of a checkpoint, of the class that its `model_type` names.

        Args:
            pretrained_model_name_or_path: a folder, a Hub id, or a checkpoint that ships with the package.
            **options: see `PretrainedConfig.from_pretrained`.

        Raises:
            OSError: there is no such checkpoint, or it cannot be reached.
            ValueError: the model type is none that is known here, or the file is no config.
        """
        return described(pretrained_model_name_or_path, options)[0].from_pretrained(
            pretrained_model_name_or_path, **options
        )

    @classmethod
    def for_model(cls, model_type: str, *args: Any, **fields: Any) -> PretrainedConfig:
        """A config of a model type, with fields as its constructor takes them.

        Raises:
            ValueError: the model type is none that is known here, or a value is impossible.
        """
        return config_class(model_type, "for_model")(*args, **fields)

    @staticmethod
    def register(model_type: str, config: type[PretrainedConfig], exist_ok: bool = False) -> None:
        """Make a config class of one's own known, for this process.

        Args:
            model_type: the `model_type` of the class.
            config: the class.
            exist_ok: whether it may take the place of another.

        Raises:
            ValueError: the class has another model type, or the type is known already.
        """
        if config.model_type != model_type:
            raise ValueError(
                f"{config.__name__} has the model_type {config.model_type!r}, but is registered for {model_type!r}; "
                f"give both the same."
            )
        if CONFIGS.get(model_type, config) is not config and not exist_ok:
            raise ValueError(
                f"{model_type!r} is known already, as {CONFIGS[model_type].__name__}; choose another model_type, or "
                f"pass exist_ok=True."
            )
        CONFIGS[model_type] = config


class AutoModelClass:
    """Finds out which model of one task a checkpoint or a config is for; a backend subclasses it for each task."""

    models: ClassVar[dict[type[PretrainedConfig], type[Any]]]
    #: Other models for the task, which are taken where a config names them under "architectures".
    named_models: ClassVar[dict[type[PretrainedConfig], type[Any]]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        raise OSError(f"{name} is not made directly; call {name}.from_pretrained(model) or {name}.from_config(config).")

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *model_args: Any, **options: Any
    ) -> Any:
        """Load a model of the class that the checkpoint's `model_type` names.

        Args:
            pretrained_model_name_or_path: as in `from_pretrained` of the models.
            *model_args: further arguments of the model's constructor.
            **options: see `from_pretrained` of the models.

        Raises:
            OSError: there is no such checkpoint, or it cannot be reached.
            ValueError: there is no such model here; or as in `from_pretrained` of the models.
        """
        config = options.get("config")
        if isinstance(config, str | os.PathLike):
            options["config"] = config = AutoConfig.from_pretrained(config)
        if config is not None:
            model_class = cls._model_class(type(config), config.architectures)
        elif pretrained_model_name_or_path is not None:
            model_class = cls._model_class(*described(pretrained_model_name_or_path, options, cls._of_unnamed))
        else:
            raise ValueError(f"{cls.__name__} has no checkpoint to load; give its folder or Hub id.")
        return model_class.from_pretrained(pretrained_model_name_or_path, *model_args, **options)

    @classmethod
    def from_config(cls, config: PretrainedConfig, **options: Any) -> Any:
        """A model with a random start.

        Args:
            config: the config; its class decides which model this is.
            **options: arguments of the model's `_from_config`.

        Raises:
            ValueError: there is no model for such a config.
        """
        return cls._model_class(type(config), config.architectures)._from_config(config, **options)

    @classmethod
    def register(cls, config_class: type[PretrainedConfig], model_class: type[Any], exist_ok: bool = False) -> None:
        """Make a model class of one's own known, for this process.

        Args:
            config_class: the class of its config.
            model_class: the class.
            exist_ok: whether it may take the place of another.

        Raises:
            ValueError: the model is for another config, or there is a model for such configs already.
        """
        if getattr(model_class, "config_class", config_class) is not config_class:
            raise ValueError(
                f"{model_class.__name__}.config_class is {model_class.config_class.__name__}, but it is registered for "
                f"{config_class.__name__}; set config_class = {config_class.__name__} in it."
            )
        if cls.models.get(config_class, model_class) is not model_class and not exist_ok:
            raise ValueError(
                f"{cls.__name__} has {cls.models[config_class].__name__} for {config_class.__name__} already; pass "
                f"exist_ok=True to replace it."
            )
        cls.models[config_class] = model_class

    @staticmethod
    def _of_unnamed(source: ModelSource, options: Mapping[str, Any]) -> Described:
        """What `described` returns where no file names a model type, as in other formats than ours."""
        return ViTConfig, None

    @classmethod
    def _model_class(cls, config_class: type[PretrainedConfig], architectures: Any) -> type[Any]:
        named = architectures[0] if isinstance(architectures, list) and architectures else None
        other = cls.named_models.get(config_class)
        if other is not None and isinstance(named, str) and other.__name__.endswith(named):  # a prefix is a backend's
            return other
        if config_class in cls.models:
            return cls.models[config_class]
        known = ", ".join(sorted(each.__name__ for each in cls.models))
        raise ValueError(f"{cls.__name__} has no model for a {config_class.__name__}; it has those for {known}.")


def described(
    model_id_or_path: str | os.PathLike[str],
    options: Mapping[str, Any],
    of_unnamed: Callable[[ModelSource, Mapping[str, Any]], Described] = AutoModelClass._of_unnamed,
) -> Described:
    """The class of a checkpoint's config, and what its `config.json` has under "architectures".

    Args:
        model_id_or_path: the checkpoint.
        options: those of `from_pretrained`.
        of_unnamed: tells both where no file names a type, as in other formats than ours.

    Raises:
        OSError: there is no such checkpoint, or it cannot be reached.
        ValueError: the model type is none that is known here.
    """
    location, _ = place_and_rest(options)
    source = locate(model_id_or_path, **location)
    name = config_name(source)
    file = None if source.weights not in (None, name) else source.file(name)
    said = {} if file is None else read_json_file(file)
    if (model_type := said.get("model_type")) is None:
        return of_unnamed(source, options)
    return config_class(model_type, source.name), said.get("architectures")


def config_class(model_type: Any, source: str) -> type[PretrainedConfig]:
    """The class for a model type.

    Raises:
        ValueError: it is none that is known here.
    """
    if not isinstance(model_type, str) or model_type not in CONFIGS:
        raise ValueError(
            f"{source}: the model type is {shown(model_type)}, and Trivit has {', '.join(sorted(CONFIGS))}; "
            f"AutoConfig.register makes one of your own known."
        )
    return CONFIGS[model_type]
