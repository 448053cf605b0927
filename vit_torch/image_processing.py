"""ViTImageProcessorFast: preprocessing on the device where the images are."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vit_core.batch_feature import BatchFeature, check_one_shape
from vit_core.image_batch import ALREADY_SCALED, Process, image_names, process_batch
from vit_core.image_processing import ViTImageProcessor
from vit_core.image_settings import Steps
from vit_core.image_step_methods import has_steps_of_its_own
from vit_core.image_transforms import crop_window, not_8_bit
from vit_core.images import ChannelDimension
from vit_core.pil_resampling import WEIGHT_HALF, WEIGHT_ONE, height_first, resampling_weights
from vit_core.value_table import value_table
from vit_torch.fast_resize import resize as fast_resize

#: Values that are resized at once; as float64, these are 256 MiB.
LARGEST_CHUNK = 2**25


class ViTImageProcessorFast(ViTImageProcessor):
    """The settings of `ViTImageProcessor`, with PyTorch's tensors as results.

    Tensors on an accelerator are processed there, to the same pixels: PIL's resizing becomes two matrix products.
    Everything else is processed on the CPU, where PyTorch resizes bilinearly and bicubically several times as fast as
    PIL: one value in some hundreds is off by one level of 255. Subclasses that replace a step have PIL's pixels there.
    """

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
        return_tensors: str | None = "pt",
        data_format: str = ChannelDimension.FIRST,
        input_data_format: str | None = None,
        do_convert_rgb: bool | None = None,
        device: torch.device | str | int | None = None,
        *,
        draft: bool | None = None,
        **unknown: Any,
    ) -> BatchFeature:
        """Make a model's input of images. What is None here is as the processor's settings say.

        Args:
            images: as in `ViTImageProcessor.preprocess`. Tensors on an accelerator must all be on one.
            do_resize: see `ViTImageProcessor`.
            size: likewise.
            resample: likewise.
            do_rescale: likewise.
            rescale_factor: likewise.
            do_normalize: likewise.
            image_mean: likewise.
            image_std: likewise.
            return_tensors: "pt" for one tensor, None for a list of tensors.
            data_format: where the result has its channels, "channels_first" or "channels_last".
            input_data_format: where 3-D arrays have theirs; worked out from each shape unless given.
            do_convert_rgb: see `ViTImageProcessor`.
            device: where the result goes; to the images' device unless given.
            draft: see `ViTImageProcessor`.
            **unknown: ignored with a warning.

        Returns:
            A batch with `pixel_values`: float32, or uint8 if values are neither rescaled nor normalised.

        Raises:
            OSError: as in `ViTImageProcessor.preprocess`.
            TypeError: likewise.
            ValueError: likewise; or `return_tensors` is for another framework, tensors are on several devices, or
                tensors with an alpha channel should be resized on an accelerator.
        """
        self._warn_of_unknown(unknown)
        if return_tensors not in ("pt", None):
            raise ValueError(
                f'return_tensors is {return_tensors!r}; {type(self).__name__} returns PyTorch tensors ("pt"), '
                "and ViTImageProcessor the others."
            )
        steps = self._steps(locals(), data_format, input_data_format)
        tensors = _accelerator_tensors(images)
        if tensors and device is None:
            device = tensors[0].device
        if tensors and not has_steps_of_its_own(self):
            results: Tensor | list[Tensor] = process_on_device(tensors, steps)
        else:
            arrays = self._process()(images, steps)
            alike = isinstance(arrays, np.ndarray)
            results = torch.from_numpy(arrays) if alike else [torch.from_numpy(array) for array in arrays]
        if return_tensors is None:
            return BatchFeature({"pixel_values": [result.to(device) for result in results]})
        if isinstance(results, list):
            check_one_shape("pixel_values", [tuple(result.shape) for result in results])
            results = torch.stack(results)
        return BatchFeature({"pixel_values": results.to(device)})

    def _process(self) -> Process:
        return super()._process() if has_steps_of_its_own(self) else partial(process_batch, resize=fast_resize)


def process_on_device(images: list[Tensor], steps: Steps) -> list[Tensor]:
    """Take tensors through the steps on the device where they are.

    Args:
        images: tensors of shape (height, width), (channels, height, width) or (height, width, channels), on one device.
        steps: what to do.

    Returns:
        A tensor for each image, on the same device.

    Raises:
        TypeError: an image is of a type that pixels do not have.
        ValueError: an image is impossible, or does not fit the steps.
    """
    groups: dict[tuple[Any, ...], list[tuple[int, Tensor]]] = defaultdict(list)
    scaled = False
    for index, (image, name) in enumerate(zip(images, image_names(len(images)), strict=True)):
        pixels = _channels_first(image, steps, name)
        if pixels.dtype != torch.uint8:
            scaled |= bool(pixels.min() >= 0 and pixels.max() <= 1)
        size, fractions = None, False
        if steps.size is not None:
            size = steps.target_size(pixels.shape[1], pixels.shape[2], name)
            pixels, fractions = _to_8_bit(pixels, name)
        groups[pixels.shape, pixels.dtype, size, fractions].append((index, pixels))
    if scaled and steps.rescale_factor is not None:
        warnings.warn(ALREADY_SCALED, UserWarning, stacklevel=4)
    results: dict[int, Tensor] = {}
    for (shape, _, size, fractions), members in groups.items():
        length = max(1, LARGEST_CHUNK // shape.numel())
        for start in range(0, len(members), length):
            indices, chunk = zip(*members[start : start + length], strict=True)
            batch = _process_alike(torch.stack(chunk), size, fractions, steps)
            results.update(zip(indices, batch, strict=True))
    return [results[index] for index in range(len(images))]


def resize(pixels: Tensor, size: tuple[int, int], resample: Image.Resampling) -> Tensor:
    """Resize images as PIL does, to the same pixels.

    Args:
        pixels: uint8 tensor of shape (..., height, width), on any device.
        size: new (height, width) in pixels.
        resample: PIL's filter.

    Returns:
        uint8 tensor of shape (..., new height, new width).
    """
    # Where there is no float64 (Apple's GPUs), sums are rounded, and now and then a pixel is off by one.
    exact = torch.float32 if pixels.device.type == "mps" else torch.float64
    old_size = (pixels.shape[-2], pixels.shape[-1])
    values = pixels.to(exact)
    for axis in (0, 1) if height_first(old_size, size) else (1, 0):
        if old_size[axis] == size[axis]:
            continue
        weights = torch.from_numpy(resampling_weights(old_size[axis], size[axis], resample)).to(values.device, exact)
        sums = weights @ values if axis == 0 else values @ weights.T
        values = ((sums + WEIGHT_HALF) / WEIGHT_ONE).floor_().clamp_(0, 255)
    return values.to(torch.uint8)


def _accelerator_tensors(images: Any) -> list[Tensor]:
    """The images as a list if they are tensors on an accelerator; otherwise an empty one."""
    if isinstance(images, Tensor) and images.ndim == 4:
        images = list(images)
    elif not isinstance(images, list | tuple):
        images = [images]
    devices = {image.device if isinstance(image, Tensor) else torch.device("cpu") for image in images}
    if devices <= {torch.device("cpu")}:
        return []
    if len(devices) > 1:
        raise ValueError(
            f"the images are on {', '.join(sorted(map(str, devices)))}; move them to one device to make one batch."
        )
    return list(images)


def _channels_first(image: Tensor, steps: Steps, name: str) -> Tensor:
    """A checked image of shape (channels, height, width)."""
    if image.is_complex() or image.is_quantized or image.layout != torch.strided:
        raise TypeError(f"{name} is a tensor of {image.dtype} ({image.layout}); pixels are plain integers or floats.")
    image = image.detach()
    if image.numel() == 0:
        raise ValueError(f"{name} has no pixels: its shape is {tuple(image.shape)}.")
    if image.is_floating_point() and not image.isfinite().all():
        raise ValueError(f"{name} has NaN or infinite values; pixels must be finite numbers.")
    if image.dtype == torch.bfloat16:
        image = image.float()
    elif not image.is_floating_point() and image.dtype != torch.uint8:
        image = image.long()
    axis = steps.reader.channel_axis(tuple(image.shape), name)
    pixels = image[None] if axis is None else image.movedim(axis, 0)
    channels = steps.reader.array_channels(pixels.shape[0], axis, name)
    return pixels.expand(channels, -1, -1)


def _to_8_bit(pixels: Tensor, name: str) -> tuple[Tensor, bool]:
    """As `vit_core.image_transforms.to_8_bit`."""
    if pixels.dtype == torch.uint8:
        return pixels, False
    low, high = pixels.min().item(), pixels.max().item()
    if low >= 0 and high <= 255 and torch.allclose(pixels, pixels.trunc() if pixels.is_floating_point() else pixels):
        return pixels.to(torch.uint8), False
    if low >= 0 and high <= 1:
        return _rescale(pixels, 255).to(torch.uint8), True
    raise not_8_bit(name, low, high)


def _process_alike(batch: Tensor, size: tuple[int, int] | None, fractions: bool, steps: Steps) -> Tensor:
    """Images of one shape and kind, (batch, channels, height, width), through all steps."""
    if size is not None:
        if batch.shape[1] in (2, 4) and steps.resample is not Image.Resampling.NEAREST:
            raise ValueError(
                f"tensors of {batch.shape[1]} channels, of which PIL takes the last for alpha, are resized on the CPU "
                "only; move them there, or resize them yourself and pass do_resize=False."
            )
        batch = resize(batch, size, steps.resample)
    if steps.crop_size is not None:
        batch = _center_crop(batch, steps.crop_size)
    if batch.dtype == torch.uint8:
        table = value_table(batch.shape[1], fractions, steps.rescale_factor, steps.mean, steps.std)
        channel = torch.arange(batch.shape[1], device=batch.device)[:, None, None]
        batch = torch.tensor(table, device=batch.device)[channel, batch.long()]
    else:
        batch = _rescale_and_normalize(batch, steps)
    return batch if steps.data_format is ChannelDimension.FIRST else batch.movedim(1, 3).contiguous()


def _center_crop(batch: Tensor, size: tuple[int, int]) -> Tensor:
    """As `vit_core.image_transforms.center_crop`."""
    from_rows, to_rows = crop_window(batch.shape[2], size[0])
    from_columns, to_columns = crop_window(batch.shape[3], size[1])
    padded = batch.new_zeros(*batch.shape[:2], *size)
    padded[:, :, to_rows, to_columns] = batch[:, :, from_rows, from_columns]
    return padded


def _rescale(pixels: Tensor, factor: float) -> Tensor:
    exact = torch.float32 if pixels.device.type == "mps" else torch.float64
    return (pixels.to(exact) * factor).float()


def _rescale_and_normalize(batch: Tensor, steps: Steps) -> Tensor:
    """As `vit_core.image_transforms.rescale_and_normalize`."""
    if steps.rescale_factor is not None:
        batch = _rescale(batch, steps.rescale_factor)
    if steps.mean is not None:
        batch = batch if batch.is_floating_point() else batch.float()
        mean, std = (torch.tensor(one, dtype=batch.dtype, device=batch.device) for one in (steps.mean, steps.std))
        batch = (batch - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)
    return batch
