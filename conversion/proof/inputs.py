"""What a checkpoint is tried on: an image, random pixels, and what makes its model compute a loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from conversion.image_processor import AutoImageProcessor
from vit_core import PretrainedConfig, ViTImageProcessor
from vit_core.file_names import PROCESSOR_NAME
from vit_core.parameters import Task

RANDOM_IMAGES = 2
MASKED_SHARE = 0.4
#: What a masked autoencoder returns that follows from its noise alone, and has no gradient.
OF_NOISE = ("mask", "ids_restore")


def input_names(image: str | None) -> tuple[str, ...]:
    """What the images of a batch are called, in their order: the image file, then the random pixels."""
    random = tuple(f"random pixels {number}" for number in range(1, RANDOM_IMAGES + 1))
    return random if image is None else (Path(image).name, *random)


def make_inputs(
    config: PretrainedConfig, task: Task, seed: int, picture: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Draw the inputs of a model.

    Args:
        config: the model's.
        task: which model.
        seed: of everything random.
        picture: a preprocessed image, (1, channels, height, width), to stand before the random pixels.

    Returns:
        "pixel_values", (batch, channels, height, width): the picture, then standard normal numbers. With them what the
        model needs for a loss: "labels" of the config's problem type for a classifier, "bool_masked_pos" (batch,
        patches) for masked image modeling, both for BEiT's, whose labels are one for each masked patch; none where the
        model can have no loss. A masked autoencoder gets its "noise", (batch, patches).
    """
    random = np.random.default_rng(seed)
    pixels = random.standard_normal((RANDOM_IMAGES, config.num_channels, *config.image_shape), np.float32)
    if picture is not None:
        pixels = np.concatenate([picture.astype(np.float32), pixels])
    count = len(pixels)
    return {"pixel_values": pixels, **_noise(config, count, random), **_targets(config, task, count, random)}


def make_noise(config: PretrainedConfig, images: int, seed: int) -> dict[str, np.ndarray]:
    """The "noise" that a masked autoencoder needs for a number of images; nothing for other models."""
    return _noise(config, images, np.random.default_rng(seed))


def loss_weights(results: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Random weights for the results of a model that has no loss, so that a sum of them can stand for one.

    Each entry weighs differently: the plain sum of what a LayerNorm returns would have no gradient.
    """
    random = np.random.default_rng([seed, 1])  # other numbers than those of the pixels
    return {name: random.standard_normal(result.shape, np.float32) for name, result in results.items()}


def read_picture(
    image: str, source: str, config: PretrainedConfig, location: Mapping[str, Any]
) -> tuple[np.ndarray, str | None]:
    """Preprocess an image as the checkpoint says.

    Args:
        image: the file.
        source: the checkpoint.
        config: the model's.
        location: options of `vit_core.hub.locate`.

    Returns:
        Array of shape (1, channels, height, width), and a note if that is not quite what the checkpoint or its format
        says: the size is the config's in any case, and where nothing is said values are scaled to -1..1.

    Raises:
        OSError: the image cannot be read.
        ValueError: the preprocessing does not fit the model.
    """
    (height, width), note = config.image_shape, None
    size = {"height": height, "width": width}
    try:
        processor: Any = AutoImageProcessor.from_pretrained(source, **location)
    except OSError:
        processor = ViTImageProcessor(size=size)
        note = f"{source} has no {PROCESSOR_NAME}, so {image} is resized to {width} x {height} and scaled to -1..1."
    fit_channels(processor, config, source)
    pixels = processor([Path(image)], return_tensors="np")["pixel_values"]
    if pixels.shape[2:] != config.image_shape and not getattr(processor, "do_center_crop", False):
        pixels = processor([Path(image)], size=size, return_tensors="np")["pixel_values"]
        note = f"{image} is resized to {width} x {height}, which the model takes, and not as {PROCESSOR_NAME} says."
    wanted = (1, config.num_channels, height, width)
    if pixels.shape != wanted:
        raise ValueError(
            f"{image} comes out of the preprocessing of {source} with shape {pixels.shape}, but the model takes "
            f"{wanted}; leave the image out, or give the size in {PROCESSOR_NAME}."
        )
    return pixels, note


def fit_channels(processor: Any, config: PretrainedConfig, name: str) -> Any:
    """Have the processor make as many channels as the model takes, if its mean and std say how.

    Raises:
        ValueError: they do not; the checkpoint is called by `name`.
    """
    for setting in ("image_mean", "image_std"):
        given = getattr(processor, setting)
        values = given if isinstance(given, list) else [given]
        if values is given and len(values) == config.num_channels:
            continue
        if len(set(values)) != 1:
            raise ValueError(
                f"{name} takes images of {config.num_channels} channel(s), but its {PROCESSOR_NAME} has an "
                f"{setting} for {len(values)}; give one value for each channel there"
            )
        setattr(processor, setting, values[:1] * config.num_channels)
    return processor


def _noise(config: PretrainedConfig, count: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    if not hasattr(config, "mask_ratio"):
        return {}
    return {"noise": random.random((count, math.prod(config.grid)), np.float32)}


def _targets(config: PretrainedConfig, task: Task, count: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    if task == "image-classification" and config.num_labels:
        return {"labels": _labels(config, count, random)}
    if task == "masked-image-modeling" and config.patch_shape == (config.encoder_stride,) * 2:
        return {"bool_masked_pos": _mask(config, count, random)}
    if task == "masked-token-modeling" and config.architecture.mask_token is not False:
        mask = _mask(config, count, random)
        return {"bool_masked_pos": mask, "labels": random.integers(0, config.vocab_size, mask.sum())}
    return {}


def _mask(config: PretrainedConfig, count: int, random: np.random.Generator) -> np.ndarray:
    mask = random.random((count, math.prod(config.grid))) < MASKED_SHARE
    mask[:, 0] = True  # without a masked patch there is no loss
    return mask


def _labels(config: PretrainedConfig, count: int, random: np.random.Generator) -> np.ndarray:
    kind = config.problem_type or config.infer_problem_type(integer_labels=True)
    if kind == "single_label_classification":
        return random.integers(0, config.num_labels, count)
    if kind == "multi_label_classification":
        return random.integers(0, 2, (count, config.num_labels)).astype(np.float32)
    return random.standard_normal((count, config.num_labels), np.float32)
