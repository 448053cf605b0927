"""A model's image processor, whose images fit the model in any case."""

from __future__ import annotations

from typing import Any

from conversion.image_processor import AutoImageProcessor
from conversion.proof.inputs import fit_channels
from vit_cli.terminal import complain
from vit_core import PretrainedConfig, ViTImageProcessor
from vit_core.file_names import PROCESSOR_NAME


def fitting_processor(name: str, revision: str, config: PretrainedConfig) -> Any:
    """The model's image processor, whose images are of the size that the model takes in any case."""
    height, width = config.image_shape
    size = {"height": height, "width": width}
    try:
        processor: Any = AutoImageProcessor.from_pretrained(name, revision=revision)
    except OSError:
        complain(f"{name} has no {PROCESSOR_NAME}, so images are resized to {width} x {height} and scaled to -1..1")
        processor = ViTImageProcessor(size=size)
    fit_channels(processor, config, name)
    is_cropped = getattr(processor, "do_center_crop", False)
    if (processor.crop_size if is_cropped else processor.do_resize and processor.size) != size:
        complain(f"images are resized to {width} x {height}, which the model takes, and not as {PROCESSOR_NAME} says")
        processor.size, processor.do_resize = size, True
        if is_cropped:
            processor.do_center_crop = False
    return processor
