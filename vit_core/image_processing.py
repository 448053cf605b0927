"""Image processors: from images to what a Vision Transformer takes, bit for bit as transformers 4.47 does it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from PIL import Image

from vit_core.base_image_processor import TYPE_KEYS, BaseImageProcessor
from vit_core.batch_feature import BatchFeature
from vit_core.file_names import CONFIG_NAME, PROCESSOR_NAME
from vit_core.hub import ModelSource, locate
from vit_core.images import ChannelDimension
from vit_core.json_file import read_json_file

__all__ = [
    "IMAGENET_DEFAULT_MEAN",
    "IMAGENET_DEFAULT_STD",
    "IMAGENET_STANDARD_MEAN",
    "IMAGENET_STANDARD_STD",
    "AutoImageProcessor",
    "BatchFeature",
    "ChannelDimension",
    "DeiTImageProcessor",
    "ViTFeatureExtractor",
    "ViTImageProcessor",
]

#: Maps 0..1 to -1..1, as the ViT paper's models were trained.
IMAGENET_STANDARD_MEAN = [0.5, 0.5, 0.5]
IMAGENET_STANDARD_STD = [0.5, 0.5, 0.5]
#: Mean and standard deviation of ImageNet's training images: red, green, blue, as fractions of white.
IMAGENET_DEFAULT_MEAN = [0.485, 0.456, 0.406]
IMAGENET_DEFAULT_STD = [0.229, 0.224, 0.225]


class ViTImageProcessor(BaseImageProcessor):
    """Resizes images, scales their values and normalises them.

    Results are those of transformers 4.47's class of this name, bit for bit.

    Args:
        do_resize: whether to resize.
        size: {"height": pixels, "width": pixels}, one number for a square, or {"shortest_edge": pixels}, which
            keeps the proportions; 224 x 224 unless given.
        resample: PIL's filter for resizing, or its number.
        do_rescale: whether to multiply the values, which are 0 to 255, by `rescale_factor`.
        rescale_factor: any finite number.
        do_normalize: whether to subtract `image_mean` and divide by `image_std`.
        image_mean: one value for each channel, in the scale after rescaling, or one for all. A list also says how many
            channels pictures get: 1 makes them gray, 3 makes them RGB. `IMAGENET_STANDARD_MEAN` unless given.
        image_std: likewise, above 0; `IMAGENET_STANDARD_STD` unless given.
        do_convert_rgb: convert pictures to RGB as PIL does. Without it they become RGB too, but 16-bit gray is scaled
            to 8 bits and not clipped.
        **kwargs: other keys of a settings file; kept and written back.

    Raises:
        TypeError: a setting is of a wrong type.
        ValueError: a setting is impossible, or two contradict each other.
    """

    do_convert_rgb: bool | None

    _type_name = "ViTImageProcessor"
    _setting_names = (
        "do_resize",
        "size",
        "resample",
        "do_rescale",
        "rescale_factor",
        "do_normalize",
        "image_mean",
        "image_std",
        "do_convert_rgb",
    )

    def __init__(
        self,
        do_resize: bool | None = True,
        size: Mapping[str, int] | int | None = None,
        resample: Image.Resampling | int = Image.Resampling.BILINEAR,
        do_rescale: bool | None = True,
        rescale_factor: float = 1 / 255,
        do_normalize: bool | None = True,
        image_mean: float | list[float] | None = None,
        image_std: float | list[float] | None = None,
        do_convert_rgb: bool | None = None,
        **kwargs: Any,
    ) -> None:
        settings = {
            "do_resize": do_resize,
            "size": 224 if size is None else size,
            "resample": resample,
            "do_rescale": do_rescale,
            "rescale_factor": rescale_factor,
            "do_normalize": do_normalize,
            "image_mean": IMAGENET_STANDARD_MEAN if image_mean is None else image_mean,
            "image_std": IMAGENET_STANDARD_STD if image_std is None else image_std,
            "do_convert_rgb": do_convert_rgb,
        }
        super().__init__(settings, kwargs)

    def preprocess(
        self,
        images: Any,
        do_resize: bool | None = None,
        size: Mapping[str, int] | int | None = None,
        resample: Image.Resampling | int | None = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        do_normalize: bool | None = None,
        image_mean: float | list[float] | None = None,
        image_std: float | list[float] | None = None,
        return_tensors: str | None = None,
        data_format: str = ChannelDimension.FIRST,
        input_data_format: str | None = None,
        do_convert_rgb: bool | None = None,
        **unknown: Any,
    ) -> BatchFeature:
        """Make a model's input of images. What is None here is as the processor's settings say.

        Args:
            images: a PIL image, a path, the bytes of an image file, an array or tensor of any framework, a list of
                those, or a 4-D array of several. Arrays are (height, width), (height, width, channels) or (channels,
                height, width), with values from 0 to 255, or fractions from 0 to 1 together with `do_rescale=False`.
            do_resize: see the class.
            size: see the class.
            resample: see the class.
            do_rescale: see the class.
            rescale_factor: see the class.
            do_normalize: see the class.
            image_mean: see the class.
            image_std: see the class.
            return_tensors: "np", "pt", "tf" or "jax" for one array or tensor of that framework; None for a list of
                NumPy arrays.
            data_format: where the result has its channels, "channels_first" or "channels_last".
            input_data_format: where 3-D arrays have theirs; worked out from each shape unless given.
            do_convert_rgb: see the class.
            **unknown: ignored with a warning.

        Returns:
            A batch with `pixel_values`: float32, or uint8 if values are neither rescaled nor normalised.

        Raises:
            ImportError: the framework of `return_tensors` is not installed.
            OSError: an image file is missing, empty, cut short or no image.
            TypeError: something is no image, or an option is of a wrong type.
            ValueError: an image or an option is impossible, or images do not come out in one size as one tensor must.
        """
        choices = {
            "do_resize": do_resize,
            "size": size,
            "resample": resample,
            "do_rescale": do_rescale,
            "rescale_factor": rescale_factor,
            "do_normalize": do_normalize,
            "image_mean": image_mean,
            "image_std": image_std,
            "do_convert_rgb": do_convert_rgb,
        }
        return self._run(images, choices, return_tensors, data_format, input_data_format, unknown)


class DeiTImageProcessor(BaseImageProcessor):
    """Resizes images, crops their middle, scales their values and normalises them.

    Results are those of transformers 4.47's class of this name, bit for bit.

    Args:
        do_resize: whether to resize.
        size: as in `ViTImageProcessor`; 256 x 256 unless given.
        resample: PIL's filter for resizing, or its number.
        do_center_crop: whether to crop.
        crop_size: {"height": pixels, "width": pixels} or one number for a square; 224 x 224 unless given. A smaller
            image gets a black border.
        rescale_factor: as in `ViTImageProcessor`.
        do_rescale: likewise.
        do_normalize: likewise.
        image_mean: likewise. The default is that of transformers; published DeiT checkpoints have
            `IMAGENET_DEFAULT_MEAN` and `IMAGENET_DEFAULT_STD` in their files.
        image_std: likewise.
        **kwargs: other keys of a settings file; kept and written back.

    Raises:
        TypeError: a setting is of a wrong type.
        ValueError: a setting is impossible, or two contradict each other.
    """

    do_center_crop: bool | None
    crop_size: dict[str, int]

    _type_name = "DeiTImageProcessor"
    _setting_names = (
        "do_resize",
        "size",
        "resample",
        "do_center_crop",
        "crop_size",
        "do_rescale",
        "rescale_factor",
        "do_normalize",
        "image_mean",
        "image_std",
    )

    def __init__(
        self,
        do_resize: bool | None = True,
        size: Mapping[str, int] | int | None = None,
        resample: Image.Resampling | int = Image.Resampling.BICUBIC,
        do_center_crop: bool | None = True,
        crop_size: Mapping[str, int] | int | None = None,
        rescale_factor: float = 1 / 255,
        do_rescale: bool | None = True,
        do_normalize: bool | None = True,
        image_mean: float | list[float] | None = None,
        image_std: float | list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        settings = {
            "do_resize": do_resize,
            "size": 256 if size is None else size,
            "resample": resample,
            "do_center_crop": do_center_crop,
            "crop_size": 224 if crop_size is None else crop_size,
            "do_rescale": do_rescale,
            "rescale_factor": rescale_factor,
            "do_normalize": do_normalize,
            "image_mean": IMAGENET_STANDARD_MEAN if image_mean is None else image_mean,
            "image_std": IMAGENET_STANDARD_STD if image_std is None else image_std,
        }
        super().__init__(settings, kwargs)

    def preprocess(
        self,
        images: Any,
        do_resize: bool | None = None,
        size: Mapping[str, int] | int | None = None,
        resample: Image.Resampling | int | None = None,
        do_center_crop: bool | None = None,
        crop_size: Mapping[str, int] | int | None = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        do_normalize: bool | None = None,
        image_mean: float | list[float] | None = None,
        image_std: float | list[float] | None = None,
        return_tensors: str | None = None,
        data_format: str = ChannelDimension.FIRST,
        input_data_format: str | None = None,
        **unknown: Any,
    ) -> BatchFeature:
        """Make a model's input of images. What is None here is as the processor's settings say.

        Args:
            images: as in `ViTImageProcessor.preprocess`.
            do_resize: see the class.
            size: see the class.
            resample: see the class.
            do_center_crop: see the class.
            crop_size: see the class.
            do_rescale: see the class.
            rescale_factor: see the class.
            do_normalize: see the class.
            image_mean: see the class.
            image_std: see the class.
            return_tensors: as in `ViTImageProcessor.preprocess`.
            data_format: likewise.
            input_data_format: likewise.
            **unknown: ignored with a warning.

        Returns:
            As `ViTImageProcessor.preprocess`.

        Raises:
            ImportError: as in `ViTImageProcessor.preprocess`.
            OSError: likewise.
            TypeError: likewise.
            ValueError: likewise.
        """
        choices = {
            "do_resize": do_resize,
            "size": size,
            "resample": resample,
            "do_center_crop": do_center_crop,
            "crop_size": crop_size,
            "do_rescale": do_rescale,
            "rescale_factor": rescale_factor,
            "do_normalize": do_normalize,
            "image_mean": image_mean,
            "image_std": image_std,
        }
        return self._run(images, choices, return_tensors, data_format, input_data_format, unknown)


class ViTFeatureExtractor(ViTImageProcessor):
    """The old name of `ViTImageProcessor`; warns, and is saved under the new name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn("ViTFeatureExtractor is deprecated; use ViTImageProcessor.", FutureWarning, stacklevel=2)
        super().__init__(*args, **kwargs)


class AutoImageProcessor:
    """Finds out which image processor a checkpoint has; see `from_pretrained`."""

    def __init__(self) -> None:
        raise TypeError("AutoImageProcessor is not made directly; call AutoImageProcessor.from_pretrained(model).")

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
    ) -> ViTImageProcessor | DeiTImageProcessor:
        """The processor of a checkpoint, of the type that its `preprocessor_config.json` names.

        A file that names none is for the `model_type` of the `config.json` beside it.

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
            The processor. The settings of a type that ends in "Fast" are those of the type without.

        Raises:
            OSError: the file is not there or cannot be downloaded.
            TypeError: an override is no setting.
            ValueError: the file is no JSON object, the type is unknown, or a setting is impossible.
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
        settings = cls._settings(source)
        return _processor_class(settings, source).from_dict(settings, **overrides)

    @staticmethod
    def _settings(source: ModelSource) -> dict[str, Any]:
        return read_json_file(source.require(PROCESSOR_NAME))


#: The processor for each type that a file can name, and for the model types of checkpoints whose file names none.
PROCESSORS: dict[str, type[ViTImageProcessor] | type[DeiTImageProcessor]] = {
    "ViTImageProcessor": ViTImageProcessor,
    "ViTFeatureExtractor": ViTImageProcessor,
    "DeiTImageProcessor": DeiTImageProcessor,
    "DeiTFeatureExtractor": DeiTImageProcessor,
}
MODEL_TYPES: dict[str, type[ViTImageProcessor] | type[DeiTImageProcessor]] = {
    "vit": ViTImageProcessor,
    "vit_mae": ViTImageProcessor,
    "vit_msn": ViTImageProcessor,
    "deit": DeiTImageProcessor,
}


def _processor_class(
    settings: Mapping[str, Any], source: ModelSource
) -> type[ViTImageProcessor] | type[DeiTImageProcessor]:
    type_name = next((settings[key] for key in TYPE_KEYS if settings.get(key)), None)
    if type_name is None:
        config = source.file(CONFIG_NAME)
        model_type = read_json_file(config).get("model_type") if config else None
        if model_type in MODEL_TYPES:
            return MODEL_TYPES[model_type]
        raise ValueError(
            f"{source.name}: {PROCESSOR_NAME} names no {TYPE_KEYS[0]}, and the model type is {model_type!r}; "
            "load it with ViTImageProcessor.from_pretrained if it suits the model."
        )
    processor = PROCESSORS.get(str(type_name).removesuffix("Fast"))
    if processor is None:
        raise ValueError(
            f"{source.name}: {PROCESSOR_NAME} names the type {type_name!r}; known types are {', '.join(PROCESSORS)}."
        )
    return processor
