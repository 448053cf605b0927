"""AutoImageProcessor and AutoFeatureExtractor: from a checkpoint's files to its image processor, as two tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import Any, ClassVar

from vit_core.base_image_processor import BaseImageProcessor
from vit_core.checks import shown
from vit_core.families import CONFIG_CLASSES, family_of
from vit_core.file_names import CONFIG_NAME, PROCESSOR_NAME
from vit_core.hub import ModelSource
from vit_core.image_processing import (
    BeitImageProcessor,
    BitImageProcessor,
    CLIPImageProcessor,
    DeiTImageProcessor,
    DINOv3ViTImageProcessorFast,
    SiglipImageProcessor,
    ViTImageProcessor,
)
from vit_core.image_settings_file import TYPE_KEYS, find_settings, named_type, read_settings
from vit_core.json_file import read_json_file

#: The processor of each type that a file can name.
PROCESSORS: dict[str, type[BaseImageProcessor]] = {
    each.__name__: each
    for each in (
        *(ViTImageProcessor, DeiTImageProcessor, BeitImageProcessor, CLIPImageProcessor, BitImageProcessor),
        *(SiglipImageProcessor, DINOv3ViTImageProcessorFast),
    )
}
#: The type for the model type of a checkpoint whose file names none.
MODEL_TYPES: dict[str, str] = {name: family_of(each).image_processor for name, each in CONFIG_CLASSES.items()}

FAST = "Fast"  # ends the name of a type that works on an accelerator
OLD_ENDING, NEW_ENDING = "FeatureExtractor", "ImageProcessor"


class AutoImageProcessor:
    """Finds out which image processor a checkpoint has; see `from_pretrained`."""

    _processors: ClassVar[MutableMapping[str, type[BaseImageProcessor]]] = PROCESSORS

    def __init__(self) -> None:
        name = type(self).__name__
        raise OSError(f"{name} is not made directly; call {name}.from_pretrained(model).")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *inputs: Any,
        config: Any = None,
        use_fast: bool | None = None,
        **options: Any,
    ) -> Any:
        """The processor of a checkpoint, of the type that its `preprocessor_config.json` names.

        A file that names none is for the `model_type` of the config.

        Args:
            pretrained_model_name_or_path: a folder, a JSON file of settings, a bundled checkpoint, or a Hub id (see
                `vit_core.hub.locate`).
            *inputs: accepted and without effect, as in transformers.
            config: the model's config, instead of the `config.json` beside the file.
            use_fast: whether to take the type's fast class where this package has it; as the file says unless given.
                Without one, the settings and the results are those of the other class.
            **options: settings to use instead of the file's, `cache_dir`, `force_download`, `local_files_only`,
                `token`, `revision`, `subfolder` and `return_unused_kwargs`; see `ViTImageProcessor.from_pretrained`.

        Returns:
            The processor, or (processor, unused) with `return_unused_kwargs`.

        Raises:
            OSError: the file is not there or cannot be downloaded.
            TypeError: a setting is of a wrong type.
            ValueError: the file is no JSON object, the type is unknown, or a setting is impossible.
        """
        source, rest = find_settings(pretrained_model_name_or_path, options)
        settings = cls._settings(source)
        type_name = named_type(settings) or _type_for_model(source, config)
        return cls._class(type_name, use_fast, source.name).from_dict(settings, **rest)

    @staticmethod
    def register(
        config_class: Any,
        image_processor_class: type[BaseImageProcessor] | None = None,
        slow_image_processor_class: type[BaseImageProcessor] | None = None,
        fast_image_processor_class: type[BaseImageProcessor] | None = None,
        exist_ok: bool = False,
    ) -> None:
        """Make an image processor of one's own known, for this process.

        It is found by its own name, which `save_pretrained` writes, and by the model type of its config.

        Args:
            config_class: the class of the model's config, or None if files name the processor.
            image_processor_class: the old name of the next argument.
            slow_image_processor_class: the processor.
            fast_image_processor_class: its fast class, for files that name it and for `use_fast=True`.
            exist_ok: whether they may take the place of others.

        Raises:
            ValueError: there is no processor to register, or there is one for this config or of this name already.
        """
        given = slow_image_processor_class or image_processor_class
        classes = [each for each in (given, fast_image_processor_class) if each is not None]
        if not classes:
            raise ValueError("there is nothing to register; give a slow_image_processor_class or a fast one.")
        model_type: str = getattr(config_class, "model_type", "")
        type_name = classes[0].__name__
        if not exist_ok and MODEL_TYPES.get(model_type, type_name) != type_name:
            raise ValueError(
                f"models of type {shown(model_type)} have a {MODEL_TYPES[model_type]} already; pass exist_ok=True to "
                f"replace it."
            )
        for each in classes:
            if not exist_ok and PROCESSORS.get(each.__name__, each) is not each:
                raise ValueError(f"there is a {each.__name__} already; rename yours, or pass exist_ok=True.")
        PROCESSORS.update({each.__name__: each for each in classes})
        if fast_image_processor_class is not None:
            PROCESSORS[type_name.removesuffix(FAST) + FAST] = fast_image_processor_class
        if model_type:
            MODEL_TYPES[model_type] = type_name

    @staticmethod
    def _settings(source: ModelSource) -> dict[str, Any]:
        return read_settings(source)

    @classmethod
    def _class(cls, type_name: str, use_fast: bool | None, source: str) -> type[BaseImageProcessor]:
        """The class for a type; the other of its two speeds where there is only that."""
        current = type_name.replace(OLD_ENDING, NEW_ENDING)
        plain = current.removesuffix(FAST)
        names = [plain, plain + FAST]
        if use_fast or (use_fast is None and current.endswith(FAST)):
            names.reverse()
        found = next((cls._processors[name] for name in names if name in cls._processors), None)
        if found is None:
            raise ValueError(
                f"{source}: {PROCESSOR_NAME} names the type {shown(type_name)}; known types are "
                f"{', '.join(PROCESSORS)}, and {cls.__name__}.register makes one of your own known."
            )
        return found


class AutoFeatureExtractor(AutoImageProcessor):
    """`AutoImageProcessor` under its name of old; what it finds are image processors."""

    @staticmethod
    def register(  # type: ignore[override]
        config_class: Any, feature_extractor_class: type[BaseImageProcessor], exist_ok: bool = False
    ) -> None:
        """As `AutoImageProcessor.register`, of one class."""
        AutoImageProcessor.register(config_class, slow_image_processor_class=feature_extractor_class, exist_ok=exist_ok)


def _type_for_model(source: ModelSource, config: Any) -> str:
    """The type for a model whose processor's file names none."""
    if config is None:
        described = _config_beside(source)
    else:
        described = {name: getattr(config, name, None) for name in ("image_processor_type", "model_type")}
    if type_name := named_type(described):
        return type_name
    model_type = described.get("model_type")
    if model_type not in MODEL_TYPES:
        raise ValueError(
            f"{source.name}: {PROCESSOR_NAME} names no {TYPE_KEYS[0]}, and the model type is {shown(model_type)}; "
            "load it with ViTImageProcessor.from_pretrained if it suits the model."
        )
    return MODEL_TYPES[model_type]


def _config_beside(source: ModelSource) -> Mapping[str, Any]:
    file = source.file(CONFIG_NAME)
    try:
        return read_json_file(file) if file else {}
    except ValueError:
        if source.weights:  # a config.json that lies beside a file need not be about it
            return {}
        raise
