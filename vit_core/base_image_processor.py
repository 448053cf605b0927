"""What all image processors have in common: settings that are attributes, files of settings, calls."""

from __future__ import annotations

import copy
import json
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from vit_core.batch_feature import BatchFeature, check_tensor_type
from vit_core.checks import shown
from vit_core.file_names import PROCESSOR_NAME
from vit_core.image_batch import Process, process_batch
from vit_core.image_processor_scripts import ScriptMethods
from vit_core.image_settings import Steps, check_setting, steps_of
from vit_core.image_settings_file import TYPE_KEYS, find_settings, read_settings
from vit_core.image_step_methods import StepMethods, has_steps_of_its_own, process_by_methods
from vit_core.images import ChannelDimension
from vit_core.loading_options import NEVER_SAVED
from vit_core.named_code import without_code
from vit_core.push import Pushable, push_if_asked
from vit_core.saving import write_file

#: Keys of a file that are the class's to say, and are not kept.
CLASS_KEYS = {*TYPE_KEYS, "model_input_names"}

#: Settings of which no file has a say, since they are not a checkpoint's.
CALLERS_SETTINGS = {"draft"}


class BaseImageProcessor(StepMethods, ScriptMethods, Pushable, ABC):
    """What all image processors have in common: their settings are attributes, read from and written to one file.

    Assigning a setting checks it. Keys of a file that are no settings are kept as attributes and written back.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values"]
    _saved_as: ClassVar[str]  # of a class that is saved under another name than its own
    _setting_names: ClassVar[tuple[str, ...]]
    _rescales_first: ClassVar[bool] = False
    _defaults: ClassVar[Mapping[str, Any]]  # of settings for which None stands

    do_resize: bool | None
    size: dict[str, int]
    resample: Image.Resampling
    do_rescale: bool | None
    rescale_factor: float
    do_normalize: bool | None
    image_mean: float | list[float]
    image_std: float | list[float]
    draft: bool | None

    def __init__(self, arguments: Mapping[str, Any], others: Mapping[str, Any]) -> None:
        """Set the settings.

        Args:
            arguments: the settings by name, among any other local variables of a constructor.
            others: other keys of a settings file.
        """
        settings = {name: arguments[name] for name in self._setting_names}
        settings |= {name: value for name, value in self._defaults.items() if settings[name] is None}
        for name, value in [*settings.items(), *others.items()]:
            if name in CLASS_KEYS:
                continue
            if hasattr(type(self), name):
                raise ValueError(f"{shown(name)} is a part of {type(self).__name__} that cannot be set; remove it.")
            setattr(self, name, value)
        self._steps({})

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, check_setting(name, value) if name in self._setting_names else value)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = "main",
        *,
        subfolder: str | None = "",
        return_unused_kwargs: bool = False,
        **overrides: Any,
    ) -> Any:
        """The processor of a checkpoint, from its `preprocessor_config.json`.

        Args:
            pretrained_model_name_or_path: a folder, a JSON file of settings, a bundled checkpoint, or a Hub id (see
                `vit_core.hub.locate`).
            cache_dir: where downloads are kept.
            force_download: download again what is in the cache.
            local_files_only: never use the network.
            token: a Hub token.
            revision: branch, tag or commit on the Hub.
            subfolder: folder inside the model's folder.
            return_unused_kwargs: also return what in `overrides` is no setting.
            **overrides: settings to use instead of the file's; None stands for the file's. What is no setting is left
                out, with a warning unless it is returned. Other options of transformers' `from_pretrained` are
                accepted and never become settings.

        Returns:
            The processor, or (processor, unused) with `return_unused_kwargs`.

        Raises:
            OSError: the file is not there or cannot be downloaded.
            TypeError: a setting is of a wrong type.
            ValueError: the file is no JSON object, or a setting is impossible.
        """
        location = {
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token,
            "revision": revision,
            "subfolder": subfolder,
        }
        source, rest = find_settings(pretrained_model_name_or_path, {**overrides, **location})
        return cls.from_dict(read_settings(source), return_unused_kwargs=return_unused_kwargs, **rest)

    @classmethod
    def from_dict(
        cls, image_processor_dict: Mapping[str, Any], *, return_unused_kwargs: bool = False, **overrides: Any
    ) -> Any:
        """The processor with these settings.

        Args:
            image_processor_dict: settings as `to_dict` returns them; what is missing has its default.
            return_unused_kwargs: also return what in `overrides` is no setting.
            **overrides: settings to use instead; None stands for that of the dict. What is no setting is left out,
                with a warning unless it is returned.

        Returns:
            The processor, or (processor, unused) with `return_unused_kwargs`.

        Raises:
            TypeError: a setting is of a wrong type.
            ValueError: a setting is impossible.
        """
        written = {name: value for name, value in image_processor_dict.items() if name not in CALLERS_SETTINGS}
        known = {name for name in overrides if name in cls._setting_names or name in written}
        chosen = {name: overrides[name] for name in known if overrides[name] is not None or name.startswith("do_")}
        processor = cls(**{**written, **chosen})
        unused = {}
        for name, value in overrides.items():
            if name in vars(processor) and name not in known:  # what a subclass's constructor has set
                setattr(processor, name, value)
            elif name not in known:
                unused[name] = value
        if return_unused_kwargs:
            return processor, unused
        if ignored := [name for name in unused if name != "use_fast"]:  # which is for the automatic class
            warnings.warn(
                f"{cls.__name__} has no setting {', '.join(ignored)}, which is left out; it has "
                f"{', '.join(cls._setting_names)}.",
                UserWarning,
                stacklevel=3,
            )
        return processor

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **pushing: Any
    ) -> list[str]:
        """Write the settings to `preprocessor_config.json`, which transformers reads too.

        Args:
            save_directory: a checkpoint's folder; made if need be.
            push_to_hub: also upload it to the Hub.
            **pushing: `repo_id` (the folder's name unless given) and other options of `push_to_hub`.

        Returns:
            The path of the file, in a list.

        Raises:
            OSError: it cannot be written; what was there before is untouched.
        """
        path = Path(save_directory) / PROCESSOR_NAME
        write_file(path, self.to_json_string().encode())
        push_if_asked(save_directory, push_to_hub, pushing)
        return [str(path)]

    def to_dict(self) -> dict[str, Any]:
        """The settings and other keys as JSON has them, with the processor's type."""
        settings = copy.deepcopy(self._kept())
        type_name = vars(type(self)).get("_saved_as", type(self).__name__)
        return {**settings, "resample": int(self.resample), TYPE_KEYS[0]: type_name}

    def to_json_string(self) -> str:
        """The settings as transformers writes them: sorted JSON and a line feed, without what names code.

        Raises:
            TypeError: an attribute that is no setting has no JSON form.
        """
        return json.dumps(without_code(self.to_dict()), indent=2, sort_keys=True, default=_as_json) + "\n"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseImageProcessor) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # settings can be assigned

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._kept().items())})"

    def _kept(self) -> dict[str, Any]:
        """The settings and other keys, without those that no file gets."""
        return {name: value for name, value in vars(self).items() if name not in NEVER_SAVED | CALLERS_SETTINGS}

    def __call__(self, images: Any, *choices: Any, **options: Any) -> BatchFeature:
        """The same as `preprocess`."""
        return self.preprocess(images, *choices, **options)

    @abstractmethod
    def preprocess(self, images: Any, *choices: Any, **options: Any) -> BatchFeature:
        """Make a model's input of images."""

    def _steps(
        self,
        choices: Mapping[str, Any],
        data_format: str = ChannelDimension.FIRST,
        input_data_format: str | None = None,
    ) -> Steps:
        """The steps of a call, in which choices that are not None replace settings; others may be among them."""
        settings = {
            name: getattr(self, name) if choices.get(name) is None else check_setting(name, choices[name])
            for name in self._setting_names
        }
        return replace(steps_of(settings, data_format, input_data_format), rescales_first=self._rescales_first)

    def _run(
        self,
        images: Any,
        choices: Mapping[str, Any],
        return_tensors: str | None,
        data_format: str,
        input_data_format: str | None,
        unknown: Mapping[str, Any],
    ) -> BatchFeature:
        self._warn_of_unknown(unknown)
        check_tensor_type(return_tensors)
        steps = self._steps(choices, data_format, input_data_format)
        pixel_values = self._process()(images, steps)
        return BatchFeature({"pixel_values": pixel_values if return_tensors else list(pixel_values)}, return_tensors)

    def _process(self) -> Process:
        """What takes images through the steps: one by one where a subclass has steps of its own."""
        return partial(process_by_methods, self) if has_steps_of_its_own(self) else process_batch

    def _warn_of_unknown(self, options: Mapping[str, Any]) -> None:
        if options:
            warnings.warn(
                f"{type(self).__name__} has no {', '.join(options)}, and ignores it.", UserWarning, stacklevel=5
            )


def _as_json(value: Any) -> Any:
    """What JSON does not know and NumPy can say."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{shown(value)} cannot be saved: a {type(value).__name__} has no JSON form; keep it elsewhere.")
