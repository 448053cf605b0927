"""Image processors: from images to what a Vision Transformer takes, bit for bit as transformers 4.47 does it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

from PIL import Image

from vit_core.base_image_processor import BaseImageProcessor
from vit_core.batch_feature import BatchFeature
from vit_core.images import ChannelDimension

__all__ = [
    "IMAGENET_DEFAULT_MEAN",
    "IMAGENET_DEFAULT_STD",
    "IMAGENET_STANDARD_MEAN",
    "IMAGENET_STANDARD_STD",
    "BatchFeature",
    "BeitFeatureExtractor",
    "BeitImageProcessor",
    "BitImageProcessor",
    "CLIPImageProcessor",
    "ChannelDimension",
    "DINOv3ViTImageProcessorFast",
    "DeiTFeatureExtractor",
    "DeiTImageProcessor",
    "SiglipImageProcessor",
    "ViTFeatureExtractor",
    "ViTImageProcessor",
]

#: Maps 0..1 to -1..1, as the ViT paper's models were trained.
IMAGENET_STANDARD_MEAN = [0.5, 0.5, 0.5]
IMAGENET_STANDARD_STD = [0.5, 0.5, 0.5]
#: Mean and standard deviation of ImageNet's training images: red, green, blue, as fractions of white.
IMAGENET_DEFAULT_MEAN = [0.485, 0.456, 0.406]
IMAGENET_DEFAULT_STD = [0.229, 0.224, 0.225]
#: Those of the images that CLIP was trained with.
OPENAI_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
OPENAI_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


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
        draft: decode JPEG files at a reduced scale, of at least one and a half times the height and width that they are
            resized to. That is several times as fast with photos of many megapixels, and pixels differ by less than two
            levels of 255 on average. It is a caller's choice and not a checkpoint's: no file sets it, and none gets it.
        **kwargs: other keys of a settings file; kept and written back.

    Raises:
        TypeError: a setting is of a wrong type.
        ValueError: a setting is impossible, or two contradict each other.
    """

    do_convert_rgb: bool | None

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
        "draft",
    )
    _defaults: ClassVar[dict[str, Any]] = {
        "size": 224,
        "image_mean": IMAGENET_STANDARD_MEAN,
        "image_std": IMAGENET_STANDARD_STD,
    }

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
        *,
        draft: bool | None = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(locals(), kwargs)

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
        *,
        draft: bool | None = None,
        **unknown: Any,
    ) -> BatchFeature:
        """Make a model's input of images. What is None here is as the processor's settings say.

        Args:
            images: a PIL image, a path, the bytes of an image file, an open file, a row {"bytes", "path"} of a dataset,
                an array or tensor of any framework, a list of those, or a 4-D array of several. Arrays are (height,
                width), (height, width, channels) or (channels, height, width), with values from 0 to 255, or fractions
                from 0 to 1 together with `do_rescale=False`.
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
            draft: see the class.
            **unknown: ignored with a warning.

        Returns:
            A batch with `pixel_values`: float32, or uint8 if values are neither rescaled nor normalised.

        Raises:
            ImportError: the framework of `return_tensors` is not installed.
            OSError: an image file is missing, empty, cut short or no image.
            TypeError: something is no image, or an option is of a wrong type.
            ValueError: an image or an option is impossible, or images do not come out in one size as one tensor must.
        """
        return self._run(images, locals(), return_tensors, data_format, input_data_format, unknown)


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
        draft: likewise.
        **kwargs: other keys of a settings file; kept and written back.

    Raises:
        TypeError: a setting is of a wrong type.
        ValueError: a setting is impossible, or two contradict each other.
    """

    do_center_crop: bool | None
    crop_size: dict[str, int]

    _default_filter = Image.Resampling.BICUBIC
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
        "draft",
    )
    _defaults: ClassVar[dict[str, Any]] = {**ViTImageProcessor._defaults, "size": 256, "crop_size": 224}

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
        *,
        draft: bool | None = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(locals(), kwargs)

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
        *,
        draft: bool | None = None,
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
            draft: see the class.
            **unknown: ignored with a warning.

        Returns:
            As `ViTImageProcessor.preprocess`.

        Raises:
            ImportError: as in `ViTImageProcessor.preprocess`.
            OSError: likewise.
            TypeError: likewise.
            ValueError: likewise.
        """
        return self._run(images, locals(), return_tensors, data_format, input_data_format, unknown)


class BeitImageProcessor(DeiTImageProcessor):
    """The steps of `DeiTImageProcessor`, and a setting about segmentation maps, of which Trivit prepares none.

    Results are those of transformers 4.47's class of this name, bit for bit.

    Args:
        *settings: as in `DeiTImageProcessor`.
        do_reduce_labels: whether the labels of segmentation maps count from 1; kept and written back.
        **kwargs: as in `DeiTImageProcessor`; files of old call `do_reduce_labels` `reduce_labels`.

    Raises:
        TypeError: as in `DeiTImageProcessor`.
        ValueError: likewise.
    """

    def __init__(self, *settings: Any, do_reduce_labels: bool | None = None, **kwargs: Any) -> None:
        reduces = kwargs.pop("reduce_labels", None) if do_reduce_labels is None else do_reduce_labels
        super().__init__(*settings, do_reduce_labels=bool(reduces), **kwargs)

    def __call__(self, images: Any, segmentation_maps: None = None, **choices: Any) -> BatchFeature:
        """Make a model's input of images; see `DeiTImageProcessor.preprocess`.

        Raises:
            ValueError: there are segmentation maps; or as in `DeiTImageProcessor.preprocess`.
        """
        if segmentation_maps is not None:
            raise ValueError("segmentation_maps are not prepared here, since Trivit has no model for segmentation.")
        return super().__call__(images, **choices)


class CLIPImageProcessor(BaseImageProcessor):
    """Resizes the shorter edge of images, crops their middle, scales their values and normalises them.

    Results are those of transformers 4.47's class of this name, bit for bit.

    Args:
        do_resize: whether to resize.
        size: as in `ViTImageProcessor`; {"shortest_edge": 224} unless given.
        resample: PIL's filter for resizing, or its number.
        do_center_crop: whether to crop.
        crop_size: as in `DeiTImageProcessor`; 224 x 224 unless given.
        do_rescale: as in `ViTImageProcessor`.
        rescale_factor: likewise.
        do_normalize: likewise.
        image_mean: likewise; `OPENAI_CLIP_MEAN` unless given.
        image_std: likewise; `OPENAI_CLIP_STD` unless given.
        do_convert_rgb: likewise.
        draft: likewise.
        **kwargs: other keys of a settings file; kept and written back.

    Raises:
        TypeError: a setting is of a wrong type.
        ValueError: a setting is impossible, or two contradict each other.
    """

    do_center_crop: bool | None
    crop_size: dict[str, int]
    do_convert_rgb: bool | None

    _default_filter = Image.Resampling.BICUBIC
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
        "do_convert_rgb",
        "draft",
    )
    _defaults: ClassVar[dict[str, Any]] = {
        "size": {"shortest_edge": 224},
        "crop_size": 224,
        "image_mean": OPENAI_CLIP_MEAN,
        "image_std": OPENAI_CLIP_STD,
    }

    def __init__(
        self,
        do_resize: bool | None = True,
        size: Mapping[str, int] | int | None = None,
        resample: Image.Resampling | int = Image.Resampling.BICUBIC,
        do_center_crop: bool | None = True,
        crop_size: Mapping[str, int] | int | None = None,
        do_rescale: bool | None = True,
        rescale_factor: float = 1 / 255,
        do_normalize: bool | None = True,
        image_mean: float | list[float] | None = None,
        image_std: float | list[float] | None = None,
        do_convert_rgb: bool | None = True,
        *,
        draft: bool | None = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(locals(), kwargs)

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
        do_convert_rgb: bool | None = None,
        return_tensors: str | None = None,
        data_format: str = ChannelDimension.FIRST,
        input_data_format: str | None = None,
        *,
        draft: bool | None = None,
        **unknown: Any,
    ) -> BatchFeature:
        """Make a model's input of images; see `DeiTImageProcessor.preprocess`, and the class for its settings."""
        return self._run(images, locals(), return_tensors, data_format, input_data_format, unknown)


class BitImageProcessor(CLIPImageProcessor):
    """`CLIPImageProcessor` by the name that DINOv2's files have for it."""


class SiglipImageProcessor(ViTImageProcessor):
    """`ViTImageProcessor` with a bicubic filter unless given; see there.

    Results are those of transformers 4.47's class of this name, bit for bit.
    """

    _default_filter = Image.Resampling.BICUBIC

    def __init__(
        self,
        do_resize: bool | None = True,
        size: Mapping[str, int] | int | None = None,
        resample: Image.Resampling | int = Image.Resampling.BICUBIC,
        *settings: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(do_resize, size, resample, *settings, **kwargs)


class DINOv3ViTImageProcessorFast(ViTImageProcessor):
    """Scales values, resizes images and normalises them, in this order, as transformers' class of this name does.

    So nothing is rounded in between. The settings are those of `ViTImageProcessor`; mean and deviation are ImageNet's
    unless given. With `do_rescale=False` images are resized as 8-bit pixels.
    """

    _rescales_first = True
    _defaults: ClassVar[dict[str, Any]] = {
        **ViTImageProcessor._defaults,
        "image_mean": IMAGENET_DEFAULT_MEAN,
        "image_std": IMAGENET_DEFAULT_STD,
    }


class ViTFeatureExtractor(ViTImageProcessor):
    """The old name of `ViTImageProcessor`; warns, and is saved under the new name."""

    _saved_as = "ViTImageProcessor"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn("ViTFeatureExtractor is deprecated; use ViTImageProcessor.", FutureWarning, stacklevel=2)
        super().__init__(*args, **kwargs)


class DeiTFeatureExtractor(DeiTImageProcessor):
    """The old name of `DeiTImageProcessor`; warns, and is saved under the new name."""

    _saved_as = "DeiTImageProcessor"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn("DeiTFeatureExtractor is deprecated; use DeiTImageProcessor.", FutureWarning, stacklevel=2)
        super().__init__(*args, **kwargs)


class BeitFeatureExtractor(BeitImageProcessor):
    """The old name of `BeitImageProcessor`; warns, and is saved under the new name."""

    _saved_as = "BeitImageProcessor"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn("BeitFeatureExtractor is deprecated; use BeitImageProcessor.", FutureWarning, stacklevel=2)
        super().__init__(*args, **kwargs)
