"""What all image processors have in common: settings that are attributes, files of settings, calls."""

from __future__ import annotations

import copy
import json
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from PIL import Image

from vit_core.batch_feature import BatchFeature, check_tensor_type
from vit_core.file_names import PROCESSOR_NAME
from vit_core.hub import locate
from vit_core.image_batch import process_batch
from vit_core.image_settings import Steps, check_setting, steps_of
from vit_core.images import ChannelDimension
from vit_core.json_file import read_json_file
from vit_core.push import Pushable
from vit_core.saving import write_file

#: The keys under which files say what they are for; files older than transformers 4.26 have the second.
TYPE_KEYS = ("image_processor_type", "feature_extractor_type")
#: Keys of a file that are the class's to say, and are not kept.
CLASS_KEYS = {*TYPE_KEYS, "model_input_names"}
#: Arguments of transformers' from_pretrained that change nothing here.
WITHOUT_MEANING = {"use_fast", "trust_remote_code", "resume_download", "proxies"}


class BaseImageProcessor(Pushable, ABC):
    """What all image processors have in common: their settings are attributes, read from and written to one file.

    Assigning a setting checks it. Keys of a file that are no settings are kept as attributes and written back.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values"]
    _type_name: ClassVar[str]
    _setting_names: ClassVar[tuple[str, ...]]

    do_resize: bool | None
    size: dict[str, int]
    resample: Image.Resampling
    do_rescale: bool | None
    rescale_factor: float
    do_normalize: bool | None
    image_mean: float | list[float]
    image_std: float | list[float]

    def __init__(self, settings: Mapping[str, Any], others: Mapping[str, Any]) -> None:
        for name, value in [*settings.items(), *others.items()]:
            if name in CLASS_KEYS:
                continue
            if hasattr(type(self), name):
                raise ValueError(f"{name!r} is a part of {type(self).__name__} that cannot be set; remove it.")
            setattr(self, name, value)
        self._steps({})

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, check_setting(name, value) if name in self._setting_names else value)

    @classmethod
    def from_pretrained(
        cls,
        model_id_or_path: str | os.PathLike[str],
        *,
        revision: str | None = "main",
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        subfolder: str = "",
        **overrides: Any,
    ) -> Self:
        """The processor of a checkpoint, from its `preprocessor_config.json`.

        Args:
            model_id_or_path: a folder, a bundled checkpoint, or a Hub id (see `vit_core.hub.locate`).
            revision: branch, tag or commit on the Hub.
            cache_dir: where downloads are kept.
            token: a Hub token.
            local_files_only: never use the network.
            force_download: download again what is in the cache.
            subfolder: folder inside the model's folder.
            **overrides: settings to use instead of the file's.

        Returns:
            The processor.

        Raises:
            OSError: the file is not there or cannot be downloaded.
            TypeError: an override is no setting.
            ValueError: the file is no JSON object, or a setting is impossible.
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
        return cls.from_dict(read_json_file(source.require(PROCESSOR_NAME)), **overrides)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any], **overrides: Any) -> Self:
        """The processor with these settings.

        Args:
            settings: as `to_dict` returns them; what is missing has its default.
            **overrides: settings to use instead.

        Returns:
            The processor.

        Raises:
            TypeError: an override is no setting.
            ValueError: a setting is impossible.
        """
        overrides = {name: value for name, value in overrides.items() if name not in WITHOUT_MEANING}
        unknown = overrides.keys() - {*cls._setting_names, *settings}
        if unknown:
            raise TypeError(
                f"{', '.join(sorted(unknown))}: {cls.__name__} has no such setting; "
                f"it has {', '.join(cls._setting_names)}."
            )
        return cls(**{**settings, **overrides})

    def save_pretrained(self, folder: str | os.PathLike[str]) -> list[str]:
        """Write the settings to `preprocessor_config.json`, which transformers reads too.

        Args:
            folder: a checkpoint's folder; made if need be.

        Returns:
            The path of the file, in a list.

        Raises:
            OSError: it cannot be written; what was there before is untouched.
        """
        path = Path(folder) / PROCESSOR_NAME
        write_file(path, self.to_json_string().encode())
        return [str(path)]

    def to_dict(self) -> dict[str, Any]:
        """The settings and other keys as JSON has them, with the processor's type."""
        settings = copy.deepcopy(vars(self))
        return {**settings, "resample": int(self.resample), TYPE_KEYS[0]: self._type_name}

    def to_json_string(self) -> str:
        """The settings as transformers writes them: sorted JSON and a line feed."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseImageProcessor) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # settings can be assigned

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def __call__(self, images: Any, **options: Any) -> BatchFeature:
        """The same as `preprocess`."""
        return self.preprocess(images, **options)

    @abstractmethod
    def preprocess(self, images: Any, **options: Any) -> BatchFeature:
        """Make a model's input of images."""

    def _steps(
        self,
        choices: Mapping[str, Any],
        data_format: str = ChannelDimension.FIRST,
        input_data_format: str | None = None,
    ) -> Steps:
        """The steps of a call, in which choices that are not None replace settings."""
        settings = {
            name: getattr(self, name) if choices.get(name) is None else check_setting(name, choices[name])
            for name in self._setting_names
        }
        return steps_of(settings, data_format, input_data_format)

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
        pixel_values = process_batch(images, self._steps(choices, data_format, input_data_format))
        return BatchFeature({"pixel_values": pixel_values if return_tensors else list(pixel_values)}, return_tensors)

    def _warn_of_unknown(self, options: Mapping[str, Any]) -> None:
        if options:
            warnings.warn(
                f"{type(self).__name__} has no {', '.join(options)}, and ignores it.", UserWarning, stacklevel=5
            )
